"""What goes wrong in the plant."""

from typing import Any

import numpy as np
import sqlalchemy as sa

from penstock.database.bulk import bulk_transaction, read
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
from penstock.examples.maintenance.world import draw_world
from penstock.examples.pack import Incident, Size
from penstock.examples.place import Place

REACHED = 2
"""Machines that the other gateway still reaches."""
SHAKEN = 3.0
"""What the wrong lubricant adds to the vibration, in mm/s."""


def rename_model(place: Place, size: Size) -> None:
    _execute(place, sa.text("alter table machines rename column model to machine_type"))


def rename_model_back(place: Place, size: Size) -> None:
    _execute(place, sa.text("alter table machines rename column machine_type to model"))


def cut_gateway(place: Place, size: Size) -> None:
    lost = sa.and_(readings.c.machine_id > REACHED, readings.c.read_at >= size.until - HOUR)
    _execute(place, sa.delete(readings).where(lost))


def deliver_buffer(place: Place, size: Size) -> None:
    world = draw_world(size)
    newest = world.readings.minute >= world.minute_of(size.until - HOUR)
    _append(place, size, newest & (world.readings.machine >= REACHED))


def read_fahrenheit(place: Place, size: Size) -> None:
    _change_newest(place, size, temperature=readings.c.temperature * 9 / 5 + 32)


def read_celsius_again(place: Place, size: Size) -> None:
    _change_newest(place, size, temperature=(readings.c.temperature - 32) * 5 / 9)


def shake(place: Place, size: Size) -> None:
    _change_newest(place, size, vibration=readings.c.vibration + SHAKEN)


def calm(place: Place, size: Size) -> None:
    """The lubricant is changed; what was read was true, and stays."""


def deliver_late(place: Place, size: Size) -> None:
    _append(place, size, is_withheld(draw_world(size), size))


def leave_as_it_is(place: Place, size: Size) -> None:
    """Nothing is to be mended."""


def deliver_outcomes(place: Place, size: Size) -> int:
    """Write what became of the machines since; returns how many outcomes came in."""
    world, plant, written = draw_world(size), place.connect("plant"), 0
    end = world.minute_of(size.until)
    with bulk_transaction(plant) as transaction:
        for table, drawn in ((failed, failed_table(world, size, 0, end)), (lasted, lasted_table(world, size, 0, end))):
            window = table.primary_key.columns.values()[1].name
            known = read(plant, sa.select(table.c.machine_id, table.c[window]))
            new = drawn.join(known, ["machine_id", window], join_type="left anti")
            transaction.append(table, new)
            written += new.num_rows
    return written


def _append(place: Place, size: Size, chosen: Numbers) -> None:
    world = draw_world(size)
    with bulk_transaction(place.connect("plant")) as transaction:
        transaction.append(readings, readings_table(world, spoil(world, size), np.flatnonzero(chosen)))


def _change_newest(place: Place, size: Size, **values: "sa.ColumnElement[Any]") -> None:
    newest = sa.and_(readings.c.read_at >= size.until - HOUR, readings.c.temperature != BROKEN_WIRE)
    _execute(place, sa.update(readings).where(newest).values(**values))


def _execute(place: Place, statement: sa.Executable) -> None:
    with place.connect("plant").writing() as connection:
        connection.execute(statement)


INCIDENTS: tuple[Incident, ...] = (
    Incident(
        "renamed",
        "schema",
        FAILURE,
        "The plant's inventory renames `machines.model` to `machine_type`.",
        rename_model,
        rename_model_back,
        "The inventory keeps the old name as well; else the features query takes the new one.",
        "halted",
        "`model` was text and is gone",
    ),
    Incident(
        "gateway-down",
        "upstream",
        FAILURE,
        f"A gateway is down: in the last hour {REACHED} machines of the hall are heard.",
        cut_gateway,
        deliver_buffer,
        "The gateway is started again, and delivers what it had in its buffer.",
        "halted",
        "table_row_count_to_be_between",
    ),
    Incident(
        "fahrenheit",
        "drift",
        FAILURE,
        "New firmware: since the last hour the sensors send Fahrenheit.",
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
        "The lubricant is changed. What was read stays: the machines did shake.",
        "noted",
        "vibration_1h column_mean_to_be_between",
    ),
    Incident(
        "late",
        "late",
        FAILURE,
        "A machine that had vanished is back, and its gateway delivers the hour that it had held back.",
        deliver_late,
        leave_as_it_is,
        "Nothing: the hour is scored again, with that machine in it.",
        "restated",
    ),
)
