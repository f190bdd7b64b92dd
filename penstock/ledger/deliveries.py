"""The outbox of deliveries: what a target has, what is planned for it, and what it has acknowledged.

What a target still needs follows from the runs that are live and from what it has acknowledged, so a move of a pointer
writes nothing here and cannot be lost. Each change is one short transaction by the process that has the target's lease.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import DeliveryTakenOver, KeyCollision, TargetBusy
from penstock.interval import DataInterval
from penstock.ledger.destinations import shown_variant
from penstock.ledger.tables import (
    delivered_intervals,
    delivered_keys,
    deliveries,
    delivery_batches,
    delivery_rows,
    delivery_targets,
    runs,
)

DeliveryState = Literal["planning", "open", "acknowledged", "replaced"]
OPEN: tuple[DeliveryState, ...] = ("planning", "open")
REMOVALS, UPSERTS = "-", "+"
"""What the last key of a batch begins with. Removals come first: a key may be written in another way than before, and
be the same to the receiver."""
UNKNOWN = ""
"""The digest of a row that a target may have, in which values is not known."""


@dataclass(frozen=True)
class Outbox:
    """The records of one target, which gets rows of one destination."""

    pipeline: str
    destination: str
    target: str

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
    """With its mark: a batch has removals only, or none."""
    state: str
    attempts: int


@dataclass(frozen=True)
class OutboxRow:
    """One row of a batch."""

    key: str
    """JSON."""
    values: str | None
    """JSON. None: the target must remove the row."""


def take_lease(database: Database, outbox: Outbox, seconds: float) -> str:
    """Take a target, so that no other process delivers to it. Return the token of the lease.

    Raises:
        TargetBusy: another process has it.
    """
    token, mine = uuid.uuid4().hex, outbox.rows_of(delivery_targets)
    _ensure_target(database, outbox)
    with database.writing() as connection:
        now = database.now(connection)
        until = delivery_targets.c.lease_until
        free = sa.or_(delivery_targets.c.lease_token.is_(None), until < now)
        taken = {"lease_token": token, "lease_until": now + timedelta(seconds=seconds)}
        changed = connection.execute(sa.update(delivery_targets).where(*mine, free).values(**taken)).rowcount
        if not changed:
            raise TargetBusy(outbox.target, connection.execute(sa.select(until).where(*mine)).scalar())
    return token


def _ensure_target(database: Database, outbox: Outbox) -> None:
    """Make the target's row if it is missing."""
    mine = outbox.rows_of(delivery_targets)
    with database.reading() as connection:
        if connection.execute(sa.select(delivery_targets.c.sequence).where(*mine)).first() is not None:
            return
    new = {"destination": outbox.destination, "target": outbox.target, "pipeline": outbox.pipeline, "sequence": 0}
    try:
        with database.writing() as connection:
            connection.execute(delivery_targets.insert().values(**new))
    except KeyCollision:
        pass  # another process has just made the same row


def lock_target(connection: sa.Connection, outbox: Outbox) -> None:
    """Write the target's row, so that the process that delivers to it waits until this transaction ends."""
    mine = sa.update(delivery_targets).where(*outbox.rows_of(delivery_targets))
    connection.execute(mine.values(sequence=delivery_targets.c.sequence))


def renew_lease(database: Database, outbox: Outbox, token: str, seconds: float) -> None:
    """Keep a target for so many seconds from now on.

    Raises:
        DeliveryTakenOver: another process has it.
    """
    with database.writing() as connection:
        now = database.now(connection)
        _require_lease(connection, outbox, token, until=now + timedelta(seconds=seconds))


def release_lease(database: Database, outbox: Outbox, token: str) -> None:
    """Give a target back. One that another process has taken stays as it is."""
    mine = (*outbox.rows_of(delivery_targets), delivery_targets.c.lease_token == token)
    with database.writing() as connection:
        connection.execute(sa.update(delivery_targets).where(*mine).values(lease_token=None, lease_until=None))


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
    return None if row is None else _delivery(row)


def read_not_before(database: Database, outbox: Outbox) -> datetime | None:
    """Return the time until which the target is left alone. None: it is over, or there is none."""
    query = sa.select(delivery_targets.c.not_before).where(*outbox.rows_of(delivery_targets))
    with database.reading() as connection:
        until: datetime | None = connection.execute(query).scalar()
        return until if until is not None and until > database.now(connection) else None


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


