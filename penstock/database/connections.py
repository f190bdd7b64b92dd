"""Named connections, with one SQLAlchemy engine each."""

import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL

from penstock.database.dialects import SqlDialect, find_dialect
from penstock.database.dialects.files import NOT_A_PATH
from penstock.database.driver_errors import translated_errors
from penstock.database.sqlite_reader import close_reader
from penstock.errors import DatabaseUnavailable, SettingsError
from penstock.run_types import TableVersion
from penstock.settings import Settings


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
    def sql(self) -> SqlDialect:
        """What is known of the database's dialect."""
        return find_dialect(self.dialect)

    @property
    def url(self) -> URL:
        return self.engine.url

    @property
    def place(self) -> str:
        """Where the database is, without user and password."""
        if self.sql.is_file:
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
    def untested(self) -> str | None:
        """A note on a database that Penstock's tests do not read. None for one that they read."""
        if self.sql.is_tested:
            return None
        return (
            f"Penstock is not tested with {self.sql.title}: its rows are read as SQLAlchemy gives them, each partition "
            "at a moment of its own. Compare counts and values of one interval, and see docs/databases.md"
        )

    def require_warehouse(self) -> None:
        """Refuse a database that cannot have the ledger and the scores.

        Raises:
            SettingsError: it cannot.
        """
        if not self.sql.is_warehouse:
            what = f"connection `{self.name}` is {self.sql.title}, which is read as a source and is no warehouse"
            remedy = "Name a Postgres, SQLite or DuckDB database as `destination.connection`."
            raise SettingsError(what, remedy)

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
            nothing = sa.create_engine(f"{self.dialect}:///:memory:")
            try:
                with nothing.connect() as empty:
                    yield empty
            finally:
                nothing.dispose()
            return
        if (shared := _shared.get()) is not None and self.snapshot is None and shared.engine is self.engine:
            with translated_errors(self):
                yield shared
            return
        with translated_errors(self), self.engine.connect() as connection:
            for statement in self.enter_snapshot():
                connection.exec_driver_sql(statement)
            yield connection

    @contextmanager
    def reading_together(self) -> Iterator[None]:
        """Let each `reading` in the block, in this thread, use one connection. Write nothing in the block.

        A page about a run has a dozen queries. With a connection for each, most of the time is for its checks.
        """
        with self.reading() as connection:
            before = _shared.set(connection)
            try:
                yield
            finally:
                _shared.reset(before)

    def enter_snapshot(self) -> tuple[str, ...]:
        """Return the statements that let a transaction enter the snapshot, if there is one."""
        return () if self.snapshot is None else self.sql.enter_snapshot(self.snapshot)

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
        return self.sql.now(connection)


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
    versions: Mapping[str, TableVersion] = field(default_factory=dict)
    """By source of a table in a lake: the version that the run reads. Others are read as they are now."""
    read_value: Callable[[str], str] | None = None
    """Returns the value of a named connection, for one with the options of an object store."""

    def of_run(self, run_id: str) -> "Connector":
        """Return the connector of a run's steps."""
        return self if self.staging is None else replace(self, run_folder=self.staging / run_id)

    def __call__(self, name: str) -> Database:
        """Open a named connection."""
        return self.open(name)


LOCAL_FILE_SECONDS = 60
"""How long a statement on a file of Penstock's own may take."""
_shared: ContextVar[sa.Connection | None] = ContextVar("penstock_shared_connection", default=None)
"""The connection of `Database.reading_together`."""
_engines: dict[tuple[str, int, int, str], sa.Engine] = {}
"""By URL, limit of a statement, thread of a database in memory, and working folder, which relative paths start from."""
_engines_lock = threading.Lock()

SecretResolver = Callable[[str], str]


def read_connection(settings: Settings, name: str, resolve_block: SecretResolver | None = None) -> str:
    """Return the value of a named connection, which may be in a Prefect block.

    Raises:
        SettingsError: no variable sets the connection, or its block cannot be read.
    """
    text = settings.url_of(name)
    if not text.startswith("block:"):
        return text
    if resolve_block is None:
        raise SettingsError(
            f"connection `{name}` names the Prefect block `{text}`", "A block can only be read in a flow."
        )
    return resolve_block(text.removeprefix("block:"))


