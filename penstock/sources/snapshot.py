"""One moment of a Postgres source for all who read it: an open transaction exports its snapshot, others enter it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import sqlalchemy as sa

from penstock.database.connections import READ_ONLY, Database
from penstock.database.driver_errors import translated_errors
from penstock.errors import QueryFailed, SnapshotLost

logger = logging.getLogger(__name__)

_TIMEOUTS = ("idle_in_transaction_session_timeout", "transaction_timeout")
"""What would end a transaction that only holds still; the second came with Postgres 17."""


@contextmanager
def exported_snapshot(database: Database) -> Iterator[str | None]:
    """Hold one moment of a database still; give its name, by which others enter it (`Database.snapshot`).

    None where the database has no such thing, or where what stands between (a pooler, a balancer) hides the snapshot of
    one connection from the next: the log says so, and the reads see different moments.

    Raises:
        DatabaseUnavailable: it cannot be reached.
    """
    if database.dialect != "postgresql":
        yield None
        return
    with translated_errors(database):
        connection = database.engine.connect()
    try:
        yield _export(database, connection)
    finally:
        _end(database, connection)


def _export(database: Database, connection: sa.Connection) -> str | None:
    lift = sa.text("select set_config(name, '0', true) from pg_settings where name = any(:names)")
    try:
        with translated_errors(database):
            for statement in READ_ONLY:
                connection.exec_driver_sql(statement)
            connection.execute(lift, {"names": list(_TIMEOUTS)})
            snapshot = str(connection.execute(sa.select(sa.func.pg_export_snapshot())).scalar_one())
            with replace(database, snapshot=snapshot).reading() as other:
                other.execute(sa.select(1))
    except (QueryFailed, SnapshotLost) as error:
        logger.warning("the partitions will be read at different moments, for there is no shared snapshot: %s", error)
        connection.rollback()
        return None
    return snapshot


def _end(database: Database, connection: sa.Connection) -> None:
    try:
        connection.close()
    except sa.exc.DBAPIError:
        # Whoever still needed the snapshot has failed or will; a run that had read everything need not fail for it.
        logger.warning("the connection to `%s` that held the snapshot was lost", database.name)
