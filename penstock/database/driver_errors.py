"""Translate driver errors to Penstock's errors, without secrets and without quoted rows."""

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import quote, quote_plus

import sqlalchemy as sa
from sqlalchemy.engine import URL

from penstock.database.remedies import LEDGER_STATEMENT, find_fault
from penstock.errors import (
    AccessDenied,
    DatabaseFull,
    DatabaseLocked,
    DatabaseUnavailable,
    FilesFailed,
    KeyCollision,
    PenstockError,
    QueryFailed,
    SnapshotLost,
    StandbyConflict,
)

_DENIED = re.compile(r"permission denied|Access denied", re.IGNORECASE)
_VALUES = re.compile(
    r"(?P<said>Key \([^)]*\)=|Failing row contains |Duplicate key |invalid input syntax for type [\w ]+: "
    r"|Could not decode to UTF-8 column '[^']*' with text )"
    r"(\(.*?\)(?= already| is |\.|$)|\".*?\"(?= |$)|'.*'$)",
    re.DOTALL,
)
"""How databases quote refused rows. Error texts must not contain them."""
_SECRET_OPTION = re.compile(r"password|passwd|secret|token|credential|key", re.IGNORECASE)
_TRANSIENT_STATES = ("08", "40", "53", "57P", "57014", "55P03", "25P03")
_FULL = re.compile(r"database or disk is full|No space left on device")
_LOCKED = re.compile(r"database is locked|Could not set lock")
_DENIED_STATES = ("28", "42501", "3D000")
_SNAPSHOT_IS_GONE = re.compile(r"invalid snapshot identifier|snapshot .* does not exist")


_CONFLICT_ON_STANDBY = "due to conflict with recovery"


class Origin(Protocol):
    """The database of an error, as messages name it."""

    @property
    def name(self) -> str: ...

    @property
    def url(self) -> URL: ...

    @property
    def snapshot(self) -> str | None: ...


@contextmanager
def translated_errors(database: Origin) -> Iterator[None]:
    """Turn driver errors inside the block into `TransientError` or `TerminalError`."""
    try:
        yield
    except PenstockError:
        raise
    except sa.exc.TimeoutError as error:
        what, remedy = "all its connections in this process are in use", "Run fewer partitions at once, then run again."
        raise DatabaseUnavailable(database.name, what, remedy) from error
    except sa.exc.DBAPIError as error:
        raise _translate(database, error.orig or error, error.statement or "") from _without_values(error)
    except Exception as error:  # every error is raised again below
        # Compare driver modules (ADBC, DuckDB, sqlite3) by name, because importing them all takes seconds.
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
    """Return the error for the traceback, or None if it quotes rows."""
    return None if _VALUES.search(str(error)) else error


def _translate(database: Origin, error: BaseException, statement: str = "") -> PenstockError:
    state = str(getattr(error, "sqlstate", None) or "")
    kind = type(error).__name__
    reason = _one_line(str(error), database.url)
    if state == "23505" or "UNIQUE constraint failed" in reason or "Duplicate key" in reason:
        return KeyCollision(database.name, reason)
    if database.snapshot and _SNAPSHOT_IS_GONE.search(reason):
        return SnapshotLost(database.name)
    fault = find_fault(reason)
    passes = state.startswith(_TRANSIENT_STATES)  # by its code it may pass: a lock, a standby, a server that starts
    if fault is not None and (fault.kind is DatabaseUnavailable or not passes):
        return fault.kind(
            database.name, reason, fault.remedy.replace("{url}", f"PENSTOCK_CONNECTIONS__{database.name.upper()}")
        )
    if state.startswith(_DENIED_STATES) or _DENIED.search(reason):
        return AccessDenied(database.name, reason)
    if state == "53100" or _FULL.search(reason):
        return DatabaseFull(database.name, reason)
    if state == "55P03" or _LOCKED.search(reason):
        return DatabaseLocked(database.name, reason)
    if _CONFLICT_ON_STANDBY in reason:
        return StandbyConflict(database.name, reason)
    if state.startswith(_TRANSIENT_STATES):
        return DatabaseUnavailable(database.name, reason)
    if re.search(r"TransactionContext Error|Conflict", reason) or (
        not state
        and (kind in ("OperationalError", "IOException", "InterfaceError"))
        and not _is_sql_mistake(error, reason)
    ):
        return DatabaseUnavailable(database.name, reason)
    if database.url.get_backend_name() == "duckdb" and database.url.database == ":memory:":
        return FilesFailed(database.name, reason)  # no connection of the settings: it reads the files of a source
    if "penstock_" in statement:
        return QueryFailed(database.name, reason, LEDGER_STATEMENT)
    return QueryFailed(database.name, reason)


def _is_sql_mistake(error: BaseException, reason: str) -> bool:
    """Whether the SQL is wrong: sqlite3 raises OperationalError for that too."""
    return isinstance(error, sqlite3.OperationalError) and not re.search(r"locked|disk|unable to open|I/O", reason)


def _one_line(text: str, url: URL) -> str:
    text = _VALUES.sub(r"\g<said>(…)", hide_secrets(text, url))
    return " ".join(text.split())[:500].rstrip(". ")


def hide_secrets(text: str, url: URL) -> str:
    """Return a text without the secrets of a URL, in any encoding."""
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