def count_rows(database: Database, delivery: Delivery) -> tuple[int, int]:
    """Return how many rows a delivery gives to the target, and how many it removes there."""
    columns = (deliveries.c.upserts, deliveries.c.deletes)
    with database.reading() as connection:
        query = sa.select(*columns).where(deliveries.c.delivery_id == delivery.delivery_id)
        upserts, deletes = connection.execute(query).one()
    return int(upserts), int(deletes)


def begin_plan(database: Database, outbox: Outbox, token: str, change: Change, definition: str) -> Delivery:
    """Begin a new delivery of an interval. It takes the place of one that is open.

    Raises:
        DeliveryTakenOver: another process has the target.
    """
    with database.writing() as connection:
        now = database.now(connection)
        _require_lease(connection, outbox, token)
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
    database: Database, outbox: Outbox, token: str, delivery: Delivery, rows: int, *, again: bool = False
) -> Delivery | None:
    """Reduce the rows in the outbox to what the target lacks, add what it must remove, and cut batches.

    Batches of removals come first.

    Args:
        rows: Most rows of a batch.
        again: Send rows too that the target has.

    Returns:
        The delivery. None: it was replaced meanwhile, because one of its rows was erased.

    Raises:
        DeliveryTakenOver: another process has the target.
    """
    in_outbox, theirs = delivery_rows.c.delivery_id == delivery.delivery_id, _keys_of(outbox, delivery.change)
    with database.writing() as connection:
        _require_lease(connection, outbox, token)
        if not connection.execute(
            _update(delivery).where(deliveries.c.state == "planning").values(state="open")
        ).rowcount:
            connection.execute(sa.delete(delivery_rows).where(in_outbox))
            return None
        known = delivered_keys.alias("known")
        has = sa.select(known.c.key).where(*_keys_of(outbox, delivery.change, known))
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
        removed = delivery_rows.c.digest.is_(None)
        position = sa.func.row_number().over(partition_by=removed, order_by=delivery_rows.c.key).label("position")
        numbered = sa.select(delivery_rows.c.key, removed.label("removed"), position).where(in_outbox).subquery()
        of = sa.case((numbered.c.removed, total - upserts), else_=upserts)
        ends = sa.select(numbered).where(sa.or_(numbered.c.position % rows == 0, numbered.c.position == of))
        removals_first = (sa.case((numbered.c.removed, 0), else_=1), numbered.c.position)
        for number, (key, is_removal, end) in enumerate(connection.execute(ends.order_by(*removals_first)).all()):
            last_key = f"{REMOVALS if is_removal else UPSERTS}{key}"
            planned = {"last_key": last_key, "rows": end % rows or rows, "state": "planned", "attempts": 0}
            connection.execute(
                delivery_batches.insert().values(delivery_id=delivery.delivery_id, batch=number, **planned)
            )
        connection.execute(_update(delivery).values(upserts=upserts, deletes=total - upserts))
    return Delivery(delivery.delivery_id, delivery.change, delivery.sequence, delivery.definition, "open")


def list_batches(database: Database, delivery: Delivery) -> list[Batch]:
    """Return the batches of a delivery, in their order."""
    columns = [delivery_batches.c[name] for name in ("batch", "last_key", "state", "attempts")]
    query = sa.select(*columns).where(delivery_batches.c.delivery_id == delivery.delivery_id)
    with database.reading() as connection:
        found = connection.execute(query.order_by(delivery_batches.c.batch)).all()
    return [Batch(delivery, number, len(found), *rest) for number, *rest in found]


def read_rows(database: Database, batch: Batch) -> list[OutboxRow]:
    """Return the rows of the first batch that is not acknowledged, by their keys."""
    query = sa.select(delivery_rows.c.key, delivery_rows.c.row_values).where(*_rows_of(batch))
    with database.reading() as connection:
        return [OutboxRow(*row) for row in connection.execute(query.order_by(delivery_rows.c.key))]


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
        _require_lease(connection, outbox, token, until=now + timedelta(seconds=seconds))
        state = connection.execute(
            sa.select(deliveries.c.state).where(deliveries.c.delivery_id == delivery.delivery_id)
        ).scalar()
        if state != "open" or not _is_current(connection, outbox, delivery.change):
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
        _require_lease(connection, outbox, token)
        query = sa.select(deliveries).where(*outbox.rows_of(deliveries), deliveries.c.state.in_(OPEN))
        for row in connection.execute(query).mappings().all():
            change = _delivery(row).change
            if not _is_current(connection, outbox, change):
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


