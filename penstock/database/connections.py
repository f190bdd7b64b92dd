"""Named connections, with one SQLAlchemy engine each."""

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from penstock.database.driver_errors import translated_errors
from penstock.errors import DatabaseUnavailable, SettingsError
from penstock.settings import Settings

EMBEDDED = ("sqlite", "duckdb")
"""The databases that are a file on this machine."""
BUSY_SECONDS = 60
ANSWER_SECONDS = 10
"""Extra seconds to wait for Postgres after a statement's limit, so that its own timeout reports first."""
READER = "penstock reader"
"""The application name of a session that reads under a snapshot. It cannot write, so `settle` need not wait for it."""
READ_ONLY = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    f"SET LOCAL application_name = '{READER}'",
)
"""The first statements of a read-only transaction on Postgres that sees one moment."""


@dataclass(frozen=True)
class Database:
    """An opened named connection."""

    name: str
    engine: sa.Engine
    snapshot: str | None = None
    """A snapshot that another connection exports, as `name/lock`. All reads here see its moment.

    The lock is an advisory one that the other connection has while its snapshot exists.
    """

    @property
    def dialect(self) -> str:
        """`postgresql`, `sqlite`, `duckdb`, or another SQLAlchemy dialect."""
        return self.engine.dialect.name

    @property
    def url(self) -> URL:
        return self.engine.url

    @property
    def place(self) -> str:
        """Where the database is, without user and password."""
        if self.dialect in EMBEDDED:
            return f"{self.dialect} {embedded_file(self.url) or self.url.database}"
        port = f":{self.url.port}" if self.url.port else ""
        return f"{self.dialect} {self.url.database} at {self.url.host or 'a local socket'}{port}"

    @property
    def missing_file(self) -> Path | None:
        """The file of a SQLite or DuckDB database that does not exist."""
        file = embedded_file(self.url)
        try:
            return None if file is None or file.exists() else file
        except PermissionError:
            return None  # the driver says so

    def require_file(self) -> None:
        """Refuse a SQLite or DuckDB database whose file is missing.

        Raises:
            DatabaseUnavailable: it is.
        """
        if self.missing_file is not None:
            remedy = f"Mount its volume, or correct the path in PENSTOCK_CONNECTIONS__{self.name.upper()}."
            raise DatabaseUnavailable(self.name, f"there is no file {self.missing_file}", remedy)

    @property
    def answer_seconds(self) -> float:
        """How long the database may be silent before it counts as gone."""
        return float(self.engine.get_execution_options()["penstock_answer_seconds"])

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Yield a connection for reading, with driver errors translated to Penstock's.

        A file that does not exist is read as an empty database, because opening it would create it.
        """
        if self.missing_file is not None:
            with sa.create_engine(f"{self.dialect}:///:memory:").connect() as empty:
                yield empty
            return
        with translated_errors(self), self.engine.connect() as connection:
            for statement in self.enter_snapshot():
                connection.exec_driver_sql(statement)
            yield connection

    def enter_snapshot(self) -> tuple[str, ...]:
        """Return the statements that let a transaction enter the snapshot, if there is one."""
        if self.snapshot is None:
            return ()
        found = re.fullmatch(r"(?P<name>[0-9A-F-]+)/(?P<lock>[0-9]+)", self.snapshot)
        if not found:
            raise ValueError(f"`{self.snapshot}` is not a snapshot")
        # Another server, or this one after a crash, may have another snapshot of that name. So ask for the lock too.
        exporter_is_gone = f"pg_try_advisory_xact_lock_shared({found['lock']})"
        missing = f"raise exception 'snapshot {self.snapshot} does not exist'"
        return (
            *READ_ONLY,
            f"SET TRANSACTION SNAPSHOT '{found['name']}'",
            f"DO $$ begin if {exporter_is_gone} then {missing}; end if; end $$",
        )

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Yield a connection in one transaction. Commit at the end, roll back on any error.

        On SQLite the transaction takes the write lock at its start. A transaction that reads first and writes later
        fails at once if another writer came between, whatever the timeout.
        """
        with (
            translated_errors(self),
            self.engine.connect() as connection,
            connection.execution_options(penstock_write=True).begin(),
        ):
            yield connection

    def now(self, connection: sa.Connection) -> datetime:
        """Read the clock for leases: the server's on Postgres, otherwise this machine's."""
        if self.dialect == "postgresql":
            moment: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
            return moment.astimezone(UTC)
        return datetime.now(UTC)


Connect = Callable[[str], Database]
"""Opens a named connection."""


@dataclass(frozen=True)
class Connector:
    """Opens what a pipeline reads and writes: named connections, and files inside the allowed folders."""

    open: Connect
    allowed_roots: tuple[str, ...]
    """Folders and remote prefixes that `files` and `log` sources may read. Empty: no limit."""
    staging: Path | None = None
    """Folder in which each run stages text files in a folder of its own. None: every read stages them anew."""
    run_folder: Path | None = None
    """That of the run which reads."""

    def of_run(self, run_id: str) -> "Connector":
        """Return the connector of a run's steps."""
        return self if self.staging is None else replace(self, run_folder=self.staging / run_id)

    def __call__(self, name: str) -> Database:
        """Open a named connection."""
        return self.open(name)


_engines: dict[tuple[str, int, int, str], sa.Engine] = {}
"""By URL, limit of a statement, thread of a database in memory, and working folder, which relative paths start from."""
_engines_lock = threading.Lock()

SecretResolver = Callable[[str], str]


