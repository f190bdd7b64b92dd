"""What a target has, what it lacks of the live rows, and the batches that are planned for it. Lookups only.

What a target lacks follows from the runs that are live and from what it has acknowledged, so a move of a pointer writes
nothing here and cannot be lost.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.interval import DataInterval
from penstock.ledger.destinations import shown_variant
from penstock.ledger.tables import (
    delivered_intervals,
    delivered_keys,
    deliveries,
    delivery_batches,
    delivery_rows,
    runs,
)

DeliveryState = Literal["planning", "open", "acknowledged", "replaced"]
OPEN: tuple[DeliveryState, ...] = ("planning", "open")
REMOVALS, UPSERTS = "-", "+"
"""What the last key of a batch begins with. Removals come first: a key may be written in another way than before, and
be the same to the receiver."""
WHOLE = "*"
"""The last key of a batch that has all rows of its delivery."""
UNKNOWN = ""
"""The digest of a row that a target may have, in which values is not known."""


@dataclass(frozen=True)
class Outbox:
    """The records of one target, which gets rows of one destination."""

    pipeline: str
    destination: str
    target: str
    ledger: str = ""
    """When the ledger was made, by which it is known: a target that another ledger delivers to is not this one's."""

    def rows_of(self, table: sa.Table) -> tuple[sa.ColumnElement[bool], ...]:
        """Return the condition for the target's rows of a table."""
        return table.c.destination == self.destination, table.c.target == self.target


@dataclass(frozen=True)
class Change:
    """An interval of which a target does not have what is live."""

    interval_key: str
    interval: DataInterval | None
    run_id: str | None
    """The live run. None: there is none, so the target must remove its rows."""


@dataclass(frozen=True)
class Delivery:
    """A planned delivery of one interval."""

    delivery_id: str
    change: Change
    sequence: int
    """Higher than that of every earlier delivery to the target."""
    definition: str
    state: DeliveryState


@dataclass(frozen=True)
class Batch:
    """What is sent at once."""

    delivery: Delivery
    number: int
    """From 0."""
    of: int
    """How many batches the delivery has."""
    last_key: str
    """With its mark: a batch has removals only, or none. `*`: all rows of the delivery."""
    state: str
    attempts: int


@dataclass(frozen=True)
class OutboxRow:
    """One row of a batch."""

    key: str
    """JSON."""
    values: str | None
    """JSON. None: the target must remove the row."""


def find_changes(database: Database, outbox: Outbox, start: datetime | None) -> list[Change]:
    """Return the intervals of which the target does not have the live rows: first those that are gone, then by time.

    Args:
        start: Leave out intervals that begin before, unless the target has rows of them.
    """
    live = _live(outbox)
    has = delivered_intervals
    same = (*outbox.rows_of(has), has.c.interval_key == runs.c.interval_key)
    columns = ("interval_key", "interval_start", "interval_end", "timezone", "run_id")
    lacking = sa.select(*(runs.c[name] for name in columns)).where(
        *live, ~sa.exists().where(*same, has.c.run_id == runs.c.run_id)
    )
    if start is not None:
        lacking = lacking.where(sa.or_(runs.c.interval_start >= start, sa.exists().where(*same)))
    gone = sa.select(*(has.c[name] for name in columns[:-1])).where(
        *outbox.rows_of(has), ~sa.exists().where(*live, runs.c.interval_key == has.c.interval_key)
    )
    with database.reading() as connection:
        removed = connection.execute(gone.order_by(has.c.interval_start)).mappings().all()
        added = connection.execute(lacking.order_by(runs.c.interval_start)).mappings().all()
    return [_change(row, None) for row in removed] + [_change(row, row["run_id"]) for row in added]


def find_change(database: Database, outbox: Outbox, interval_key: str) -> Change | None:
    """Return an interval with its live run, whether the target has its rows or not.

    None: it has no live run, and the target has none of its rows.
    """
    names = ("interval_key", "interval_start", "interval_end", "timezone")
    live = sa.select(*(runs.c[name] for name in (*names, "run_id")))
    has = sa.select(*(delivered_intervals.c[name] for name in names)).where(*outbox.rows_of(delivered_intervals))
    with database.reading() as connection:
        row = connection.execute(live.where(*_live(outbox), runs.c.interval_key == interval_key)).mappings().first()
        if row is not None:
            return _change(row, row["run_id"])
        row = connection.execute(has.where(delivered_intervals.c.interval_key == interval_key)).mappings().first()
    return None if row is None else _change(row, None)


