"""Write the plant: machines, repairs and readings in its database, the controllers' events in syslog.

`python -m penstock.examples.maintenance generate --rows 7680 --days 20 --seed 7 --dirty 0.01`
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from penstock import Project
from penstock.examples.database import UTC_TIME, append_rows
from penstock.examples.drawing import Numbers, columns, moments
from penstock.examples.grid import align_down
from penstock.examples.maintenance.outcomes import FORETOLD, LONGEST, fails_soon, hours_left
from penstock.examples.maintenance.world import KINDS, MODELS, Events, World, draw_world
from penstock.examples.pack import Made, Size

FAILURE = "machine-failure"
LIFE = "machine-life"
SCORED = 3
HOUR: timedelta = timedelta(hours=1)
SHIFT: timedelta = timedelta(hours=8)
LOG = Path("logs/plant/controllers.log")
BROKEN_WIRE = -999.0
"""What a sensor with a broken wire sends, according to its data sheet."""

metadata = sa.MetaData()
machines = sa.Table(
    "machines",
    metadata,
    sa.Column("machine_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
)
readings = sa.Table(
    "readings",
    metadata,
    sa.Column("reading_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("machine_id", sa.BigInteger, nullable=False),
    sa.Column("read_at", UTC_TIME, nullable=False, index=True),
    sa.Column("received_at", UTC_TIME, nullable=False),
    sa.Column("temperature", sa.Double, nullable=False),
    sa.Column("vibration", sa.Double, nullable=False),
    sa.Column("pressure", sa.Double, nullable=False),
)
repairs = sa.Table(
    "repairs",
    metadata,
    sa.Column("machine_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("repaired_at", UTC_TIME, primary_key=True),
)
windows = sa.Table(
    "windows",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("begins", UTC_TIME, primary_key=True),
    sa.Column("ends", UTC_TIME, nullable=False),
    sa.Column("day_before", UTC_TIME, nullable=False),
)
failed: sa.Table = sa.Table(
    "failed",
    metadata,
    sa.Column("machine_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hour", UTC_TIME, primary_key=True),
    sa.Column("within_a_day", sa.Boolean, nullable=False),
    sa.Column("known_at", UTC_TIME, nullable=False),
)
lasted: sa.Table = sa.Table(
    "lasted",
    metadata,
    sa.Column("machine_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("shift", UTC_TIME, primary_key=True),
    sa.Column("hours", sa.Double, nullable=False),
    sa.Column("known_at", UTC_TIME, nullable=False),
)


@dataclass(frozen=True)
class Heard:
    """Which machines sent readings in which windows: the rows that are scored."""

    machine: Numbers
    begin: Numbers
    """Minute in which each window begins."""
    end: Numbers


def make_plant(project: Project, size: Size) -> Made:
    """Fill the plant's database and its log, without the readings that a gateway delivers late."""
    world = draw_world(size)
    spoiled = spoil(world, size)
    there = np.flatnonzero(~is_withheld(world, size))
    plant = project.connect("plant")
    metadata.create_all(plant.engine)
    with plant.writing() as connection:
        append_rows(connection, machines, machines_table(world))
        append_rows(connection, repairs, _repairs_table(world, size))
        append_rows(connection, windows, _windows_table(world, size))
        append_rows(connection, readings, readings_table(world, spoiled, there))
        append_rows(connection, failed, failed_table(world, size, 0, world.minute_of(size.until - FORETOLD)))
        append_rows(connection, lasted, lasted_table(world, size, 0, world.minute_of(size.until - LONGEST)))
    lines = _write_log(world, size)
    hours, shifts = scored_windows(world, size, HOUR), scored_windows(world, size, SHIFT)
    failures = int(((world.lives.failure >= 0) & (world.lives.failure < world.minute_of(size.until))).sum())
    summary = {
        "plant: readings": f"of {world.machines} machines, one a minute, in {size.days} days: {len(there):,}",
        "plant: repairs": f"after {failures:,} failures",
        str(LOG.parent): f"{lines:,} lines of syslog",
    }
    to_score = {FAILURE: len(hours.machine), LIFE: len(shifts.machine)}
    return Made(
        summary,
        to_score,
        {FAILURE: _count_spoiled(world, spoiled, hours), LIFE: _count_spoiled(world, spoiled, shifts)},
    )


def spoil(world: World, size: Size) -> Numbers:
    """Choose readings of broken wires, at most one for each scored hour and first hour of a scored shift."""
    rng = np.random.default_rng([size.seed, 1])
    starts = [*_starts(world, size, SHIFT), *_starts(world, size, HOUR)]
    count = max(round(SCORED * world.machines * size.dirty), 2) if size.dirty else 0
    free, minute = ~is_withheld(world, size), world.readings.minute
    hours = [np.flatnonzero(free & (minute >= begin) & (minute < begin + 60)) for begin in starts[::2][:count]]
    return np.array([rng.choice(inside) for inside in hours], np.int64)


def is_withheld(world: World, size: Size) -> Numbers:
    """Mark readings of one machine in the oldest scored hour that its gateway delivers late."""
    begin = _starts(world, size, HOUR)[0]
    inside = (world.readings.minute >= begin) & (world.readings.minute < begin + 60)
    return np.asarray(inside & (world.readings.machine == world.readings.machine[inside].max()))


def machines_table(world: World) -> pa.Table:
    hosts = [host_of(machine) for machine in range(world.machines)]
    models = np.array(MODELS, object)[world.model]
    return columns({"machine_id": np.arange(world.machines) + 1, "host": hosts, "model": models})