def acknowledge(database: Database, batch: Batch, outbox: Outbox, reply: str) -> None:
    """Record that the target has a batch. Repeating it changes nothing."""
    with database.writing() as connection:
        sent = _update_batch(batch).where(delivery_batches.c.state == "sent")
        now = database.now(connection)
        done = {"state": "acknowledged", "reply": reply, "acknowledged_at": now, "last_key": ""}
        if connection.execute(sent.values(**done)).rowcount:
            _apply(connection, outbox, batch.delivery.change, _rows_of(batch), delivery_rows.c.digest)


def finish(database: Database, outbox: Outbox, token: str, delivery: Delivery) -> bool:
    """Record that the target has all of a delivery. `False`: it was replaced meanwhile.

    Raises:
        DeliveryTakenOver: another process has the target.
    """
    with database.writing() as connection:
        now = database.now(connection)
        _require_lease(connection, outbox, token)
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
        delivery = _delivery(row)
        in_outbox = delivery_rows.c.delivery_id == delivery.delivery_id
        batches = delivery_batches.c.delivery_id == delivery.delivery_id
        unsure = sa.select(delivery_batches.c.last_key).where(batches, delivery_batches.c.state == "sent")
        for last_key in connection.execute(unsure).scalars().all():
            sent = _rows_until(delivery, last_key)
            _apply(connection, outbox, delivery.change, sent, sa.cast(sa.literal(UNKNOWN), sa.Text))
        connection.execute(sa.delete(delivery_rows).where(in_outbox))
        left = sa.update(delivery_batches).where(batches, delivery_batches.c.state != "acknowledged")
        connection.execute(left.values(state="replaced", last_key=""))
        connection.execute(_update(delivery).values(state="replaced", ended_at=now))


def record_failure(database: Database, outbox: Outbox, error: str, wait: float = 0.0) -> None:
    """Begin an episode of failures, or continue it.

    Args:
        wait: Seconds from now that runs leave the target alone.
    """
    _ensure_target(database, outbox)
    columns = delivery_targets.c
    with database.writing() as connection:
        now = database.now(connection)
        since = sa.func.coalesce(columns.failing_since, sa.literal(now, columns.failing_since.type))
        not_before = now + timedelta(seconds=wait) if wait else None
        values = {"failing_since": since, "error": error, "not_before": not_before}
        connection.execute(sa.update(delivery_targets).where(*outbox.rows_of(delivery_targets)).values(**values))


def record_success(database: Database, outbox: Outbox) -> None:
    """End an episode of failures: the target has all that is live. So does one of a table that it had before."""
    ended: dict[str, Any] = dict.fromkeys(("failing_since", "error", "not_before", "announced_at"))
    with database.writing() as connection:
        same = (delivery_targets.c.pipeline == outbox.pipeline, delivery_targets.c.target == outbox.target)
        connection.execute(sa.update(delivery_targets).where(*same).values(**ended))


def mark_announced(database: Database, outbox: Outbox) -> None:
    """Record that people were told of an episode."""
    with database.writing() as connection:
        mine = sa.update(delivery_targets).where(*outbox.rows_of(delivery_targets))
        told = mine.where(delivery_targets.c.failing_since.is_not(None))
        connection.execute(told.values(announced_at=database.now(connection)))


def _apply(
    connection: sa.Connection,
    outbox: Outbox,
    change: Change,
    rows: Sequence[sa.ColumnElement[bool]],
    digest: sa.ColumnElement[Any],
) -> None:
    """Move rows of the outbox into what the target has, with these digests. A row without one is gone there."""
    theirs = _keys_of(outbox, change)
    keys = sa.select(delivery_rows.c.key).where(*rows)
    same = sa.select(digest).where(*rows, delivery_rows.c.key == delivered_keys.c.key).scalar_subquery()
    connection.execute(sa.delete(delivered_keys).where(*theirs, delivered_keys.c.key.in_(keys.where(digest.is_(None)))))
    kept = keys.where(digest.is_not(None))
    connection.execute(sa.update(delivered_keys).where(*theirs, delivered_keys.c.key.in_(kept)).values(digest=same))
    known = delivered_keys.alias("known")
    has = sa.exists().where(*_keys_of(outbox, change, known), known.c.key == delivery_rows.c.key)
    place = (sa.literal(value) for value in (outbox.destination, outbox.target, change.interval_key))
    new = sa.select(*place, delivery_rows.c.key, digest).where(*rows, digest.is_not(None), ~has)
    columns = ["destination", "target", "interval_key", "key", "digest"]
    connection.execute(delivered_keys.insert().from_select(columns, new))
    connection.execute(sa.delete(delivery_rows).where(*rows))


