"""Checks of the named connections: each answers, and warehouses are suitable for a ledger."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from penstock.database.connections import Database, open_database
from penstock.database.dialects import find_dialect
from penstock.deployments.doctor.context import CheckContext
from penstock.deployments.doctor.finding import Check, Finding, broken, not_checked, ok, warning
from penstock.deployments.doctor.ledger import check_ledger, find_lost
from penstock.deployments.doctor.machine import nearest_folder
from penstock.deployments.doctor.mounts import network_kind, read_mounts
from penstock.errors import DatabaseUnavailable
from penstock.models.registry import STORE_CONNECTION
from penstock.object_urls import is_remote
from penstock.settings import Settings
from penstock.spec.sources import FilesSource, IcebergSource, SqlSource
from penstock.tasks.process_resources import resolve_block

STATEMENT_SECONDS = 5
APART_SECONDS = 5.0
"""Report clocks that differ by more: this machine's clock decides what is due, the database's the leases."""


@dataclass(frozen=True)
class Connection:
    """A named connection and its role."""

    name: str
    is_warehouse: bool
    """Whether it has a ledger, or will have one."""


def list_checks(case: CheckContext) -> tuple[Check, ...]:
    return tuple(
        Check(c.name, partial(check_connection, case, c), needs_server=is_block(case.settings, c.name))
        for c in list_connections(case)
    )


def list_connections(case: CheckContext) -> tuple[Connection, ...]:
    """Return the connections of the settings and the pipelines, warehouses first."""
    warehouses = {"warehouse", *(p.destination.connection for p in case.pipelines)}
    sources = {
        s.connection for p in case.pipelines for s in p.sources.values() if isinstance(s, SqlSource | IcebergSource)
    }
    files = [s for p in case.pipelines for s in p.sources.values() if isinstance(s, FilesSource)]
    models = {STORE_CONNECTION} if is_remote(str(case.settings.models_folder)) else set()
    stores = models | {s.connection for s in files} | {n for n in case.settings.urls if _has_options(case.settings, n)}
    names = warehouses | sources | (case.settings.urls.keys() - stores)
    return tuple(
        Connection(name, name in warehouses) for name in sorted(names, key=lambda name: (name not in warehouses, name))
    )


def embedded_warehouses(case: CheckContext) -> tuple[str, ...]:
    """Return the warehouses that are a file on this machine."""
    names = (connection.name for connection in list_connections(case) if connection.is_warehouse)
    return tuple(n for n in names if n in case.settings.urls and _is_file(case.settings.url_of(n)))


def check_connection(case: CheckContext, connection: Connection) -> Iterator[Finding]:
    """Open a connection, read its clock, and check its ledger if it is a warehouse."""
    settings = case.settings.model_copy(update={"statement_seconds": STATEMENT_SECONDS})
    missing = _find_missing_file(settings, connection)
    if missing is not None:
        lost = find_lost(open_database(settings, connection.name), settings.home) if connection.is_warehouse else None
        yield lost or missing
        return
    database = open_database(settings, connection.name, resolve_block)
    try:
        yield from _check_file(case, database, connection)
        try:
            with database.reading() as opened:
                yield ok(connection.name, f"{database.place} answers")
                yield from _check_clock(database, opened)
            if database.untested is not None:
                yield not_checked(connection.name, database.untested)
        except DatabaseUnavailable as error:
            if not database.sql.one_process or "lock" not in error.reason:
                raise
            yield warning(
                connection.name, "another process has the DuckDB file", "A run may use it. Check again later."
            )
            return
        if connection.is_warehouse:
            yield from check_ledger(database, case.settings)
    finally:
        database.engine.dispose()


def _is_file(text: str) -> bool:
    """Whether a URL is that of a database in a file. A URL that cannot be read is reported elsewhere."""
    return find_dialect(text.partition(":")[0].partition("+")[0]).is_file


def _has_options(settings: Settings, name: str) -> bool:
    """Whether a connection has the options of an object store, which are a JSON object."""
    return settings.url_of(name).lstrip().startswith("{")


def is_block(settings: Settings, name: str) -> bool:
    """Whether a connection is in a Prefect block, which only the server has."""
    return name in settings.urls and settings.url_of(name).startswith("block:")


def _find_missing_file(settings: Settings, connection: Connection) -> Finding | None:
    """Return a finding if the database file is missing, because opening it would create it."""
    text = settings.url_of(connection.name)
    if not _is_file(text) or ":memory:" in text:
        return None
    file = Path(sa.make_url(text).database or "")
    if file.is_file():
        return None
    if not connection.is_warehouse:
        return broken(connection.name, f"there is no file {file}", "Correct the path in its variable.")
    return not_checked(
        connection.name, f"no ledger yet: the first run creates {file} (in {nearest_folder(file.parent)})"
    )


def _check_file(case: CheckContext, database: Database, connection: Connection) -> Iterator[Finding]:
    """Check where an embedded database is, and how many processes use it."""
    if not database.sql.is_file:
        return
    kind = network_kind(Path(database.url.database or ""), read_mounts())
    if kind is not None:
        report = broken if connection.is_warehouse else warning
        yield report(
            connection.name,
            f"the file is on a network file system ({kind})",
            "Move it to a local disk, or use Postgres.",
        )
    processes = connection.is_warehouse and case.settings.partition_runner.kind != "threads"
    if processes and database.sql.one_writer:
        what = f"SQLite allows one writer at a time, and PENSTOCK_RUNNER is {case.settings.runner}"
        yield warning(connection.name, what, "Use threads with SQLite, or use Postgres.")
    if processes and database.sql.one_process:
        yield broken(
            connection.name,
            f"DuckDB allows one process, and PENSTOCK_RUNNER is {case.settings.runner}",
            "Set PENSTOCK_RUNNER to threads:n, or use Postgres.",
        )
    sharing = sum(p.destination.connection == connection.name for p in case.pipelines)
    if database.sql.one_process and sharing > 1:
        yield warning(
            connection.name,
            f"DuckDB allows one process, and {sharing} pipelines write here: their runs wait for each other",
            "Give each its own file, let the worker run one at a time, or use Postgres.",
        )


def _check_clock(database: Database, connection: sa.Connection) -> Iterator[Finding]:
    if not database.sql.has_server_clock:
        return
    apart = (database.now(connection) - datetime.now(UTC)).total_seconds()
    if abs(apart) > APART_SECONDS:
        yield warning(
            database.name,
            f"its clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} this machine's",
            "Synchronize both with NTP: this machine's clock decides what is due.",
        )