def find_open(database: Database, outbox: Outbox, change: Change) -> Delivery | None:
    """Return the delivery of the interval that is planned and not acknowledged."""
    query = sa.select(deliveries).where(
        *outbox.rows_of(deliveries),
        deliveries.c.interval_key == change.interval_key,
        deliveries.c.state == "open",
    )
    with database.reading() as connection:
        row = connection.execute(query.order_by(deliveries.c.sequence.desc())).mappings().first()
    return None if row is None else read_delivery(row)


def find_tried(database: Database, outbox: Outbox) -> dict[str, datetime]:
    """Return by interval the newest try of its delivery, where that is planned and not acknowledged."""
    sent = sa.select(sa.func.max(delivery_batches.c.sent_at)).where(
        delivery_batches.c.delivery_id == deliveries.c.delivery_id
    )
    query = sa.select(deliveries.c.interval_key, deliveries.c.planned_at, sent.scalar_subquery()).where(
        *outbox.rows_of(deliveries), deliveries.c.state.in_(OPEN)
    )
    with database.reading() as connection:
        return {key: sent_at or planned_at for key, planned_at, sent_at in connection.execute(query)}


def count_rows(database: Database, delivery: Delivery) -> tuple[int, int, int]:
    """Return how many rows a delivery gives to the target, how many it removes there, and how many it did not take."""
    mine = delivery_batches.c.delivery_id == deliveries.c.delivery_id
    missing = sa.select(sa.func.coalesce(sa.func.sum(delivery_batches.c.missing), 0)).where(mine).scalar_subquery()
    columns = (deliveries.c.upserts, deliveries.c.deletes, missing)
    with database.reading() as connection:
        query = sa.select(*columns).where(deliveries.c.delivery_id == delivery.delivery_id)
        upserts, deletes, lacking = connection.execute(query).one()
    return int(upserts), int(deletes), int(lacking)


def list_batches(database: Database, delivery: Delivery) -> list[Batch]:
    """Return the batches of a delivery, in their order."""
    columns = [delivery_batches.c[name] for name in ("batch", "last_key", "state", "attempts")]
    query = sa.select(*columns).where(delivery_batches.c.delivery_id == delivery.delivery_id)
    with database.reading() as connection:
        found = connection.execute(query.order_by(delivery_batches.c.batch)).all()
    return [Batch(delivery, number, len(found), *rest) for number, *rest in found]


def read_rows(database: Database, batch: Batch) -> list[OutboxRow]:
    """Return the rows of the first batch that is not acknowledged, by their keys."""
    query = sa.select(delivery_rows.c.key, delivery_rows.c.row_values).where(*rows_of_batch(batch))
    with database.reading() as connection:
        return [OutboxRow(*row) for row in connection.execute(query.order_by(delivery_rows.c.key))]


def _live(outbox: Outbox) -> tuple[sa.ColumnElement[bool], ...]:
    variant = shown_variant(outbox.destination)
    return runs.c.destination == outbox.destination, runs.c.variant == variant, runs.c.state == "published"


def is_current(connection: sa.Connection, outbox: Outbox, change: Change) -> bool:
    """Whether the run is still the live one of its interval, or the interval still has none."""
    query = sa.select(runs.c.run_id).where(*_live(outbox), runs.c.interval_key == change.interval_key)
    return connection.execute(query).scalar() == change.run_id


def keys_of(
    outbox: Outbox, change: Change, table: sa.FromClause = delivered_keys
) -> tuple[sa.ColumnElement[bool], ...]:
    mine = (table.c.destination == outbox.destination, table.c.target == outbox.target)
    return *mine, table.c.interval_key == change.interval_key


def rows_of_batch(batch: Batch) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the condition for the rows of a batch. Those of the batches before it are gone."""
    return rows_until(batch.delivery, batch.last_key)


def rows_until(delivery: Delivery, last_key: str) -> tuple[sa.ColumnElement[bool], ...]:
    if last_key == WHOLE:
        return (delivery_rows.c.delivery_id == delivery.delivery_id,)
    mark, key = last_key[:1], last_key[1:]
    kind = delivery_rows.c.digest.is_(None) if mark == REMOVALS else delivery_rows.c.digest.is_not(None)
    return delivery_rows.c.delivery_id == delivery.delivery_id, kind, delivery_rows.c.key <= key


def _change(row: sa.RowMapping, run_id: str | None) -> Change:
    start, end = row["interval_start"], row["interval_end"]
    interval = None if start is None else DataInterval(start, end, row["timezone"] or "UTC")
    return Change(row["interval_key"], interval, run_id)


def read_delivery(row: sa.RowMapping) -> Delivery:
    change = _change(row, row["run_id"])
    return Delivery(row["delivery_id"], change, row["sequence"], row["definition"], row["state"])