def _require_lease(connection: sa.Connection, outbox: Outbox, token: str, until: datetime | None = None) -> None:
    """Write the target's row, so that other processes wait, and renew the lease if asked.

    A lease that has ended is still this process's, until another one takes the target and writes its own token.
    """
    mine = (*outbox.rows_of(delivery_targets), delivery_targets.c.lease_token == token)
    lasting = delivery_targets.c.lease_until if until is None else until
    if not connection.execute(sa.update(delivery_targets).where(*mine).values(lease_until=lasting)).rowcount:
        raise DeliveryTakenOver(outbox.target)


def _live(outbox: Outbox) -> tuple[sa.ColumnElement[bool], ...]:
    variant = shown_variant(outbox.destination)
    return runs.c.destination == outbox.destination, runs.c.variant == variant, runs.c.state == "published"


def _is_current(connection: sa.Connection, outbox: Outbox, change: Change) -> bool:
    """Whether the run is still the live one of its interval, or the interval still has none."""
    query = sa.select(runs.c.run_id).where(*_live(outbox), runs.c.interval_key == change.interval_key)
    return connection.execute(query).scalar() == change.run_id


def _set_interval(connection: sa.Connection, outbox: Outbox, change: Change, run_id: str | None) -> None:
    mine = _interval_of(outbox, change)
    if connection.execute(sa.update(delivered_intervals).where(*mine).values(run_id=run_id)).rowcount:
        return
    row: dict[str, Any] = {"interval_key": change.interval_key, "run_id": run_id, "pipeline": outbox.pipeline}
    row |= {"destination": outbox.destination, "target": outbox.target}
    connection.execute(delivered_intervals.insert().values(**row, **_times(change.interval)))


def _interval_of(outbox: Outbox, change: Change) -> tuple[sa.ColumnElement[bool], ...]:
    return *outbox.rows_of(delivered_intervals), delivered_intervals.c.interval_key == change.interval_key


def _keys_of(
    outbox: Outbox, change: Change, table: sa.FromClause = delivered_keys
) -> tuple[sa.ColumnElement[bool], ...]:
    mine = (table.c.destination == outbox.destination, table.c.target == outbox.target)
    return *mine, table.c.interval_key == change.interval_key


def _rows_of(batch: Batch) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the condition for the rows of a batch. Those of the batches before it are gone."""
    return _rows_until(batch.delivery, batch.last_key)


def _rows_until(delivery: Delivery, last_key: str) -> tuple[sa.ColumnElement[bool], ...]:
    mark, key = last_key[:1], last_key[1:]
    kind = delivery_rows.c.digest.is_(None) if mark == REMOVALS else delivery_rows.c.digest.is_not(None)
    return delivery_rows.c.delivery_id == delivery.delivery_id, kind, delivery_rows.c.key <= key


def _update(delivery: Delivery) -> sa.Update:
    return sa.update(deliveries).where(deliveries.c.delivery_id == delivery.delivery_id)


def _update_batch(batch: Batch) -> sa.Update:
    mine = (delivery_batches.c.delivery_id == batch.delivery.delivery_id, delivery_batches.c.batch == batch.number)
    return sa.update(delivery_batches).where(*mine)


def _times(interval: DataInterval | None) -> dict[str, Any]:
    if interval is None:
        return {"interval_start": None, "interval_end": None, "timezone": None}
    return {"interval_start": interval.start, "interval_end": interval.end, "timezone": interval.zone}


def _change(row: sa.RowMapping, run_id: str | None) -> Change:
    start, end = row["interval_start"], row["interval_end"]
    interval = None if start is None else DataInterval(start, end, row["timezone"] or "UTC")
    return Change(row["interval_key"], interval, run_id)


def _delivery(row: sa.RowMapping) -> Delivery:
    change = _change(row, row["run_id"])
    return Delivery(row["delivery_id"], change, row["sequence"], row["definition"], row["state"])
