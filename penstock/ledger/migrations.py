"""Bring the ledger's tables up to this version, all missing steps in one transaction."""

import sqlite3
import threading
import time
from datetime import UTC, datetime

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.database.dialects.base import BUSY_SECONDS
from penstock.database.driver_errors import translated_errors
from penstock.errors import SettingsError
from penstock.ledger.migration_fills import FILLS
from penstock.ledger.tables import metadata, schema, since

LATEST = 12
_ADVISORY_LOCK = 7_305_821_190_664
_done: set[str] = set()
_lock = threading.Lock()


def migrate(database: Database) -> None:
    """Make the ledger, or bring it up to this version. Later calls of this process return at once.

    A run first calls `known_ledgers.open_ledger`, which refuses to make a ledger in place of a lost one.

    Raises:
        SettingsError: the ledger was written by a newer Penstock, or the database is no warehouse.
    """
    _bring_up(database, make=True)


def make_ledger(database: Database) -> None:
    """Make a ledger in a warehouse that has none, even if this process has seen one there before."""
    with _lock:
        _done.discard(database.url.render_as_string(hide_password=False))
    migrate(database)


def has_ledger(database: Database) -> bool:
    """Whether the warehouse has a ledger, which is brought up to this version. Readers make none.

    Raises:
        SettingsError: the ledger was written by a newer Penstock, or the database is no warehouse.
    """
    return _bring_up(database, make=False)


def _bring_up(database: Database, *, make: bool) -> bool:
    with _lock:
        url = database.url.render_as_string(hide_password=False)
        if url in _done and database.missing_file is None:
            return True
        version = read_version(database)
        if version is None and not make:
            return False
        if version != LATEST:  # a reader of a current ledger takes no lock and needs no right to write
            _migrate(database)
        _done.add(url)
        return True


def read_version(database: Database) -> int | None:
    """Return the ledger's version without a migration. None if there is no ledger.

    Raises:
        SettingsError: the database is no warehouse.
    """
    database.require_warehouse()
    with database.reading() as connection:
        if not sa.inspect(connection).has_table(schema.name):
            return None
        return int(connection.execute(sa.select(sa.func.max(schema.c.version))).scalar() or 0)


def _migrate(database: Database, target: int = LATEST) -> None:
    if database.sql.one_writer:
        _write_ahead(database)
    with database.writing() as connection:
        if (lock := database.sql.lock_transaction(_ADVISORY_LOCK)) is not None:
            connection.execute(lock)
        schema.create(connection, checkfirst=True)
        version = connection.execute(sa.select(sa.func.max(schema.c.version))).scalar() or 0
        if version > LATEST:
            raise SettingsError(
                f"the ledger in `{database.name}` is at version {version}, this Penstock knows {LATEST}",
                "Install the newer Penstock that wrote it.",
            )
        made: set[str] = set()
        for step in range(version + 1, target + 1):
            _apply(connection, step, made)
            connection.execute(schema.insert().values(version=step, applied_at=datetime.now(UTC)))


def _write_ahead(database: Database) -> None:
    """Let readers and the one writer of a SQLite file not wait for each other.

    SQLite does not wait for a writer here, whatever the timeout. So when two processes make a ledger at once, one of
    them waits in this loop.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    with translated_errors(database), database.engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        while True:
            try:
                raw.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.05)


def _apply(connection: sa.Connection, step: int, made: set[str]) -> None:
    """Create the tables and add the columns of one step, then fill them. A new table has its later columns at once.

    `made` holds the names of the tables that this migration has made. They are not inspected, which takes most of the
    time of a new ledger on DuckDB.
    """
    preparer = connection.dialect.identifier_preparer
    for table in metadata.sorted_tables:
        if table is schema:
            continue
        if since(table) == step:
            table.create(connection)
            made.add(table.name)
        elif since(table) < step and table.name not in made:
            later = [c for c in table.columns if since(c) == step]
            there = {c["name"] for c in sa.inspect(connection).get_columns(table.name)} if later else set()
            for column in (c for c in later if c.name not in there):
                kind = column.type.compile(connection.dialect)
                name = preparer.format_column(column)
                connection.exec_driver_sql(f"ALTER TABLE {preparer.format_table(table)} ADD COLUMN {name} {kind}")
    if step in FILLS:
        FILLS[step](connection)
