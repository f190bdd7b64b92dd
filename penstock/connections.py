"""Named connections: one SQLAlchemy engine each, and the one place where driver errors become Penstock's own."""

import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from penstock.errors import (
    AccessDenied,
    DatabaseFull,
    DatabaseLocked,
    DatabaseUnavailable,
    KeyCollision,
    PenstockError,
    QueryFailed,
    SettingsError,
    SnapshotLost,
)
from penstock.settings import Settings

BUSY_SECONDS = 60
ANSWER_SECONDS = 10
"""How much longer than a statement may take Postgres is listened to: its own timeout should be what we hear of."""
_DENIED = re.compile(
    r"password authentication failed|no password supplied|role .* does not exist|database .* does not exist"
    r"|permission denied|no pg_hba\.conf entry|Access denied",
    re.IGNORECASE,
)
_VALUES = re.compile(
    r"(?P<said>Key \([^)]*\)=|Failing row contains |Duplicate key |invalid input syntax for type [\w ]+: "
    r"|Could not decode to UTF-8 column '[^']*' with text )"
    r"(\(.*?\)(?= already| is |\.|$)|\".*?\"(?= |$)|'.*'$)",
    re.DOTALL,
)
"""How databases quote the rows that they refuse: an error text is no place for them."""
_SECRET_OPTION = re.compile(r"password|passwd|secret|token|credential|key", re.IGNORECASE)
_TRANSIENT_STATES = ("08", "40", "53", "57P", "57014", "55P03", "25P03")
_FULL = re.compile(r"database or disk is full|No space left on device")
_LOCKED = re.compile(r"database is locked|Could not set lock")
_DENIED_STATES = ("28", "42501", "3D000")
_SNAPSHOT_IS_GONE = re.compile(r"invalid snapshot identifier|snapshot .* does not exist")

READER = "penstock reader"
"""What a session that reads under a snapshot calls itself: it cannot write, so nobody need wait for it."""
READ_ONLY = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    f"SET LOCAL application_name = '{READER}'",
)
"""How a transaction on Postgres begins that sees one moment and changes nothing."""


