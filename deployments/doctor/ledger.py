"""Checks of a warehouse's ledger.

They mark dead runs as abandoned and remove the staged files of ended runs. Everything else stays unchanged.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.database.dialects.base import BUSY_SECONDS
from penstock.deployments.doctor.finding import Finding, broken, ok, warning
from penstock.errors import AccessDenied, DatabaseUnavailable, LedgerLost, QueryFailed
from penstock.ledger.dead_runs import abandon_dead_runs, find_unfinished
from penstock.ledger.known_ledgers import refuse_lost
from penstock.ledger.migrations import LATEST, read_version
from penstock.ledger.reader import split_by_state
from penstock.ledger.tables import metadata, runs
from penstock.privacy.masking import read_private_keys
from penstock.settings import Settings
from penstock.sources.text.staged_folders import remove_ended, staged_runs, staging_folder
from penstock.timezones import describe_moment
from penstock.upkeep.key_counts import count_keys
from penstock.upkeep.verify import verify_ledger
from penstock.wording import plural

BUSY_PROBE_MS = 3000
SHOWN = 20
ROWS = 3
"""Rows of a violation in a finding."""
"""Most dead runs that are named."""
LONG_DEAD_SECONDS = 86_400.0


def check_ledger(database: Database, settings: Settings) -> Iterator[Finding]:
    """Check whether the ledger is the known one, can be written, is up to date, and has dead runs.

    Raises:
        SettingsError: the database is no warehouse.
    """
    database.require_warehouse()  # first: the test table would stay in a database that commits it at once
    name = database.name
    writing = _check_writing(database)
    yield writing
    if writing.state == "broken":
        return
    lost = find_lost(database, settings.home)
    if lost is not None:
        yield lost
        return
    if database.sql.one_writer:
        yield from _check_sqlite(database)
    version = read_version(database)
    if version is None:
        yield ok(name, "no ledger yet: the first run creates it")
    elif version > LATEST:
        what = f"the ledger is at version {version}, and this Penstock knows {LATEST}"
        yield broken(name, what, "Install the newer Penstock that wrote it.")
    elif version < LATEST:
        what = f"{plural(LATEST - version, 'pending migration')}, from version {version} to {LATEST}"
        remedy = "Run `penstock runs`, which applies them. The ledger is not checked further before that."
        yield warning(name, what, remedy)
    else:
        yield ok(name, f"the ledger is at version {version}, which is this Penstock's")
        yield from _check_leases(database, settings)
        yield from _check_staged(database, settings.home)
        yield from _count_former(database, settings)
        yield from _verify(database)


def find_lost(database: Database, home: Path) -> Finding | None:
    """Return a finding if the project has had a ledger, and this is none or another one."""
    try:
        refuse_lost(database, home)
    except LedgerLost as lost:
        return broken(database.name, f"its ledger is lost: {lost.reason}. This project had {lost.before}", lost.remedy)
    return None


def _count_former(database: Database, settings: Settings) -> Iterator[Finding]:
    """Say how many rows need the former private key, if it is set."""
    if not (settings.private_key and settings.private_key_old):
        return
    keys = read_private_keys(settings, "the ledger's hashes are counted by key")
    rows = sum(each.former for each in count_keys(database, keys))
    if rows:
        how = "`penstock ledger rehash` rewrites those whose values are still there"
        yield ok(database.name, f"{plural(rows, 'row')} under the former private key {keys.ids[1]}; {how}")
    else:
        yield ok(database.name, "no row is under the former private key: PENSTOCK_PRIVATE_KEY_OLD can go")


def _verify(database: Database) -> Iterator[Finding]:
    """Check the ledger's invariants, as `penstock ledger verify` does."""
    violations = verify_ledger(database)
    for violation in violations:
        more = f" and {len(violation.rows) - ROWS} more" if len(violation.rows) > ROWS else ""
        rows = f"{', '.join(violation.rows[:ROWS])}{more}"
        what = f"{violation.where} breaks an invariant: {violation.invariant}: {rows}"
        yield broken(database.name, what, f"{violation.remedy} `penstock ledger verify` lists all.")
    if not violations:
        yield ok(database.name, "every invariant of the ledger holds")


def _check_writing(database: Database) -> Finding:
    """Try to create a table and to write each table of the ledger, then roll back."""
    try:
        with database.reading() as connection:
            known = set(sa.inspect(connection).get_table_names())
        with _rolled_back(database) as connection:
            # A lower-case name with a random part, so that two doctors at once do not collide.
            connection.exec_driver_sql(f"CREATE TABLE penstock_doctor_{uuid4().hex[:8]} (x INTEGER)")
            for table in metadata.sorted_tables:
                if table.name in known:
                    connection.execute(sa.delete(table).where(sa.false()))
    except (AccessDenied, QueryFailed) as error:
        return broken(database.name, f"it cannot be written: {error.reason}", "Grant CREATE, INSERT, UPDATE, DELETE.")
    except DatabaseUnavailable as error:
        if "lock" not in error.reason:
            raise
        return warning(
            database.name, "another writer has locked it for seconds", "A run may use it. Check again later."
        )
    return ok(database.name, "it can be written")


