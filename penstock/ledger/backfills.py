"""Backfills in the ledger, and the model versions that each one pinned."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.ledger.destinations import destination_name
from penstock.ledger.migrations import migrate
from penstock.ledger.pins import read_pins, write_pins
from penstock.ledger.tables import backfills
from penstock.run_types import Pins
from penstock.spec.pipeline import Pipeline
from penstock.spec.steps import ModelRef


@dataclass(frozen=True)
class PinnedBackfill:
    """A backfill and the versions with which all of its intervals are scored."""

    pins: Pins
    continues: datetime | None
    """When the unfinished backfill of the same range began whose pins it takes. None: the pins are its own."""
    challengers: Mapping[str, str | None] = field(default_factory=dict)
    """By the name of a challenger in the spec: its version as `name@version`. None: it was not found."""


def pin_backfill(
    database: Database,
    pipeline: Pipeline,
    flow_run_id: str,
    start: datetime | None,
    end: datetime | None,
    *,
    restate: bool,
    resolve: Callable[[], Pins],
    resolve_challenger: Callable[[ModelRef], str | None] = str,
) -> PinnedBackfill:
    """Return the versions of a backfill. Repeating it for the same flow run returns the same ones.

    A backfill that overlaps an unfinished one continues it, so that one range is not scored with two versions. A
    restate pins versions of its own, and ends unfinished backfills of its range.

    Args:
        start, end: The range; None is open.
        resolve: Looks the versions up. Called only where none are pinned yet.
        resolve_challenger: Looks the version of a challenger up, as `name@version`. None: it is not found. Called for
            each challenger of the spec that is not pinned yet.
    """
    migrate(database)
    with database.writing() as connection:
        mine = sa.select(backfills).where(backfills.c.flow_run_id == flow_run_id)
        row = connection.execute(mine).mappings().first()
        if row is not None:
            return PinnedBackfill(read_pins(row["pins"]), row["continues"], json.loads(row["challengers"] or "{}"))
        place = destination_name(connection, pipeline.destination)
        unfinished = (backfills.c.destination == place, backfills.c.ended_at.is_(None), *_touches(start, end))
        now = database.now(connection)
        if restate:
            connection.execute(sa.update(backfills).where(*unfinished).values(ended_at=now))
            before, pins, continues = None, resolve(), None
        else:
            newest = sa.select(backfills).where(*unfinished).order_by(backfills.c.started_at.desc()).limit(1)
            before = connection.execute(newest).mappings().first()
            pins = read_pins(before["pins"]) if before else resolve()
            continues = (before["continues"] or before["started_at"]) if before else None
        known = json.loads((before and before["challengers"]) or "{}")
        wanted = (each.model for each in pipeline.challengers)
        challengers = {str(ref): known[str(ref)] if str(ref) in known else resolve_challenger(ref) for ref in wanted}
        connection.execute(
            backfills.insert().values(
                flow_run_id=flow_run_id,
                pipeline=pipeline.name,
                destination=place,
                range_start=start,
                range_end=end,
                pins=write_pins(pins),
                challengers=json.dumps(challengers),
                continues=continues,
                started_at=now,
            )
        )
    return PinnedBackfill(pins, continues, challengers)


def end_backfills(database: Database, pipeline: Pipeline, start: datetime | None, end: datetime | None) -> None:
    """End all backfills inside a range that is wholly scored."""
    with database.writing() as connection:
        place = destination_name(connection, pipeline.destination)
        inside = [backfills.c.destination == place, backfills.c.ended_at.is_(None)]
        if start is not None:
            inside.append(backfills.c.range_start >= start)
        if end is not None:
            inside.append(backfills.c.range_end <= end)
        connection.execute(sa.update(backfills).where(*inside).values(ended_at=database.now(connection)))


def _touches(start: datetime | None, end: datetime | None) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for backfills whose range shares a moment with `[start, end)`."""
    touches = []
    if end is not None:
        touches.append(sa.or_(backfills.c.range_start.is_(None), backfills.c.range_start < end))
    if start is not None:
        touches.append(sa.or_(backfills.c.range_end.is_(None), backfills.c.range_end > start))
    return touches
