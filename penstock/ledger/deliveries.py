"""Plan a delivery, send its batches, record what the target has. Each change is one short transaction.

The caller has the lease of the target (`delivery_targets`).
"""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.interval import DataInterval
from penstock.ledger.delivery_targets import require_lease
from penstock.ledger.outbox import (
    OPEN,
    REMOVALS,
    UNKNOWN,
    UPSERTS,
    WHOLE,
    Batch,
    Change,
    Delivery,
    Outbox,
    is_current,
    keys_of,
    read_delivery,
    rows_of_batch,
    rows_until,
)
from penstock.ledger.tables import (
    delivered_intervals,
    delivered_keys,
    deliveries,
    delivery_batches,
    delivery_rows,
    delivery_targets,
)


def begin_plan(database: Database, outbox: Outbox, token: str, change: Change, definition: str) -> Delivery:
    """Begin a new delivery of an interval. It takes the place of one that is open.

    Raises:
        DeliveryTakenOver: another process has the target.
    """
    with database.writing() as connection:
        now = database.now(connection)
        require_lease(connection, outbox, token)
        replace_open(connection, outbox, change.interval_key, now)
        same = (delivery_targets.c.pipeline == outbox.pipeline, delivery_targets.c.target == outbox.target)
        sequence = connection.execute(sa.select(sa.func.max(delivery_targets.c.sequence)).where(*same)).scalar_one() + 1
        mine = outbox.rows_of(delivery_targets)
        connection.execute(sa.update(delivery_targets).where(*mine).values(sequence=sequence))
        delivery = Delivery(uuid.uuid4().hex, change, sequence, definition, "planning")
        connection.execute(
            deliveries.insert().values(
                delivery_id=delivery.delivery_id,
                pipeline=outbox.pipeline,
                destination=outbox.destination,
                target=outbox.target,
                interval_key=change.interval_key,
                **_times(change.interval),
                run_id=change.run_id,
                sequence=sequence,
                definition=definition,
                state="planning",
                upserts=0,
                deletes=0,
                planned_at=now,
            )
        )
    return delivery


def finish_plan(
    database: Database, outbox: Outbox, token: str, delivery: Delivery, rows: int | None, *, again: bool = False
) -> Delivery | None:
    """Reduce the rows in the outbox to what the target lacks, add what it must remove, and cut batches.

    Batches of removals come first.

    Args:
        rows: Most rows of a batch. None: there is one batch, also if the target has all rows.
        again: Send rows too that the target has.

    Returns:
        The delivery. None: it was replaced meanwhile, because one of its rows was erased.

    Raises:
        DeliveryTakenOver: another process has the target.
    """
    in_outbox, theirs = delivery_rows.c.delivery_id == delivery.delivery_id, keys_of(outbox, delivery.change)
    with database.writing() as connection:
        require_lease(connection, outbox, token)
        if not connection.execute(
            _update(delivery).where(deliveries.c.state == "planning").values(state="open")
        ).rowcount:
            connection.execute(sa.delete(delivery_rows).where(in_outbox))
            return None
        known = delivered_keys.alias("known")
        has = sa.select(known.c.key).where(*keys_of(outbox, delivery.change, known))
        staged = delivery_rows.alias("staged")
        here = sa.exists().where(staged.c.delivery_id == delivery.delivery_id, staged.c.key == delivered_keys.c.key)
        connection.execute(
            delivery_rows.insert().from_select(
                ["delivery_id", "key"],
                sa.select(sa.literal(delivery.delivery_id), delivered_keys.c.key).where(*theirs, ~here),
            )
        )
        if not again:
            same = has.where(known.c.key == delivery_rows.c.key, known.c.digest == delivery_rows.c.digest)
            connection.execute(sa.delete(delivery_rows).where(in_outbox, sa.exists(same)))
        counts = sa.select(sa.func.count(delivery_rows.c.digest), sa.func.count()).where(in_outbox)
        upserts, total = connection.execute(counts).one()
        connection.execute(sa.delete(delivery_batches).where(delivery_batches.c.delivery_id == delivery.delivery_id))
        for number, (last_key, size) in enumerate(_cut(connection, delivery, upserts, total - upserts, rows)):
            planned = {"last_key": last_key, "rows": size, "state": "planned", "attempts": 0}
            connection.execute(
                delivery_batches.insert().values(delivery_id=delivery.delivery_id, batch=number, **planned)
            )
        connection.execute(_update(delivery).values(upserts=upserts, deletes=total - upserts))
    return Delivery(delivery.delivery_id, delivery.change, delivery.sequence, delivery.definition, "open")


