"""Let all readers of a source see one moment: one transaction exports its snapshot, others enter it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.database.driver_errors import translated_errors
from penstock.errors import PenstockError, QueryFailed, SnapshotLost, StandbyConflict

logger = logging.getLogger(__name__)


@contextmanager
def exported_snapshot(database: Database) -> Iterator[str | None]:
    """Export a snapshot and yield what others enter it with (`Database.snapshot`).

    Yields None if the database has no snapshots, or if a pooler or balancer hides the snapshot of one connection from
    another. Then the log says so, and the reads see different moments.

    Raises:
        DatabaseUnavailable: the database cannot be reached.
        SnapshotLost: it was raised in the block. The reason is added if a standby took the snapshot.
    """
    if not database.sql.shares_snapshots:
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
    try:
        with translated_errors(database):
            snapshot = database.sql.export_snapshot(connection)
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