@contextmanager
def _rolled_back(database: Database) -> Iterator[sa.Connection]:
    """Yield a connection in one transaction that is rolled back."""
    with database.reading() as connection:
        if database.sql.one_writer:
            connection.connection.driver_connection.execute(f"PRAGMA busy_timeout={BUSY_PROBE_MS}")  # type: ignore[union-attr] # sqlite3's
        if (limit := database.sql.wait_for_lock(BUSY_PROBE_MS)) is not None:
            connection.exec_driver_sql(limit)
        connection = connection.execution_options(penstock_write=True)  # noqa: PLW2901 # the same connection with a write option
        yield connection
        connection.rollback()


def _check_sqlite(database: Database) -> Iterator[Finding]:
    """Check the settings that let readers and writers work at the same time."""
    with database.reading() as connection:
        journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        patience = int(connection.exec_driver_sql("PRAGMA busy_timeout").scalar() or 0) / 1000
    what = f"journal {journal}, writers wait {patience:.0f} s"
    if journal != "wal":
        yield warning(database.name, f"{what}: readers block the writer", "The next run sets WAL; check that it can.")
    elif patience < BUSY_SECONDS:
        yield warning(database.name, what, f"Remove `timeout` from its URL: Penstock sets {BUSY_SECONDS} s.")
    else:
        yield ok(database.name, what)


def _check_leases(database: Database, settings: Settings) -> Iterator[Finding]:
    """Report the runs whose lease has ended, and mark them as abandoned. Name those that a person must start again."""
    yield from _report_stale(database, settings)
    abandon_dead_runs(database)
    unfinished = find_unfinished(database)
    for run in unfinished[:SHOWN]:
        what = f"run {run.run_id[:8]} of {run.pipeline} ({run.reason} of {run.interval.label}) died before it was done"
        yield warning(database.name, what, f"No due run repeats it. Start it again: `{run.command}`.")
    if len(unfinished) > SHOWN:
        more = f"{plural(len(unfinished) - SHOWN, 'more run')} died before the end"
        yield warning(database.name, more, "`penstock runs --state abandoned --limit 1000` lists them.")


def _check_staged(database: Database, home: Path) -> Iterator[Finding]:
    """Remove the staged files of runs that have ended. Name those of runs that this ledger does not know."""
    staging = staging_folder(home)
    if not (found := staged_runs(staging)):
        return
    running, ended = split_by_state(database, found)
    if removed := remove_ended(staging, running, ended):
        named = ", ".join(run_id[:8] for run_id in removed[:SHOWN])
        yield ok(database.name, f"removed the staged files of {plural(len(removed), 'run')} that had ended: {named}")
    if unknown := [run_id for run_id in found if run_id not in {*removed, *running}]:
        named = ", ".join(run_id[:8] for run_id in unknown[:ROWS])
        what = f"staged files of {plural(len(unknown), 'run')} that this ledger does not know: {named}"
        remedy = f"They may be another warehouse's, and go after a week. If not, remove them from {staging}."
        yield warning(database.name, what, remedy)


def _report_stale(database: Database, settings: Settings) -> Iterator[Finding]:
    """Report the runs whose lease has ended, the first ones by name."""
    with database.reading() as connection:
        now = database.now(connection)
        running = sa.select(runs.c.run_id, runs.c.pipeline, runs.c.lease_until).where(runs.c.state == "running")
        stale = running.where(runs.c.lease_until < now)
        first = connection.execute(stale.order_by(runs.c.started_at).limit(SHOWN)).all()
        number, number_stale = (
            int(connection.execute(sa.select(sa.func.count()).select_from(query.subquery())).scalar_one())
            for query in (running, stale)
        )
    for run_id, pipeline, lease_until in first:
        ended = describe_moment(lease_until, settings.timezone)
        late = (now - lease_until).total_seconds()
        long = "; no run has started since: check its schedule and the worker" if late > LONG_DEAD_SECONDS else ""
        yield warning(
            database.name,
            f"run {run_id[:8]} of {pipeline} died: its lease ended {ended}{long}",
            f"It is marked as abandoned now. `penstock run {pipeline}` scores what is missing.",
        )
    if number_stale > len(first):
        more = f"{plural(number_stale - len(first), 'more run')} died"
        yield warning(database.name, more, "`penstock runs --state abandoned --limit 1000` lists them.")
    if not number_stale:
        yield ok(database.name, f"no stale lease; {number} running, leases of {settings.lease_seconds:.0f} s")