def _cut(
    connection: sa.Connection, delivery: Delivery, upserts: int, deletes: int, rows: int | None
) -> list[tuple[str, int]]:
    """Return last key and size of each batch."""
    if rows is None:
        return [(WHOLE, upserts + deletes)]
    removed = delivery_rows.c.digest.is_(None)
    position = sa.func.row_number().over(partition_by=removed, order_by=delivery_rows.c.key).label("position")
    in_outbox = delivery_rows.c.delivery_id == delivery.delivery_id
    numbered = sa.select(delivery_rows.c.key, removed.label("removed"), position).where(in_outbox).subquery()
    of = sa.case((numbered.c.removed, deletes), else_=upserts)
    ends = sa.select(numbered).where(sa.or_(numbered.c.position % rows == 0, numbered.c.position == of))
    removals_first = (sa.case((numbered.c.removed, 0), else_=1), numbered.c.position)
    return [
        (f"{REMOVALS if is_removal else UPSERTS}{key}", end % rows or rows)
        for key, is_removal, end in connection.execute(ends.order_by(*removals_first)).all()
    ]


def mark_sent(database: Database, outbox: Outbox, token: str, batch: Batch, seconds: float) -> bool:
    """Record that a batch is about to be sent, and renew the lease. `False`: something else is live by now.

    Args:
        seconds: how long the lease lasts then.

    Raises:
        DeliveryTakenOver: another process has the target.
    """
    delivery = batch.delivery
    with database.writing() as connection:
        now = database.now(connection)
        require_lease(connection, outbox, token, until=now + timedelta(seconds=seconds))
        state = connection.execute(
            sa.select(deliveries.c.state).where(deliveries.c.delivery_id == delivery.delivery_id)
        ).scalar()
        if state != "open" or not is_current(connection, outbox, delivery.change):
            return False
        sent = {"state": "sent", "attempts": delivery_batches.c.attempts + 1, "sent_at": now}
        waiting = _update_batch(batch).where(delivery_batches.c.state.in_(("planned", "sent")))
        if not connection.execute(waiting.values(**sent)).rowcount:
            return False
        _set_interval(connection, outbox, delivery.change, None)
    return True


def end_outdated(database: Database, outbox: Outbox, token: str) -> None:
    """End the open deliveries of what is not live any more, so that no rows of them are sent later.

    Raises:
        DeliveryTakenOver: another process has the target.
    """
    with database.writing() as connection:
        now = database.now(connection)
        require_lease(connection, outbox, token)
        query = sa.select(deliveries).where(*outbox.rows_of(deliveries), deliveries.c.state.in_(OPEN))
        for row in connection.execute(query).mappings().all():
            change = read_delivery(row).change
            if not is_current(connection, outbox, change):
                replace_open(connection, outbox, change.interval_key, now)
        _drop_left_rows(connection, outbox)


def _drop_left_rows(connection: sa.Connection, outbox: Outbox) -> None:
    """Drop rows that a process put into the outbox after its delivery was replaced, and then died."""
    ended = sa.select(deliveries.c.delivery_id).where(*outbox.rows_of(deliveries), deliveries.c.state.not_in(OPEN))
    connection.execute(sa.delete(delivery_rows).where(delivery_rows.c.delivery_id.in_(ended)))


def record_reply(database: Database, batch: Batch, reply: str) -> None:
    """Record why a batch was not acknowledged."""
    with database.writing() as connection:
        connection.execute(_update_batch(batch).where(delivery_batches.c.state == "sent").values(reply=reply))


def acknowledge(database: Database, batch: Batch, outbox: Outbox, reply: str, missing: int = 0) -> None:
    """Record that the target has a batch. Repeating it changes nothing.

    Args:
        missing: Rows that it did not take, because its table does not have their keys.
    """
    with database.writing() as connection:
        sent = _update_batch(batch).where(delivery_batches.c.state == "sent")
        now = database.now(connection)
        done = {"state": "acknowledged", "reply": reply, "acknowledged_at": now, "last_key": "", "missing": missing}
        if connection.execute(sent.values(**done)).rowcount:
            _apply(connection, outbox, batch.delivery.change, rows_of_batch(batch), delivery_rows.c.digest)


