"""What the ledger has about deliveries, for people to read."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.interval import DataInterval
from penstock.ledger.migrations import has_ledger
from penstock.ledger.tables import deliveries, delivery_batches, delivery_targets


@dataclass(frozen=True)
class DeliveryRecord:
    """One delivery of an interval to a target."""

    target: str
    interval: DataInterval | None
    run_id: str | None
    """Whose rows the target gets. None: the rows of the interval are removed there."""
    sequence: int
    state: str
    upserts: int
    deletes: int
    planned_at: datetime
    ended_at: datetime | None
    batches: int
    acknowledged: int
    """Batches that the target has acknowledged."""
    attempts: int
    """Of all batches."""
    missing: int
    """Rows whose keys the target's table does not have."""
    reply: str | None
    """To the newest batch that was sent."""

    @property
    def is_open(self) -> bool:
        """Whether the target has not acknowledged all of it, and no later delivery has taken its place."""
        return self.state in ("planning", "open")


@dataclass(frozen=True)
class FailingTarget:
    """A target that does not have all that is live, because deliveries failed."""

    pipeline: str
    destination: str
    """The table whose rows it gets. One that the pipeline had before is delivered no more."""
    target: str
    since: datetime
    error: str
    announced_at: datetime | None


def list_deliveries(
    database: Database,
    pipeline: str | None = None,
    run_id: str | None = None,
    limit: int | None = None,
    target: str | None = None,
    destination: str | None = None,
) -> list[DeliveryRecord]:
    """Return deliveries, the newest first.

    Args:
        run_id: Only those of the rows of a run.
        target: Only those to a target.
        destination: Only those of a table's rows.
    """
    if not has_ledger(database):
        return []
    query = sa.select(deliveries)
    query = query if pipeline is None else query.where(deliveries.c.pipeline == pipeline)
    query = query if run_id is None else query.where(deliveries.c.run_id == run_id)
    query = query if target is None else query.where(deliveries.c.target == target)
    query = query if destination is None else query.where(deliveries.c.destination == destination)
    newest = (deliveries.c.planned_at.desc(), deliveries.c.sequence.desc())
    with database.reading() as connection:
        found = connection.execute(query.order_by(*newest).limit(limit)).mappings().all()
        return [_record(row, _read_batches(connection, row["delivery_id"])) for row in found]


def list_failing(database: Database, pipeline: str | None = None) -> list[FailingTarget]:
    """Return the targets whose deliveries fail, by name."""
    if not has_ledger(database):
        return []
    names = ("pipeline", "destination", "target", "failing_since", "error", "announced_at")
    columns = [delivery_targets.c[name] for name in names]
    query = sa.select(*columns).where(delivery_targets.c.failing_since.is_not(None))
    query = query if pipeline is None else query.where(delivery_targets.c.pipeline == pipeline)
    with database.reading() as connection:
        found = connection.execute(query.order_by(delivery_targets.c.pipeline, delivery_targets.c.target))
        return [FailingTarget(*row) for row in found]


def _read_batches(connection: sa.Connection, delivery_id: str) -> list[Any]:
    columns = [delivery_batches.c[name] for name in ("state", "attempts", "reply", "missing")]
    query = sa.select(*columns).where(delivery_batches.c.delivery_id == delivery_id)
    return list(connection.execute(query.order_by(delivery_batches.c.batch)).all())


def _record(row: sa.RowMapping, batches: list[Any]) -> DeliveryRecord:
    start, end = row["interval_start"], row["interval_end"]
    replies = [each.reply for each in batches if each.reply is not None]
    same = {name: row[name] for name in ("target", "run_id", "sequence", "state", "upserts", "deletes")}
    return DeliveryRecord(
        interval=None if start is None else DataInterval(start, end, row["timezone"] or "UTC"),
        planned_at=row["planned_at"],
        ended_at=row["ended_at"],
        batches=len(batches),
        acknowledged=sum(each.state == "acknowledged" for each in batches),
        attempts=sum(each.attempts for each in batches),
        missing=sum(each.missing or 0 for each in batches),
        reply=replies[-1] if replies else None,
        **same,
    )
