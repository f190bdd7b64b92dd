"""Let all readers of a Postgres source see one moment: one transaction exports its snapshot, others enter it."""

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import sqlalchemy as sa

from penstock.database.connections import READ_ONLY, Database
from penstock.database.driver_errors import translated_errors
from penstock.errors import PenstockError, QueryFailed, SnapshotLost, StandbyConflict

logger = logging.getLogger(__name__)

_TIMEOUTS = ("idle_in_transaction_session_timeout", "transaction_timeout")
"""Settings that would end the idle exporting transaction. The second is new in Postgres 17."""


@contextmanager
def exported_snapshot(database: Database) -> Iterator[str | None]:
    """Export a snapshot and yield what others enter it with (`Database.snapshot`).

    Yields None if the database has no snapshots, or if a pooler or balancer hides the snapshot of one connection from
    another. Then the log says so, and the reads see different moments.

    Raises:
        DatabaseUnavailable: the database cannot be reached.
        SnapshotLost: it was raised in the block. The reason is added if a standby took the snapshot.
    """
    if database.dialect != "postgresql":
        yield None
        return
    with translated_errors(database):
        connection = database.engine.connect()
    try:
        yield _export(database, connection)
    except SnapshotLost as lost:
        if lost.connection == database.name and _was_in_conflict(database, connection):
            raise SnapshotLost(lost.connection, conflict=True) from lost
        raise
    finally:
        _end(database, connection)


def _export(database: Database, connection: sa.Connection) -> str | None:
    lift = sa.text("select set_config(name, '0', true) from pg_settings where name = any(:names)")
    try:
        with translated_errors(database):
            for statement in READ_ONLY:
                connection.exec_driver_sql(statement)
            connection.execute(lift, {"names": list(_TIMEOUTS)})
            lock = secrets.randbits(63)
            name = connection.execute(sa.select(sa.func.pg_export_snapshot())).scalar_one()
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
            snapshot = f"{name}/{lock}"
            with replace(database, snapshot=snapshot).reading() as other:
                other.execute(sa.select(1))
    except (QueryFailed, SnapshotLost) as error:
        logger.warning("the partitions will be read at different moments: there is no shared snapshot: %s", error)
        connection.rollback()
        return None
    return snapshot


def _was_in_conflict(database: Database, connection: sa.Connection) -> bool:
    """Whether a standby has ended the exporting session."""
    try:
        with translated_errors(database):
            connection.execute(sa.select(1))
    except PenstockError as error:
        return isinstance(error, StandbyConflict)
    return False


def _end(database: Database, connection: sa.Connection) -> None:
    try:
        connection.close()
    except sa.exc.DBAPIError:
        # Readers that still need the snapshot fail by themselves. A run that has read everything need not fail.
        logger.warning("the connection to `%s` with the snapshot was lost", database.name)