def finish(database: Database, outbox: Outbox, token: str, delivery: Delivery) -> bool:
    """Record that the target has all of a delivery. `False`: it was replaced meanwhile.

    Raises:
        DeliveryTakenOver: another process has the target.
    """
    with database.writing() as connection:
        now = database.now(connection)
        require_lease(connection, outbox, token)
        done = _update(delivery).where(deliveries.c.state == "open").values(state="acknowledged", ended_at=now)
        if not connection.execute(done).rowcount:
            return False
        if delivery.change.run_id is None:
            connection.execute(sa.delete(delivered_intervals).where(*_interval_of(outbox, delivery.change)))
        else:
            _set_interval(connection, outbox, delivery.change, delivery.change.run_id)
    return True


def replace_open(connection: sa.Connection, outbox: Outbox, interval_key: str, now: datetime) -> None:
    """End the open deliveries of an interval. What may have arrived stays known, with unknown values."""
    mine = (*outbox.rows_of(deliveries), deliveries.c.interval_key == interval_key, deliveries.c.state.in_(OPEN))
    for row in connection.execute(sa.select(deliveries).where(*mine)).mappings().all():
        delivery = read_delivery(row)
        in_outbox = delivery_rows.c.delivery_id == delivery.delivery_id
        batches = delivery_batches.c.delivery_id == delivery.delivery_id
        unsure = sa.select(delivery_batches.c.last_key).where(batches, delivery_batches.c.state == "sent")
        for last_key in connection.execute(unsure).scalars().all():
            sent = rows_until(delivery, last_key)
            _apply(connection, outbox, delivery.change, sent, sa.cast(sa.literal(UNKNOWN), sa.Text))
        connection.execute(sa.delete(delivery_rows).where(in_outbox))
        left = sa.update(delivery_batches).where(batches, delivery_batches.c.state != "acknowledged")
        connection.execute(left.values(state="replaced", last_key=""))
        connection.execute(_update(delivery).values(state="replaced", ended_at=now))


def _apply(
    connection: sa.Connection,
    outbox: Outbox,
    change: Change,
    rows: Sequence[sa.ColumnElement[bool]],
    digest: sa.ColumnElement[Any],
) -> None:
    """Move rows of the outbox into what the target has, with these digests. A row without one is gone there."""
    theirs = keys_of(outbox, change)
    keys = sa.select(delivery_rows.c.key).where(*rows)
    same = sa.select(digest).where(*rows, delivery_rows.c.key == delivered_keys.c.key).scalar_subquery()
    connection.execute(sa.delete(delivered_keys).where(*theirs, delivered_keys.c.key.in_(keys.where(digest.is_(None)))))
    kept = keys.where(digest.is_not(None))
    connection.execute(sa.update(delivered_keys).where(*theirs, delivered_keys.c.key.in_(kept)).values(digest=same))
    known = delivered_keys.alias("known")
    has = sa.exists().where(*keys_of(outbox, change, known), known.c.key == delivery_rows.c.key)
    place = (sa.literal(value) for value in (outbox.destination, outbox.target, change.interval_key))
    new = sa.select(*place, delivery_rows.c.key, digest).where(*rows, digest.is_not(None), ~has)
    columns = ["destination", "target", "interval_key", "key", "digest"]
    connection.execute(delivered_keys.insert().from_select(columns, new))
    connection.execute(sa.delete(delivery_rows).where(*rows))


def _set_interval(connection: sa.Connection, outbox: Outbox, change: Change, run_id: str | None) -> None:
    mine = _interval_of(outbox, change)
    if connection.execute(sa.update(delivered_intervals).where(*mine).values(run_id=run_id)).rowcount:
        return
    row: dict[str, Any] = {"interval_key": change.interval_key, "run_id": run_id, "pipeline": outbox.pipeline}
    row |= {"destination": outbox.destination, "target": outbox.target}
    connection.execute(delivered_intervals.insert().values(**row, **_times(change.interval)))


def _interval_of(outbox: Outbox, change: Change) -> tuple[sa.ColumnElement[bool], ...]:
    return *outbox.rows_of(delivered_intervals), delivered_intervals.c.interval_key == change.interval_key


def _update(delivery: Delivery) -> sa.Update:
    return sa.update(deliveries).where(deliveries.c.delivery_id == delivery.delivery_id)


def _update_batch(batch: Batch) -> sa.Update:
    mine = (delivery_batches.c.delivery_id == batch.delivery.delivery_id, delivery_batches.c.batch == batch.number)
    return sa.update(delivery_batches).where(*mine)


def _times(interval: DataInterval | None) -> dict[str, Any]:
    if interval is None:
        return {"interval_start": None, "interval_end": None, "timezone": None}
    return {"interval_start": interval.start, "interval_end": interval.end, "timezone": interval.zone}
