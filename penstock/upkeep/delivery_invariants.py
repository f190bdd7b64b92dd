"""What must hold between deliveries, their batches, the outbox and what targets have."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from penstock.ledger.outbox import OPEN
from penstock.ledger.tables import (
    delivered_intervals,
    delivered_keys,
    deliveries,
    delivery_batches,
    delivery_rows,
    runs,
)

Broken = tuple[str, sa.Table, tuple[str, ...]]
"""An invariant, the table, and what breaks it."""


def find_broken_deliveries(connection: sa.Connection, limit: int) -> Iterator[Broken]:
    """Yield each invariant that does not hold, with the first rows that break it."""
    for invariant, table, query in _queries():
        found = connection.execute(query.limit(limit)).all()
        if found:
            yield invariant, table, tuple(" ".join(map(str, row)) for row in found)


def _queries() -> Iterator[tuple[str, sa.Table, sa.Select[Any]]]:
    ids = sa.select(runs.c.run_id)
    is_open = deliveries.c.state.in_(OPEN)
    for table in (deliveries, delivered_intervals):
        lost = sa.select(table.c.target, table.c.run_id).where(table.c.run_id.is_not(None), table.c.run_id.not_in(ids))
        yield "a delivered interval names a run", table, lost

    earlier = delivery_batches.alias("earlier")
    same = (earlier.c.delivery_id == delivery_batches.c.delivery_id, earlier.c.batch < delivery_batches.c.batch)
    hole = sa.exists().where(*same, earlier.c.state != "acknowledged")
    after = (delivery_batches.c.state.in_(("acknowledged", "sent")), hole)
    named = (delivery_batches.c.delivery_id, delivery_batches.c.batch)
    yield "batches are acknowledged in their order", delivery_batches, sa.select(*named).where(*after)

    mine = delivery_batches.c.delivery_id == deliveries.c.delivery_id
    left = sa.exists().where(mine, delivery_batches.c.state != "acknowledged")
    unfinished = sa.select(deliveries.c.delivery_id).where(deliveries.c.state == "acknowledged", left)
    yield "an acknowledged delivery has all of its batches", deliveries, unfinished

    counted = sa.select(sa.func.coalesce(sa.func.sum(delivery_batches.c.rows), 0)).where(mine).scalar_subquery()
    other = deliveries.c.upserts + deliveries.c.deletes != counted
    cut = sa.select(deliveries.c.delivery_id).where(deliveries.c.state.in_(("open", "acknowledged")), other)
    yield "batches add up to their delivery", deliveries, cut

    place = (deliveries.c.destination, deliveries.c.target, deliveries.c.interval_key)
    twice = sa.select(*place).where(is_open).group_by(*place).having(sa.func.count() > 1)
    yield "an interval has one open delivery to a target", deliveries, twice

    of_open = sa.select(deliveries.c.delivery_id).where(is_open)
    stale = sa.select(delivery_rows.c.delivery_id).where(delivery_rows.c.delivery_id.not_in(of_open)).distinct()
    yield "the outbox has rows of open deliveries only", delivery_rows, stale

    names = ("destination", "target", "interval_key")
    known = sa.exists().where(*(delivered_intervals.c[name] == delivered_keys.c[name] for name in names))
    orphans = sa.select(*(delivered_keys.c[name] for name in names)).where(~known).distinct()
    yield "a delivered key belongs to an interval", delivered_keys, orphans