def open_database(settings: Settings, name: str, resolve_block: SecretResolver | None = None) -> Database:
    """Open a named connection. Engines are shared within this process.

    Raises:
        SettingsError: no variable sets the connection, or its value is not a database URL.
    """
    return open_url(name, read_connection(settings, name, resolve_block), settings.statement_seconds)


def open_url(name: str, text: str, statement_seconds: int) -> Database:
    """Open a named connection by its value. Engines are shared within this process.

    Raises:
        SettingsError: the value is not a database URL.
    """
    _check_url(name, text)
    _check_driver(name, text)
    try:
        return Database(name, _engine(text, statement_seconds, threading.get_ident() if ":memory:" in text else 0))
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
        reason = type(error).__name__ if isinstance(error, sa.exc.ArgumentError) else str(error)
        dialect = find_dialect(re.split(r"[+:]", text)[0])
        if isinstance(error, ModuleNotFoundError) and dialect.extra is not None:
            remedy = f"Install its driver: `pip install {dialect.driver}`, or Penstock's extra `{dialect.extra}`."
            raise SettingsError(f"connection `{name}` cannot be opened: {reason}", remedy) from None
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


def _check_driver(name: str, text: str) -> None:
    """Refuse a driver whose values Penstock would read wrongly.

    Raises:
        SettingsError: the URL names one.
    """
    found = re.match(r"(?P<dialect>\w+)\+(?P<driver>\w+):", text)
    dialect = find_dialect(found["dialect"]) if found else None
    if found and dialect and dialect.only_driver and found["driver"] != dialect.driver:
        what = f"connection `{name}` names the driver {found['driver']}, and Penstock reads {dialect.title} with "
        remedy = f"Write `{found['dialect']}://…` without `+{found['driver']}` in PENSTOCK_CONNECTIONS__{name.upper()}."
        raise SettingsError(f"{what}{dialect.driver}", remedy)


def open_local_file(file: Path) -> Database:
    """Open a SQLite file of Penstock's own. It is made when it is first written, and what is deleted is overwritten.

    Only the user that has made it can read it. SQLite gives its journal the same mode.
    """
    database = Database(file.stem, _engine(f"sqlite:///{file.absolute()}", LOCAL_FILE_SECONDS, 0))
    if not sa.event.contains(database.engine, "connect", _overwrite_deleted):
        sa.event.listen(database.engine, "do_connect", _make_private)
        sa.event.listen(database.engine, "connect", _overwrite_deleted)
    return database


def _make_private(_dialect: Any, _record: Any, arguments: Sequence[Any], _options: dict[str, Any]) -> None:
    """Make the file first, and never open it: closing it would end the locks of this process's other connections."""
    file = Path(arguments[0])
    with suppress(OSError):  # SQLite says what is wrong with the path
        if not file.exists():
            handle, made = tempfile.mkstemp(dir=file.parent)
            os.close(handle)
            try:
                os.link(made, file)
            finally:
                os.unlink(made)


def _overwrite_deleted(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA secure_delete=ON")


def close_engines() -> None:
    """Close all pooled connections of this process, and end its reader of SQLite files. Later calls open new ones."""
    close_reader()
    with _engines_lock:
        while _engines:
            _engines.popitem()[1].dispose()


def _engine(text: str, statement_seconds: int, owner: int) -> sa.Engine:
    """Return the engine of a URL, the same one each time."""
    is_file = find_dialect(re.split(r"[+:]", text)[0]).is_file
    folder = os.getcwd() if is_file else ""  # a server needs none, and it may be gone
    key = (text, statement_seconds, owner, folder)
    with _engines_lock:
        if key not in _engines:
            _engines[key] = _make_engine(text, statement_seconds)
        return _engines[key]


def _make_engine(text: str, statement_seconds: int) -> sa.Engine:
    url = sa.make_url(text)
    if url.drivername == "postgres":
        url = url.set(drivername="postgresql")
    dialect = find_dialect(url.get_backend_name())
    if dialect.driver is not None and "+" not in url.drivername:
        url = url.set(drivername=f"{url.drivername}+{dialect.driver}")
    return dialect.make_engine(url, statement_seconds)


def embedded_file(url: URL) -> Path | None:
    """Return the file of a SQLite or DuckDB database. None for others, for one in memory and for a URI."""
    name = url.database or ""
    is_file = find_dialect(url.get_backend_name()).is_file
    return Path(name).absolute() if is_file and name and not name.startswith(NOT_A_PATH) else None