def readings_table(world: World, spoiled: Numbers, places: Numbers) -> pa.Table:
    """Return some readings in the order of receipt. One that was sent twice has two numbers."""
    drawn = world.readings
    temperature = drawn.temperature.copy()
    temperature[spoiled] = BROKEN_WIRE
    resent = places[drawn.twice[places]]
    at = np.concatenate([places, resent])
    received = drawn.minute[at] * 60 + drawn.delay[at] + np.repeat([0, 300], [len(places), len(resent)])
    number = np.concatenate([places * 2, resent * 2 + 1])
    order = np.argsort(received, kind="stable")
    at, received, number = at[order], received[order], number[order]
    return columns(
        {
            "reading_id": number + 1,
            "machine_id": drawn.machine[at] + 1,
            "read_at": moments(world.begin, drawn.minute[at] * 60),
            "received_at": moments(world.begin, received),
            "temperature": temperature[at],
            "vibration": drawn.vibration[at],
            "pressure": drawn.pressure[at],
        }
    )


def failed_table(world: World, size: Size, first: int, last: int) -> pa.Table:
    """Return whether each machine failed within a day after each hour that ends in `(first, last]`."""
    heard = _heard(world, size, HOUR, first, last)
    soon = fails_soon(world, heard.machine, heard.end)
    hour = moments(world.begin, heard.begin * 60)
    known = _known_at(world, heard, FORETOLD)
    return columns({"machine_id": heard.machine + 1, "hour": hour, "within_a_day": soon, "known_at": known})


def lasted_table(world: World, size: Size, first: int, last: int) -> pa.Table:
    """Return the hours that each machine lasted after each shift that ends in `(first, last]`."""
    heard = _heard(world, size, SHIFT, first, last)
    left = hours_left(world, heard.machine, heard.end)
    shift = moments(world.begin, heard.begin * 60)
    known = _known_at(world, heard, LONGEST)
    return columns({"machine_id": heard.machine + 1, "shift": shift, "hours": left, "known_at": known})


def _known_at(world: World, heard: Heard, within: timedelta) -> "pa.Array[Any]":
    """Return when the outcomes of windows are known: at the failure, or when the time is over without one."""
    until = hours_left(world, heard.machine, heard.end) * 3600
    waited = np.minimum(until, within.total_seconds())
    return moments(world.begin, (heard.end * 60 + waited).astype(np.int64))


def host_of(machine: int) -> str:
    return f"m{machine + 1:02d}"


def log_lines(begin: datetime, events: Events) -> Iterable[str]:
    """Write events as the controllers do, in syslog with times in ISO 8601."""
    drawn = (events.minute, events.machine, events.kind)
    for minute, machine, kind in zip(*(column.tolist() for column in drawn), strict=True):
        at = (begin + timedelta(minutes=minute)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        yield f"{at} {host_of(machine)} plc[{400 + machine}]: {KINDS[kind]}\n"


def scored_windows(world: World, size: Size, length: timedelta) -> Heard:
    """Return the machines and windows that are scored."""
    starts = _starts(world, size, length)
    step = int(length / timedelta(minutes=1))
    return _heard(world, size, length, starts[0], starts[-1] + step)


def _starts(world: World, size: Size, length: timedelta) -> list[int]:
    """Return the minutes in which the scored windows begin, oldest first."""
    end = align_down(size.until, datetime(2026, 1, 1, tzinfo=UTC), length)
    return [world.minute_of(end - number * length) for number in range(SCORED, 0, -1)]


def _heard(world: World, size: Size, length: timedelta, first: int, last: int) -> Heard:
    step = int(length / timedelta(minutes=1))
    offset = _starts(world, size, length)[0] % step
    number = np.unique(world.readings.machine * 1_000_000 + (world.readings.minute - offset) // step + 1)
    machine, begin = number // 1_000_000, (number % 1_000_000 - 1) * step + offset
    inside = (begin >= first) & (begin + step <= last)
    return Heard(machine[inside], begin[inside], begin[inside] + step)


def _count_spoiled(world: World, spoiled: Numbers, heard: Heard) -> int:
    machine, minute = world.readings.machine[spoiled], world.readings.minute[spoiled]
    hit = (heard.machine[:, None] == machine) & (heard.begin[:, None] <= minute) & (minute < heard.end[:, None])
    return int(hit.any(axis=1).sum())


def _repairs_table(world: World, size: Size) -> pa.Table:
    """Return the repairs. Each life begins with one, and future ones are not known."""
    done = world.lives.begin < world.minute_of(size.until)
    at = moments(world.begin, world.lives.begin[done] * 60)
    return columns({"machine_id": world.lives.machine[done] + 1, "repaired_at": at})


def _windows_table(world: World, size: Size) -> pa.Table:
    tables = []
    for kind, length in (("hour", HOUR), ("shift", SHIFT)):
        step = int(length.total_seconds())
        begins = _starts(world, size, length)[0] * 60 % step + np.arange(0, (size.days + 7) * 86_400, step)
        ends = begins + step
        tables.append(
            columns(
                {
                    "kind": [kind] * len(begins),
                    "begins": moments(world.begin, begins),
                    "ends": moments(world.begin, ends),
                    "day_before": moments(world.begin, begins - 86_400),
                }
            )
        )
    return pa.concat_tables(tables)


def _write_log(world: World, size: Size) -> int:
    """Write the log, rotated at the start of the scored hours."""
    lines = list(log_lines(world.begin, world.events))
    cut = int(np.searchsorted(world.events.minute, _starts(world, size, HOUR)[0]))
    LOG.parent.mkdir(parents=True, exist_ok=True)
    rotated = LOG.with_name(f"{LOG.name}.1")
    rotated.write_text("".join(lines[:cut]), encoding="utf-8")
    then = (size.until - SCORED * HOUR).timestamp()
    os.utime(rotated, (then, then))
    LOG.write_text("".join(lines[cut:]), encoding="utf-8")
    return len(lines)
