"""Translate driver errors to Penstock's errors, without secrets and without quoted rows."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import quote, quote_plus

import sqlalchemy as sa
from sqlalchemy.engine import URL

from penstock.database.dialects import MODULES, find_dialect
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

_VALUES = re.compile(
    r"(?P<said>Key \([^)]*\)=|Failing row contains |Duplicate key |invalid input syntax for type [\w ]+: "
    r"|Could not decode to UTF-8 column '[^']*' with text "
    r"|Duplicate entry |Truncated incorrect \w+ value: |Incorrect [\w ]+ value: )"
    r"(\(.*?\)(?= already| is |\.|$)|\".*?\"(?= |$)|'.*'(?= for | \(\d+\)$|\"?\)?$))",
    re.DOTALL,
)
"""How databases quote refused rows. Error texts must not contain them."""
_CASTS = re.compile(
    r"(?P<said>\b(?:Casting value |Could not cast value |Could not convert string |Failed to cast decimal value "
    r"|Type \w+ with value |invalid \w+ field format: |value (?=\"?[^\"]*\"? is out of range for type )))"
    r".+(?= to type | to [A-Z]|, expected format | can't be cast | is out of range for type )",
    re.DOTALL,
)
"""How DuckDB and Postgres quote a value that a type does not hold. Too much is hidden rather than too little."""
_SECRET_OPTION = re.compile(r"password|passwd|secret|token|credential|key", re.IGNORECASE)


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
        if type(error).__module__.partition(".")[0] not in MODULES:
            raise
        raise _translate(database, error) from _without_values(error)


def _without_values(error: Exception) -> Exception | None:
    """Return the error for the traceback, or None if it quotes rows."""
    return None if any(quoted.search(str(error)) for quoted in (_VALUES, _CASTS)) else error


def _translate(database: Origin, error: BaseException, statement: str = "") -> PenstockError:
    dialect = find_dialect(database.url.get_backend_name())
    code, reason = dialect.error_code(error), _one_line(dialect.error_text(error), database.url)
    if code.startswith(dialect.collision_codes) or dialect.collision_words.search(reason):
        return KeyCollision(database.name, reason)
    if database.snapshot and dialect.lost_snapshot_words.search(reason):
        return SnapshotLost(database.name)
    fault = find_fault(reason)
    passes = code.startswith(dialect.transient_codes)  # a lock, a standby, a server that starts
    if fault is not None and (fault.kind is DatabaseUnavailable or not passes):
        return fault.kind(
            database.name, reason, fault.remedy.replace("{url}", f"PENSTOCK_CONNECTIONS__{database.name.upper()}")
        )
    if code.startswith(dialect.denied_codes) or dialect.denied_words.search(reason):
        return AccessDenied(database.name, reason)
    if code.startswith(dialect.full_codes) or dialect.full_words.search(reason):
        return DatabaseFull(database.name, reason)
    if code.startswith(dialect.locked_codes) or dialect.locked_words.search(reason):
        return DatabaseLocked(database.name, reason)
    if dialect.standby_words.search(reason):
        return StandbyConflict(database.name, reason)
    if passes or (not code and dialect.is_passing(error, reason)):
        return DatabaseUnavailable(database.name, reason)
    if database.url.get_backend_name() == "duckdb" and database.url.database == ":memory:":
        return FilesFailed(database.name, reason)  # no connection of the settings: it reads the files of a source
    if "penstock_" in statement:
        return QueryFailed(database.name, reason, LEDGER_STATEMENT)
    return QueryFailed(database.name, reason)


def _one_line(text: str, url: URL) -> str:
    text = hide_secrets(text, url)
    for quoted in (_VALUES, _CASTS):
        text = quoted.sub(r"\g<said>(…)", text)
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
