"""Rows of a request: JSON values as Arrow columns of the types that a run has. A value of another kind is refused."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import cached_property
from typing import Any

import pyarrow as pa

from penstock.database.types import TIMESTAMP
from penstock.errors import RequestError, WrongValue
from penstock.wording import plural

NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,9})?")
"""A number in text. Python would also take other scripts' digits, `_` between digits, and infinity."""
_FLOAT_DIGITS = 15
"""Digits that a 64-bit float keeps of every decimal."""
_WHOLE = 2.0**53
_INT64 = 2**63
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?")


@dataclass(frozen=True)
class SourceColumns:
    """The columns of a source that requests bring."""

    source: str
    types: Mapping[str, pa.DataType]
    """Those that rows get, in the order of the source."""
    required: frozenset[str]
    """Those that each row must have. `null` is a value."""

    def make_table(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        """Convert JSON objects to a table. Other keys than the columns are ignored, as a run ignores other columns.

        Raises:
            RequestError: a row is no object, or lacks a column.
            WrongValue: a value is not of its column's type.
        """
        if not all(isinstance(row, dict) for row in rows):
            bad = next(number for number, row in enumerate(rows) if not isinstance(row, dict))
            kind = describe_kind(rows[bad])
            raise RequestError(f"a row is {kind}, not an object", self._place(bad), "Send each row as a JSON object.")
        return self.make_columns({name: [row.get(name, _ABSENT) for row in rows] for name in self.types}, len(rows))

    def make_columns(self, columns: Mapping[str, Sequence[Any]], rows: int) -> pa.Table:
        """Convert columns of JSON values to a table.

        Raises:
            RequestError: a column is missing, or has another number of values.
            WrongValue: a value is not of its column's type.
        """
        arrays = []
        for name, kind in self.types.items():
            values = columns.get(name)
            if values is None:
                values = [_ABSENT] * rows
            if _ABSENT in values:
                values = self._fill(name, values)
            if len(values) != rows:
                raise RequestError(
                    f"`{name}` has {plural(len(values), 'value')} for {plural(rows, 'row')}",
                    self.source,
                    "Send one value for each row.",
                )
            arrays.append(self._array(name, kind, values))
        return pa.Table.from_arrays(arrays, schema=self._schema)

    @cached_property
    def _schema(self) -> pa.Schema:
        return pa.schema(list(self.types.items()))

    def _fill(self, name: str, values: Sequence[Any]) -> list[Any]:
        if name in self.required:
            row = next(number for number, value in enumerate(values) if value is _ABSENT)
            raise RequestError(
                f"`{name}` is missing",
                self._place(row),
                "Send every column that is used; `null` where there is no value.",
            )
        return [None if value is _ABSENT else value for value in values]

    def _array(self, name: str, kind: pa.DataType, values: Sequence[Any]) -> "pa.Array[Any]":
        """Convert at once what is of the right kinds, and otherwise value by value."""
        found = set(map(type, values))
        if found <= _AT_ONCE.get(kind, _NOTHING):
            try:
                return pa.array(values, kind)
            except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
                pass  # a number that is too large, or text with half a character
        read = _READERS.get(kind) or (_read_decimal(kind) if pa.types.is_decimal(kind) else _read_nothing)
        given = []
        for number, value in enumerate(values):
            try:
                given.append(None if value is None else read(value))
            except ValueError as error:
                raise WrongValue(
                    f"`{name}` takes {_NAMES.get(kind, 'a number')}, and has {error}", self._place(number), _REMEDY
                ) from None
        return pa.array(given, kind)

    def _place(self, row: int) -> str:
        return f"row {row} of `{self.source}`"


class _Absent:
    """A key that a row does not have."""

    __slots__ = ()


_ABSENT = _Absent()
_REMEDY = "Send a value of this type, or null"
_NAMES: dict[pa.DataType, str] = {
    pa.string(): "text",
    pa.int64(): "a whole number",
    pa.float64(): "a number",
    pa.bool_(): "true or false",
    pa.date32(): "a date like `2026-01-31`",
    TIMESTAMP: "a time like `2026-01-31T12:00:00Z`",
    pa.null(): "only null, for no run has seen a value of it",
}
_NOTHING = frozenset({type(None)})
_AT_ONCE: dict[pa.DataType, frozenset[type]] = {
    pa.string(): frozenset({str, type(None)}),
    pa.int64(): frozenset({int, type(None)}),
    pa.float64(): frozenset({float, int, type(None)}),
    pa.bool_(): frozenset({bool, type(None)}),
}


def describe_kind(value: Any) -> str:
    """Say which kind of JSON value it is, without the value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(describe_kind(value))
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("text that is no Unicode") from None
    return value


def _read_int(value: Any) -> int:
    if not _is_number(value):
        raise ValueError(describe_kind(value))
    if isinstance(value, float) and not (value.is_integer() and abs(value) < _WHOLE):
        raise ValueError("a number that is not whole, or too large")
    if not -_INT64 <= value < _INT64:
        raise ValueError("a whole number beyond 64 bits")
    return int(value)


def _read_float(value: Any) -> float:
    if not _is_number(value):
        raise ValueError(describe_kind(value))
    try:
        return float(value)
    except OverflowError:
        raise ValueError("a number beyond 64 bits") from None


def _read_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(describe_kind(value))
    return value


def _read_date(value: Any) -> date:
    if not isinstance(value, str):
        raise ValueError(describe_kind(value))
    if not _DATE.fullmatch(value):
        raise ValueError("text that is no such date")
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError("text that is no such date") from None


def _read_time(value: Any) -> datetime:
    """Read a time. Without a zone it is UTC, as in a source."""
    if not isinstance(value, str):
        raise ValueError(describe_kind(value))
    if not (_TIME.fullmatch(value) or _DATE.fullmatch(value)):
        raise ValueError("text that is no such time")
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("text that is no such time") from None


def _read_decimal(kind: Any) -> Callable[[Any], Decimal]:
    """Return a reader of numbers with the digits of the type. Arrow crashes on some exponents, so none reaches it."""
    exact = Context(kind.precision, traps=[InvalidOperation, Inexact])
    step = Decimal(1).scaleb(-kind.scale)

    def read(value: Any) -> Decimal:
        if not (_is_number(value) or isinstance(value, str)):
            raise ValueError(describe_kind(value))
        if isinstance(value, str) and not NUMBER.fullmatch(value):
            raise ValueError("text that is no number")
        number = Decimal(value if isinstance(value, str) else repr(value))
        if not number.is_finite():
            raise ValueError("a number that is not finite")
        if isinstance(value, float) and len(number.normalize().as_tuple().digits) > _FLOAT_DIGITS:
            raise ValueError(
                f"a number with more than {_FLOAT_DIGITS} digits, which JSON does not keep: send it as text"
            )
        try:
            return number.quantize(step, context=exact)
        except (InvalidOperation, Inexact):
            before, after = kind.precision - kind.scale, kind.scale
            raise ValueError(f"more digits than {before} before and {after} after the point") from None

    return read


def _read_nothing(value: Any) -> None:
    raise ValueError(describe_kind(value))


_READERS: dict[pa.DataType, Callable[[Any], Any]] = {
    pa.string(): _read_text,
    pa.int64(): _read_int,
    pa.float64(): _read_float,
    pa.bool_(): _read_bool,
    pa.date32(): _read_date,
    TIMESTAMP: _read_time,
}
