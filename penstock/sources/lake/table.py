"""What both formats of a lake's tables give: rows of a version, and the files that may have rows of an interval."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from penstock.errors import StoreRefused, StoreUnavailable, UnreadableTable, VersionGone
from penstock.interval import DataInterval
from penstock.run_types import TableVersion
from penstock.sources.allowed_paths import check_files, check_pattern
from penstock.sources.lake.stores import is_remote

COMMON_ERRORS = (OSError, ValueError, TypeError, KeyError, NotImplementedError, pa.ArrowException)
_GONE = re.compile(r"not found|no such file|does not exist|nosuchkey", re.IGNORECASE)

_FILE = re.compile(r"[^\s'\"]+\.(?:parquet|orc|avro|json|puffin|bin|crc)\b")
_SILENT = re.compile(
    r"tcp connect|connection (?:refused|reset)|timed out|NETWORK_CONNECTION|SlowDown|status code (?:429|50[0234])",
    re.IGNORECASE,
)
_DENIED = re.compile(r"access.?denied|403 forbidden|401 unauthorized|InvalidAccessKeyId", re.IGNORECASE)
_CREDENTIALS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role."
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MOST_SHOWN = 400
_STREAM = re.compile(r"^.*'lake_rows' failed: ")
"""What DuckDB writes before an error of the library whose rows it reads."""


@dataclass(frozen=True)
class TimeRange:
    """The rows of an interval, as a condition that the table itself can judge: `first <= column < last`."""

    column: str
    first: str
    """In ISO 8601, as a value of the column's type."""
    last: str

    @property
    def sql(self) -> str:
        column = '"' + self.column.replace('"', '""') + '"'
        return f"{column} >= '{self.first}' and {column} < '{self.last}'"


class LakeTable(Protocol):
    """A table at one version."""

    @property
    def version(self) -> TableVersion: ...

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What the library raises, beside Python's own errors."""

    def list_files(self, rows: TimeRange | None) -> list[str]:
        """Return the data files that may have such rows, each with what is deleted from it, in any order."""

    def list_places(self) -> list[str]:
        """Return where the files are that would be read, to compare with `PENSTOCK_ROOTS`."""

    def scan(self, rows: TimeRange | None) -> pa.RecordBatchReader:
        """Read the rows, in any order."""

    def count_nulls(self, column: str) -> int:
        """Count the rows without a value in a column."""


def time_range(schema: pa.Schema, column: str | None, interval: DataInterval | None) -> TimeRange | None:
    """Return the interval's condition on the event time. None if all rows are read, or the column is no time."""
    if column is None or interval is None or column not in schema.names:
        return None
    kind = schema.field(column).type
    bounds = (interval.start, interval.end)
    if pa.types.is_date(kind):
        return TimeRange(column, *(_next_midnight(moment).isoformat() for moment in bounds))
    if not pa.types.is_timestamp(kind) or kind.unit == "ns":  # pyiceberg cannot compare nanoseconds
        return None
    return TimeRange(column, *((m if kind.tz else m.replace(tzinfo=None)).isoformat() for m in bounds))


def _next_midnight(moment: datetime) -> date:
    """Return the first day whose midnight is not before the moment."""
    day = moment.date()
    return day if moment == datetime(day.year, day.month, day.day, tzinfo=moment.tzinfo) else day + timedelta(days=1)


def check_places(source: str, table: str, places: Iterable[str], roots: tuple[str, ...]) -> None:
    """Refuse a table with files outside of the allowed folders.

    Raises:
        OutsideRoots: a file is.
    """
    found = list(places)
    for place in found:
        if is_remote(place):
            check_pattern(source, place, roots)
    local = (Path(place.removeprefix("file://")) for place in found if not is_remote(place))
    check_files(source, table, local, roots)


@contextmanager
def translated(
    source: str, version: TableVersion | None, table: str, errors: tuple[type[Exception], ...], *, opens: bool = False
) -> Iterator[None]:
    """Translate errors of the libraries.

    Args:
        errors: those of the format's library.
        version: the one that is read. None while it is looked for.
        opens: whether the version is opened in the block. It was opened before, so any error means that it is gone.

    Raises:
        StoreRefused: the object store denies access.
        StoreUnavailable: it does not answer.
        VersionGone: a file of the version does not exist.
        UnreadableTable: anything else.
    """
    kinds: tuple[type[Exception], ...] = (*COMMON_ERRORS, *errors)
    try:
        yield
    except kinds as error:
        reason = _reason(error)
        if _DENIED.search(reason):
            raise StoreRefused(f"the store of {table}", "access is denied", _CREDENTIALS) from None
        if version is not None and _GONE.search(reason):
            file = _FILE.search(reason)
            what = f"its file {file[0]} was removed" if file else "files of it were removed"
            raise VersionGone(source, version.text, what) from None
        if _SILENT.search(reason):
            raise StoreUnavailable(f"the store of {table}", reason[:_MOST_SHOWN]) from None
        if opens and version is not None:
            raise VersionGone(source, version.text, reason[:_MOST_SHOWN]) from None
        raise UnreadableTable(source, version.text if version else table, reason[:_MOST_SHOWN]) from None


def _reason(error: Exception) -> str:
    """Return the text of an error in one line, without colours and the addresses of calls."""
    text = (
        _STREAM.sub("", _COLOUR.sub("", str(error))).partition("\n   0: ")[0].partition("Detail: Python exception")[0]
    )
    return " ".join(text.replace("↳", "").split()).rstrip(".") or type(error).__name__
