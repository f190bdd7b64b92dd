"""One target of deliveries: its lease, and how long it has been failing."""

import uuid
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import DeliveryTakenOver, KeyCollision, TargetBusy, TargetMoved
from penstock.ledger.outbox import Outbox
from penstock.ledger.tables import delivered_intervals, delivery_targets


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


def keep_place(database: Database, outbox: Outbox, place: str) -> None:
    """Record where the rows of a target are. It may have got another place while it has no rows.

    Args:
        place: a digest of it.

    Raises:
        TargetMoved: the target has rows at another place.
    """
    _ensure_target(database, outbox)
    if refuse_moved(database, outbox, place) == place:
        return
    with database.writing() as connection:
        connection.execute(sa.update(delivery_targets).where(*outbox.rows_of(delivery_targets)).values(place=place))


def refuse_moved(database: Database, outbox: Outbox, place: str) -> str | None:
    """Return the place that is recorded.

    Raises:
        TargetMoved: the target has rows at another place, or old files with an erased row.
    """
    query = sa.select(delivery_targets.c.place, delivery_targets.c.erased_at)
    has = sa.select(delivered_intervals.c.interval_key).where(*outbox.rows_of(delivered_intervals))
    with database.reading() as connection:
        found = connection.execute(query.where(*outbox.rows_of(delivery_targets))).first()
        if found is None or found.place in (None, place):
            return None if found is None else found.place
        if found.erased_at is not None or connection.execute(has.limit(1)).first() is not None:
            raise TargetMoved(outbox.pipeline, outbox.target)
    return str(found.place)


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
        require_lease(connection, outbox, token, until=now + timedelta(seconds=seconds))


def release_lease(database: Database, outbox: Outbox, token: str) -> None:
    """Give a target back. One that another process has taken stays as it is."""
    mine = (*outbox.rows_of(delivery_targets), delivery_targets.c.lease_token == token)
    with database.writing() as connection:
        connection.execute(sa.update(delivery_targets).where(*mine).values(lease_token=None, lease_until=None))


def require_lease(connection: sa.Connection, outbox: Outbox, token: str, until: datetime | None = None) -> None:
    """Write the target's row, so that other processes wait, and renew the lease if asked.

    A lease that has ended is still this process's, until another one takes the target and writes its own token.
    """
    mine = (*outbox.rows_of(delivery_targets), delivery_targets.c.lease_token == token)
    lasting = delivery_targets.c.lease_until if until is None else until
    if not connection.execute(sa.update(delivery_targets).where(*mine).values(lease_until=lasting)).rowcount:
        raise DeliveryTakenOver(outbox.target)


def read_not_before(database: Database, outbox: Outbox) -> datetime | None:
    """Return the time until which the target is left alone. None: it is over, or there is none."""
    query = sa.select(delivery_targets.c.not_before).where(*outbox.rows_of(delivery_targets))
    with database.reading() as connection:
        until: datetime | None = connection.execute(query).scalar()
        return until if until is not None and until > database.now(connection) else None


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


def read_erased(database: Database, outbox: Outbox) -> datetime | None:
    """Return when a row was erased that files of the target may still have. None: none was."""
    query = sa.select(delivery_targets.c.erased_at).where(*outbox.rows_of(delivery_targets))
    with database.reading() as connection:
        erased_at: datetime | None = connection.execute(query).scalar()
    return erased_at


def clear_erased(database: Database, outbox: Outbox, token: str, erased_at: datetime) -> None:
    """Record that no file has the erased rows. A row that was erased since stays marked.

    Raises:
        DeliveryTakenOver: another process has the target.
    """
    same = (*outbox.rows_of(delivery_targets), delivery_targets.c.erased_at == erased_at)
    with database.writing() as connection:
        require_lease(connection, outbox, token)
        connection.execute(sa.update(delivery_targets).where(*same).values(erased_at=None))
