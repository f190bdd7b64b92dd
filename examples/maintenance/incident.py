"""Incidents in the plant, and outcomes that arrive late."""

from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from penstock import Project
from penstock.examples.database import append_rows
from penstock.examples.drawing import Numbers
from penstock.examples.maintenance.generate import (
    BROKEN_WIRE,
    FAILURE,
    HOUR,
    failed,
    failed_table,
    is_withheld,
    lasted,
    lasted_table,
    readings,
    readings_table,
    spoil,
)
from penstock.examples.maintenance.outcomes import FORETOLD, LONGEST
from penstock.examples.maintenance.world import draw_world
from penstock.examples.pack import Incident, Size

REACHED = 2
"""Number of machines that another gateway still reaches."""
SHAKEN = 3.0
"""Vibration that the wrong lubricant adds, in mm/s."""


def rename_model(project: Project, size: Size) -> None:
    _execute(project, sa.text("alter table machines rename column model to machine_type"))


def rename_model_back(project: Project, size: Size) -> None:
    _execute(project, sa.text("alter table machines rename column machine_type to model"))


def cut_gateway(project: Project, size: Size) -> None:
    lost = sa.and_(readings.c.machine_id > REACHED, readings.c.read_at >= size.until - HOUR)
    _execute(project, sa.delete(readings).where(lost))


def deliver_buffer(project: Project, size: Size) -> None:
    world = draw_world(size)
    newest = world.readings.minute >= world.minute_of(size.until - HOUR)
    _append(project, size, newest & (world.readings.machine >= REACHED))


def read_fahrenheit(project: Project, size: Size) -> None:
    _change_newest(project, size, temperature=readings.c.temperature * 9 / 5 + 32)


def read_celsius_again(project: Project, size: Size) -> None:
    _change_newest(project, size, temperature=(readings.c.temperature - 32) * 5 / 9)


def shake(project: Project, size: Size) -> None:
    _change_newest(project, size, vibration=readings.c.vibration + SHAKEN)


def calm(project: Project, size: Size) -> None:
    """Do nothing: the lubricant is changed, and the readings were true."""


def deliver_late(project: Project, size: Size) -> None:
    _append(project, size, is_withheld(draw_world(size), size))


def leave_as_it_is(project: Project, size: Size) -> None:
    """Do nothing: there is nothing to repair."""


def deliver_outcomes(project: Project, size: Size) -> int:
    """Write the outcomes that have become known since. Return their number."""
    world = draw_world(size)
    end = world.minute_of(size.until)
    drawn = {failed: failed_table(world, size, 0, end), lasted: lasted_table(world, size, 0, end)}
    new = {table: _leave_out_known(project, table, rows) for table, rows in drawn.items()}
    with project.connect("plant").writing() as connection:
        for table, rows in new.items():
            append_rows(connection, table, rows)
    return sum(rows.num_rows for rows in new.values())


def _leave_out_known(project: Project, table: sa.Table, rows: pa.Table) -> pa.Table:
    key = [column.name for column in table.primary_key]
    known = project.query("plant", sa.select(*(table.c[name] for name in key)))
    return rows.join(known, key, join_type="left anti")


def _append(project: Project, size: Size, chosen: Numbers) -> None:
    world = draw_world(size)
    with project.connect("plant").writing() as connection:
        append_rows(connection, readings, readings_table(world, spoil(world, size), np.flatnonzero(chosen)))


def _change_newest(project: Project, size: Size, **values: "sa.ColumnElement[Any]") -> None:
    newest = sa.and_(readings.c.read_at >= size.until - HOUR, readings.c.temperature != BROKEN_WIRE)
    _execute(project, sa.update(readings).where(newest).values(**values))


def _execute(project: Project, statement: sa.Executable) -> None:
    with project.connect("plant").writing() as connection:
        connection.execute(statement)


INCIDENTS: tuple[Incident, ...] = (
    Incident(
        "renamed",
        "schema",
        FAILURE,
        "The plant's inventory renames `machines.model` to `machine_type`.",
        rename_model,
        rename_model_back,
        "The inventory keeps the old name as well, or the features query takes the new one.",
        "halted",
        "`model` was text and is gone",
    ),
    Incident(
        "gateway-down",
        "upstream",
        FAILURE,
        f"A gateway is down: only {REACHED} machines of the hall sent readings in the last hour.",
        cut_gateway,
        deliver_buffer,
        "The gateway is started again, and delivers its buffer.",
        "halted",
        "table_row_count_to_be_between",
    ),
    Incident(
        "fahrenheit",
        "drift",
        FAILURE,
        "New firmware: in the last hour, the sensors send Fahrenheit.",
        read_fahrenheit,
        read_celsius_again,
        "The firmware is set to Celsius, and the hour is converted back.",
        "halted",
        "temperature_1h column_mean_to_be_between",
    ),
    Incident(
        "lubricant",
        "drift",
        FAILURE,
        "The wrong lubricant: the whole hall shakes.",
        shake,
        calm,
        "The lubricant is changed. The readings stay: the machines did shake.",
        "noted",
        "vibration_1h column_mean_to_be_between",
    ),
    Incident(
        "late",
        "late",
        FAILURE,
        "A machine is online again, and its gateway delivers the readings of an hour late.",
        deliver_late,
        leave_as_it_is,
        "Nothing: the hour is scored again, with that machine in it.",
        "restated",
    ),
)
LABELS_AFTER: tuple[timedelta, ...] = (FORETOLD / 2, LONGEST + HOUR)