def open_database(settings: Settings, name: str, resolve_block: SecretResolver | None = None) -> Database:
    """Open a named connection. Engines are shared within this process.

    Raises:
        SettingsError: no variable sets the connection, or its value is not a database URL.
    """
    text = settings.url_of(name)
    if text.startswith("block:"):
        if resolve_block is None:
            raise SettingsError(
                f"connection `{name}` names the Prefect block `{text}`", "A block can only be read in a flow."
            )
        text = resolve_block(text.removeprefix("block:"))
    _check_url(name, text)
    try:
        return Database(
            name, _engine(text, settings.statement_seconds, threading.get_ident() if ":memory:" in text else 0)
        )
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
        reason = type(error).__name__ if isinstance(error, sa.exc.ArgumentError) else str(error)
        raise SettingsError(
            f"connection `{name}` cannot be opened: {reason}",
            f"Set PENSTOCK_CONNECTIONS__{name.upper()} to a SQLAlchemy URL whose driver is installed, "
            "as in `postgresql+psycopg://user:password@host/database`.",
        ) from None


def _check_url(name: str, text: str) -> None:
    """Refuse a URL that is split at the wrong place. Errors would show part of the password as host or port."""
    try:
        host = sa.make_url(text).host or ""
    except ValueError:  # the port is not a number; it may be part of a password, so do not show it
        host = "@"
    except sa.exc.ArgumentError:
        return  # the caller reports it
    if "@" in host:
        raise SettingsError(
            f"the URL of connection `{name}` cannot be parsed: its host contains an `@` or its port is not a number",
            "Percent-encode special characters of the password (`@` is %40, `:` is %3A, `/` is %2F, "
            f"`%` is %25) in PENSTOCK_CONNECTIONS__{name.upper()}.",
        )


def close_engines() -> None:
    """Close all pooled connections of this process. Later calls open new ones."""
    with _engines_lock:
        while _engines:
            _engines.popitem()[1].dispose()


def _engine(text: str, statement_seconds: int, owner: int) -> sa.Engine:
    """Return the engine of a URL, the same one each time."""
    folder = os.getcwd() if text.startswith(("sqlite", "duckdb")) else ""  # a server needs none, and it may be gone
    key = (text, statement_seconds, owner, folder)
    with _engines_lock:
        if key not in _engines:
            _engines[key] = _make_engine(text, statement_seconds)
        return _engines[key]


def _make_engine(text: str, statement_seconds: int) -> sa.Engine:
    url = sa.make_url(text)
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    backend = url.get_backend_name()
    if backend == "postgresql":
        longest = statement_seconds * 1000
        defaults = {
            "connect_timeout": "10",
            "application_name": "penstock",
            "keepalives_idle": "30",
            "keepalives_interval": "10",
            "keepalives_count": "3",
            "tcp_user_timeout": "60000",
        }
        url = url.update_query_dict({k: v for k, v in defaults.items() if k not in url.query})
        given = url.query.get("options", ())
        options = (
            f"-c statement_timeout={longest} -c lock_timeout={BUSY_SECONDS * 1000}",
            f"-c idle_in_transaction_session_timeout={longest}",  # an abandoned session must not keep its locks
            *((given,) if isinstance(given, str) else given),
            "-c timezone=UTC",  # last, so that it wins: a time without a zone is UTC, whatever the URL sets
        )
        url = url.update_query_dict({"options": " ".join(options)})
        return _make_postgres_engine(url, statement_seconds + ANSWER_SECONDS)
    if backend == "sqlite":
        if "timeout" not in url.query:
            url = url.update_query_dict({"timeout": str(BUSY_SECONDS)})
        engine = sa.create_engine(url, hide_parameters=True, poolclass=NullPool)
        sa.event.listen(engine, "do_connect", _make_folder)
        sa.event.listen(engine, "connect", _sqlite_connect)
        sa.event.listen(engine, "begin", _sqlite_begin)
        return engine
    if backend == "duckdb":
        engine = sa.create_engine(url, hide_parameters=True)
        sa.event.listen(engine, "do_connect", _make_folder)
        sa.event.listen(engine, "connect", _duckdb_connect)
        return engine
    return sa.create_engine(url, hide_parameters=True, pool_pre_ping=True)


def _make_postgres_engine(url: URL, answer_seconds: int) -> sa.Engine:
    from penstock.database.timeouts import connect_bounded  # a late import, because it imports psycopg

    engine = sa.create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,
        pool_size=8,
        max_overflow=8,
        execution_options={"penstock_answer_seconds": answer_seconds},
    )
    sa.event.listen(engine, "do_connect", connect_bounded(answer_seconds))
    return engine


def embedded_file(url: URL) -> Path | None:
    """Return the file of a SQLite or DuckDB database. None for others, for one in memory and for a URI."""
    name = url.database or ""
    if url.get_backend_name() not in EMBEDDED or not name or name.startswith((":memory:", "file:", "md:")):
        return None
    return Path(name).absolute()


def _make_folder(_dialect: Any, _record: Any, arguments: Sequence[Any], options: dict[str, Any]) -> None:
    """Make the folder of a file when it is first opened, so that a connection that is never used leaves nothing."""
    name = str(arguments[0] if arguments else options.get("database", ""))
    if name and not name.startswith((":memory:", "file:", "md:")):
        with suppress(OSError):  # the driver says what is wrong with the path
            Path(name).parent.mkdir(parents=True, exist_ok=True)


def _sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's "begin" event decides how a transaction starts


def _sqlite_begin(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("penstock_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _duckdb_connect(connection: Any, _record: Any) -> None:
    connection.execute("SET TimeZone='UTC'")
