"""Checks of a warehouse's ledger, none of which leaves a trace in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import sqlalchemy as sa

from penstock.database.connections import BUSY_SECONDS, Database
from penstock.deployments.doctor.finding import Finding, broken, ok, warning
from penstock.errors import AccessDenied, DatabaseUnavailable, QueryFailed
from penstock.interval import iso
from penstock.ledger.migrations import LATEST
from penstock.ledger.reader import fetch_runs, select_runs
from penstock.ledger.tables import metadata, runs, schema

BUSY_PROBE_MS = 3000
LONG_DEAD_SECONDS = 86_400.0


def check_ledger(database: Database, lease_seconds: float) -> Iterator[Finding]:
    """Look whether the ledger can be written, is up to date, and holds runs that nobody works at."""
    name = database.name
    writing = _check_writing(database)
    yield writing
    if writing.state == "broken":
        return
    if database.dialect == "sqlite":
        yield from _check_sqlite(database)
    version = read_version(database)
    if version is None:
        yield ok(name, "no ledger yet: the first run makes it")
    elif version > LATEST:
        told = f"the ledger is at version {version}, and this Penstock knows {LATEST}"
        yield broken(name, told, "Install the newer Penstock that wrote it.")
    elif version < LATEST:
        told = f"{LATEST - version} pending migrations, from version {version} to {LATEST}"
        yield warning(name, told, "The next command applies them: `penstock runs`. Until then no other finds.")
    else:
        yield ok(name, f"the ledger is at version {version}, which is this Penstock's")
        yield from _check_leases(database, lease_seconds)


def read_version(database: Database) -> int | None:
    """Return the ledger's version without bringing it up to date; None where there is none."""
    with database.reading() as connection:
        if not sa.inspect(connection).has_table(schema.name):
            return None
        return int(connection.execute(sa.select(sa.func.max(schema.c.version))).scalar() or 0)


def _check_writing(database: Database) -> Finding:
    """Try all that a run writes by, and roll it back: a new table, and each table of the ledger."""
    try:
        with database.reading() as connection:
            known = set(sa.inspect(connection).get_table_names())
        with _rolled_back(database) as connection:
            # A plain name: Postgres folds no case in it, and two doctors at once do not meet.
            connection.exec_driver_sql(f"CREATE TABLE penstock_doctor_{uuid4().hex[:8]} (x INTEGER)")
            for table in metadata.sorted_tables:
                if table.name in known:
                    connection.execute(sa.delete(table).where(sa.false()))
    except (AccessDenied, QueryFailed) as error:
        return broken(database.name, f"it cannot be written: {error.reason}", "Grant CREATE, INSERT, UPDATE, DELETE.")
    except DatabaseUnavailable as error:
        if "lock" not in error.reason:
            raise
        return warning(database.name, "another writer has held it for seconds", "A run is at it? Look again later.")
    return ok(database.name, "it can be written")


@contextmanager
def _rolled_back(database: Database) -> Iterator[sa.Connection]:
    """Give a connection in one transaction that comes to nothing."""
    with database.reading() as connection:
        if database.dialect == "sqlite":
            connection.connection.driver_connection.execute(f"PRAGMA busy_timeout={BUSY_PROBE_MS}")  # type: ignore[union-attr] # sqlite3's
        if database.dialect == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {BUSY_PROBE_MS}")
        connection = connection.execution_options(penstock_write=True)  # noqa: PLW2901 # the same one, told to write
        yield connection
        connection.rollback()


def _check_sqlite(database: Database) -> Iterator[Finding]:
    """Look at what lets a reader, a writer and a second writer live side by side."""
    with database.reading() as connection:
        journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        patience = int(connection.exec_driver_sql("PRAGMA busy_timeout").scalar() or 0) / 1000
    told = f"journal {journal}, writers wait {patience:.0f} s"
    if journal != "wal":
        yield warning(database.name, f"{told}: readers block the writer", "The next run sets WAL; see that it can.")
    elif patience < BUSY_SECONDS:
        yield warning(database.name, told, f"Take `timeout` out of its URL: Penstock sets {BUSY_SECONDS} s.")
    else:
        yield ok(database.name, told)


def _check_leases(database: Database, lease_seconds: float) -> Iterator[Finding]:
    running = fetch_runs(database, select_runs().where(runs.c.state == "running").order_by(runs.c.started_at))
    with database.reading() as connection:
        now = database.now(connection)
    stale = [run for run in running if run.lease_until < now]
    for run in stale:
        late = (now - run.lease_until).total_seconds()
        long = "; nothing has run since: look at its schedule and the worker" if late > LONG_DEAD_SECONDS else ""
        yield warning(
            database.name,
            f"run {run.run_id[:8]} of {run.pipeline} died: its lease ended {iso(run.lease_until)}{long}",
            f"The next run takes over: `penstock run {run.pipeline}`.",
        )
    if not stale:
        yield ok(database.name, f"no stale lease; {len(running)} running, leases of {lease_seconds:.0f} s")