@dataclass(frozen=True)
class Database:
    """A named connection, opened."""

    name: str
    engine: sa.Engine
    snapshot: str | None = None
    """A moment that another connection holds still; whatever is read here is read as of then."""

    @property
    def dialect(self) -> str:
        """`postgresql`, `sqlite`, `duckdb`, or another SQLAlchemy dialect."""
        return self.engine.dialect.name

    @property
    def url(self) -> URL:
        return self.engine.url

    @property
    def answer_seconds(self) -> float:
        """How long the database may say nothing; it is taken for gone then."""
        return float(self.engine.get_execution_options()["penstock_answer_seconds"])

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection for reading; driver errors come out as Penstock's."""
        with translated_errors(self), self.engine.connect() as connection:
            for statement in self.enter_snapshot():
                connection.exec_driver_sql(statement)
            yield connection

    def enter_snapshot(self) -> tuple[str, ...]:
        """Return the statements with which a transaction enters the snapshot; none where there is none."""
        if self.snapshot is None:
            return ()
        if not re.fullmatch(r"[0-9A-F-]+", self.snapshot):
            raise ValueError(f"`{self.snapshot}` is no name of a snapshot")
        return (*READ_ONLY, f"SET TRANSACTION SNAPSHOT '{self.snapshot}'")

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give a connection in one transaction, committed at the end, rolled back on any error.

        On SQLite the transaction takes the write lock at its start: one that reads first and writes later
        fails at once when another writer came between, whatever the timeout.
        """
        with (
            translated_errors(self),
            self.engine.connect() as connection,
            connection.execution_options(penstock_write=True).begin(),
        ):
            yield connection

    def now(self, connection: sa.Connection) -> datetime:
        """Read the clock that leases are measured by: the server's where there is one, else this machine's."""
        if self.dialect == "postgresql":
            moment: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
            return moment.astimezone(UTC)
        return datetime.now(UTC)


_engines: dict[tuple[str, int, int], sa.Engine] = {}
_engines_lock = threading.Lock()

SecretResolver = Callable[[str], str]


def open_database(settings: Settings, name: str, resolve_block: SecretResolver | None = None) -> Database:
    """Open a named connection; engines are shared in this process.

    Raises:
        SettingsError: no variable names the connection, or its value is no database URL.
    """
    text = settings.url_of(name)
    if text.startswith("block:"):
        if resolve_block is None:
            raise SettingsError(
                f"connection `{name}` names the Prefect block `{text}`", "It can be read in a flow only."
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
    """Refuse a URL that would be cut at the wrong place: the rest of a password would be told as host or port."""
    try:
        host = sa.make_url(text).host or ""
    except ValueError:  # the port is no number; its text may be part of a password, so it is not told
        host = "@"
    except sa.exc.ArgumentError:
        return  # told below, by the name of the error
    if "@" in host:
        raise SettingsError(
            f"the URL of connection `{name}` cannot be taken apart: its host or port holds an `@` or is no number",
            "Write special characters of the password in percent-encoding (`@` is %40, `:` is %3A, `/` is %2F, "
            f"`%` is %25) in PENSTOCK_CONNECTIONS__{name.upper()}.",
        )


def close_engines() -> None:
    """Close every pooled connection of this process; what is opened later begins anew."""
    with _engines_lock:
        while _engines:
            _engines.popitem()[1].dispose()


def _engine(text: str, statement_seconds: int, owner: int) -> sa.Engine:
    """Return the engine of a URL, the same one each time."""
    key = (text, statement_seconds, owner)
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
            f"-c idle_in_transaction_session_timeout={longest}",  # who has left us behind must not keep its locks
            *((given,) if isinstance(given, str) else given),
            "-c timezone=UTC",  # the last one holds: a time without a zone is UTC, whatever else the URL asks for
        )
        url = url.update_query_dict({"options": " ".join(options)})
        return _make_postgres_engine(url, statement_seconds + ANSWER_SECONDS)
    if backend == "sqlite":
        _make_folder(url)
        if "timeout" not in url.query:
            url = url.update_query_dict({"timeout": str(BUSY_SECONDS)})
        engine = sa.create_engine(url, hide_parameters=True, poolclass=NullPool)
        sa.event.listen(engine, "connect", _sqlite_connect)
        sa.event.listen(engine, "begin", _sqlite_begin)
        return engine
    if backend == "duckdb":
        _make_folder(url)
        engine = sa.create_engine(url, hide_parameters=True)
        sa.event.listen(engine, "connect", _duckdb_connect)
        return engine
    return sa.create_engine(url, hide_parameters=True, pool_pre_ping=True)


def _make_postgres_engine(url: URL, answer_seconds: int) -> sa.Engine:
    from penstock.answers import connect_bounded  # not above: it brings psycopg along

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


def _make_folder(url: URL) -> None:
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)


def _sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's "begin" event decides how a transaction starts


def _sqlite_begin(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("penstock_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _duckdb_connect(connection: Any, _record: Any) -> None:
    connection.execute("SET TimeZone='UTC'")


@contextmanager
def translated_errors(database: Database) -> Iterator[None]:
    """Turn what a driver raises inside the block into `TransientError` or `TerminalError`."""
    try:
        yield
    except PenstockError:
        raise
    except sa.exc.DBAPIError as error:
        raise _translate(database, error.orig or error) from _without_values(error)
    except Exception as error:
        # Driver modules (ADBC, DuckDB, sqlite3) are told apart by name: importing all of them costs seconds.
        if type(error).__module__.partition(".")[0] not in (
            "adbc_driver_manager",
            "duckdb",
            "_duckdb",
            "sqlite3",
            "psycopg",
        ):
            raise
        raise _translate(database, error) from _without_values(error)


def _without_values(error: Exception) -> Exception | None:
    """Return an error that a traceback may show: one that quotes no rows."""
    return None if _VALUES.search(str(error)) else error


def _translate(database: Database, error: BaseException) -> PenstockError:
    state = str(getattr(error, "sqlstate", None) or "")
    kind = type(error).__name__
    reason = _one_line(str(error), database.url)
    if state == "23505" or "UNIQUE constraint failed" in reason or "Duplicate key" in reason:
        return KeyCollision(database.name, reason)
    if database.snapshot and _SNAPSHOT_IS_GONE.search(reason):
        return SnapshotLost(database.name)
    if state.startswith(_DENIED_STATES) or _DENIED.search(reason):
        return AccessDenied(database.name, reason)
    if state == "53100" or _FULL.search(reason):
        return DatabaseFull(database.name, reason)
    if state == "55P03" or _LOCKED.search(reason):
        return DatabaseLocked(database.name, reason)
    if state.startswith(_TRANSIENT_STATES):
        return DatabaseUnavailable(database.name, reason)
    if re.search(r"TransactionContext Error|Conflict", reason) or (
        not state
        and (kind in ("OperationalError", "IOException", "InterfaceError"))
        and not _is_sql_mistake(error, reason)
    ):
        return DatabaseUnavailable(database.name, reason)
    return QueryFailed(database.name, reason)


def _is_sql_mistake(error: BaseException, reason: str) -> bool:
    """sqlite3 raises OperationalError also for SQL that is wrong."""
    return isinstance(error, sqlite3.OperationalError) and not re.search(r"locked|disk|unable to open|I/O", reason)


def _one_line(text: str, url: URL) -> str:
    text = _VALUES.sub(r"\g<said>(…)", hide_secrets(text, url))
    return " ".join(text.split())[:500].rstrip(". ")


def hide_secrets(text: str, url: URL) -> str:
    """Return a text without the secrets of a URL, however they are encoded in it."""
    secrets = [str(url.password)] if url.password else []
    query: Mapping[str, tuple[str, ...] | str] = url.query
    for option, values in query.items():
        if _SECRET_OPTION.search(option):
            secrets += [values] if isinstance(values, str) else values
    spelled = {encode(s) for s in secrets if s for encode in (str, quote, quote_plus, _quote_all, _quote_as_sqlalchemy)}
    for secret in sorted(spelled, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _quote_all(text: str) -> str:
    return quote(text, safe="")


def _quote_as_sqlalchemy(text: str) -> str:
    return quote(text, safe=" +")
