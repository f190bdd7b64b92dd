"""The event time of a source: which types of columns can be compared with an interval, and how they are read."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.types import TIMESTAMP, compute, epoch_unit
from penstock.errors import UnreadableTime

_ISO = (
    r"^(?P<date>\d{4}-\d{2}-\d{2})"
    r"(?:[ T](?P<minute>\d{2}:\d{2})(?P<second>:\d{2})?(?:\.(?P<fraction>\d+))? *"
    r"(?P<zone>Z|z|[+-]\d{2}(?::?\d{2})?)?)?$"
)
_NANOSECONDS = ("TIMESTAMP_NS", "TIMESTAMPTZ_NS", "TIMESTAMP_NS WITH TIME ZONE")
_NUMBERS = ("INT", "DECIMAL", "NUMERIC", "DOUBLE", "FLOAT", "REAL")


@dataclass(frozen=True)
class TimeType:
    """The type of an event time column in a database that has types of time."""

    name: str
    """The type's name in SQL, in upper case."""

    @property
    def is_time(self) -> bool:
        return self.name.startswith(("TIMESTAMP", "DATE"))

    def literal(self, moment: datetime) -> sa.ColumnElement[Any]:
        """Return a moment as a value that this type can be compared with."""
        if self.name in _NANOSECONDS:
            return sa.literal_column(f"CAST('{moment:%Y-%m-%d %H:%M:%S}+00:00' AS {self.name})")
        return sa.literal(moment, sa.DateTime(timezone=True))

    def is_finite(self, time: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        """Return the condition that a time is not infinite."""
        if self.name in _NANOSECONDS:
            time = sa.cast(time, sa.TIMESTAMP(timezone=True))
        return sa.func.isfinite(time)

    def error(
        self, source: str, column: str, value: str, declared: bool, as_time: Callable[..., str]
    ) -> UnreadableTime:
        """Return the error for a column that is no time.

        Args:
            declared: whether the spec declares the types of the source's columns.
            as_time: returns the SQL of a time from a column of another type.
        """
        number = self.name.startswith(_NUMBERS) or "INT" in self.name
        text = self.name.startswith(("VARCHAR", "TEXT"))
        kind = "is a number" if number else "is text" if text else f"has the type {self.name.lower()}"
        if declared:
            format_ = _likely_format(value) if number else "%d.%m.%Y %H:%M"
            way = f'Declare it in the source: `columns: {{{column}: {{type: timestamp, format: "{format_}"}}}}`.'
            return UnreadableTime(source, column, kind, value, way)
        return UnreadableTime(source, column, kind, value, convert_in_query(as_time(column, is_number=number)))


def _likely_format(value: str) -> str:
    """Return the format that a number is likely to have."""
    number = abs(float(value or 0))
    if 19_000_101 <= number <= 21_001_231:
        return "%Y%m%d"
    letters = {"seconds": "s", "milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}
    return f"epoch_{letters[epoch_unit(number)]}"


def convert_in_query(expression: str) -> str:
    """Return the remedy for a time that an SQL expression converts."""
    return f"Add `{expression} as event_time` to a `query:`, and write `interval: {{column: event_time}}`."


def sql_type_name(kind: sa.types.TypeEngine[Any]) -> str:
    """Return the name of a reflected type, for `TimeType`."""
    kind = kind.impl_instance if isinstance(kind, sa.TypeDecorator) else kind
    if isinstance(kind, sa.DateTime):
        return "TIMESTAMP"
    if isinstance(kind, sa.Date):
        return "DATE"
    if isinstance(kind, sa.Integer | sa.Numeric):
        return "NUMERIC"
    return "TEXT" if isinstance(kind, sa.String) else type(kind).__name__.replace("NullType", "unknown").upper()


def read_times(source: str, name: str, column: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    """Read times that SQLite stored as text in ISO 8601 or as epoch numbers.

    Raises:
        UnreadableTime: a value is none of these.
    """
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _read_numbers(column)
    if pa.types.is_null(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return column.cast(TIMESTAMP)
    text = column.cast(pa.string())
    try:
        plain = compute.replace_substring_regex(text, r"(Z|\+00:00)$", "").cast(pa.timestamp("us"))
        times: pa.ChunkedArray[Any] = compute.assume_timezone(plain, "UTC")
    except pa.ArrowInvalid:
        return _read_texts(source, name, text)
    return times


def _read_numbers(column: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    extremes = compute.min_max(column).as_py()
    unit = epoch_unit(max(abs(value or 0) for value in extremes.values()))
    exact = {"seconds": 1_000_000, "milliseconds": 1000, "microseconds": 1}.get(unit)
    if exact is None:
        micro = compute.divide(column.cast(pa.int64(), safe=False), pa.scalar(1000, pa.int64()))
    elif pa.types.is_integer(column.type):
        micro = compute.multiply(column.cast(pa.int64()), pa.scalar(exact, pa.int64()))
    else:
        micro = compute.round(compute.multiply(column, pa.scalar(float(exact)))).cast(pa.int64())
    times: pa.ChunkedArray[Any] = micro.cast(pa.timestamp("us")).cast(TIMESTAMP)
    return times


def _read_texts(source: str, name: str, text: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    """Read texts of several styles: without seconds, with a fraction of any length, with a zone."""
    parts = compute.extract_regex(text, _ISO)
    unread = compute.and_(compute.is_null(parts), compute.is_valid(text))
    if compute.any(unread).as_py():
        raise _no_time(source, name, text.filter(unread)[0].as_py())

    def part(field: str, default: str) -> Any:
        found = compute.struct_field(parts, field)
        return compute.if_else(compute.equal(found, ""), default, found)

    clock = compute.binary_join_element_wise(part("minute", "00:00"), part("second", ":00"), "")
    whole = compute.binary_join_element_wise(compute.struct_field(parts, "date"), clock, " ")
    try:
        seconds = whole.cast(pa.timestamp("s")).cast(pa.int64())
    except pa.ArrowInvalid:
        raise _no_time(source, name, _first_invalid(whole, text)) from None
    fraction = compute.utf8_slice_codeunits(compute.utf8_rpad(part("fraction", "0"), 6, "0"), 0, 6)
    zone = compute.replace_substring_regex(part("zone", "Z"), "^[Zz]$", "+0000")
    zone = compute.utf8_rpad(compute.replace_substring(zone, ":", ""), 5, "0")
    hours, minutes = (compute.utf8_slice_codeunits(zone, *span).cast(pa.int64()) for span in ((1, 3), (3, 5)))
    east = compute.if_else(compute.starts_with(zone, "-"), -60, 60)
    offset = compute.multiply(compute.add(compute.multiply(hours, 60), minutes), east)
    micro = compute.add(compute.multiply(compute.subtract(seconds, offset), 1_000_000), fraction.cast(pa.int64()))
    times: pa.ChunkedArray[Any] = micro.cast(pa.timestamp("us")).cast(TIMESTAMP)
    return times


def _first_invalid(whole: "pa.ChunkedArray[Any]", text: "pa.ChunkedArray[Any]") -> str:
    """Return the first text whose date or clock does not exist, such as the 30th of February."""
    for value, written in zip(whole, text, strict=True):
        try:
            value.cast(pa.timestamp("s"))
        except pa.ArrowInvalid:
            return str(written.as_py())
    return ""


def _no_time(source: str, name: str, value: str) -> UnreadableTime:
    return UnreadableTime(source, name, "is text that is no time in ISO 8601", value)
