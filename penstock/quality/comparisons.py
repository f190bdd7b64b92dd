"""Compare a column with the values of an expectation in SQL, as exactly as Great Expectations does on our frames."""

import math
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from penstock.spec.argument_values import read_time

_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)
"""The texts that `pandas.Timestamp` and Python's `datetime` read as the same time."""
_EXACT_DIGITS = 15
_INT64 = range(-(2**63), 2**64)


def column_sql(name: str, kind: pa.DataType) -> str:
    """Return the column as it is compared."""
    quoted = '"' + name.replace('"', '""') + '"'
    return f"{quoted}::double" if pa.types.is_float32(kind) else quoted


def is_present(name: str, kind: pa.DataType) -> str:
    """Return the condition that a value is neither NULL nor NaN."""
    sql = column_sql(name, kind)
    return f"({sql} is not null and not isnan({sql}))" if not_a_number(kind) else f"({sql} is not null)"


def not_a_number(kind: pa.DataType) -> bool:
    """Whether the type has NaN."""
    return pa.types.is_float32(kind) or pa.types.is_float64(kind)


def is_text(kind: pa.DataType) -> bool:
    """Whether the type is text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def is_exact_decimal(kind: pa.DataType) -> bool:
    """Whether float64 keeps all values of a decimal type apart."""
    return pa.types.is_decimal128(kind) and kind.precision <= _EXACT_DIGITS


def compare_bound(sql: str, operator: str, bound: Any, kind: pa.DataType) -> str | None:
    """Return the comparison of a column with a bound. None if it cannot be compiled.

    Args:
        operator: `>`, `>=`, `<` or `<=`.
    """
    if pa.types.is_integer(kind):
        return _compare_integer(sql, operator, bound)
    if not_a_number(kind):
        return f"({sql} {operator} {_double(bound)})" if is_number(bound) else None
    if pa.types.is_decimal128(kind):
        # DuckDB divides two doubles, which is exact for 15 digits. Its cast of text is exact for any number.
        cast = f"{sql}::double" if is_exact_decimal(kind) else f"{sql}::varchar::double"
        return f"({cast} {operator} {_double(bound)})" if is_number(bound) else None
    if pa.types.is_timestamp(kind) or pa.types.is_date32(kind):
        moment = _moment(bound)
        return None if moment is None else _compare_time(sql, operator, moment, kind)
    return None


def _compare_integer(sql: str, operator: str, bound: Any) -> str | None:
    """Compare integers with a whole number, since DuckDB would compare large ones with a float as floats."""
    if not is_number(bound):
        return None
    whole = math.floor(bound)
    return _compare_floor(sql, operator, str(whole), exact=whole == bound, inside=whole in _INT64, below=whole < 0)


def _compare_time(sql: str, operator: str, moment: datetime, kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return f"({sql} {operator} {_timestamp(moment, kind)})"
    day = moment.date()
    exact = moment == datetime(day.year, day.month, day.day, tzinfo=UTC)
    return _compare_floor(sql, operator, f"date '{day.isoformat()}'", exact=exact, inside=True, below=False)


def _compare_floor(sql: str, operator: str, floor: str, *, exact: bool, inside: bool, below: bool) -> str:
    """Compare whole values with the bound's floor. Between two whole values, `>=` is `>` of the floor."""
    if not inside:
        holds = below if operator.startswith(">") else not below
        return f"({sql} is not null and {str(holds).lower()})"
    if not exact:
        operator = ">" if operator.startswith(">") else "<="
    return f"({sql} {operator} {floor})"


def list_literals(values: Iterable[Any], kind: pa.DataType) -> list[str] | None:
    """Return the SQL literals of the values that a column of this type can equal. None if one cannot be compiled."""
    literals = []
    for value in values:
        literal = _literal(value, kind)
        if literal is None:
            return None
        if literal:
            literals.append(literal)
    return literals


def _literal(value: Any, kind: pa.DataType) -> str | None:
    """Return a literal, or nothing if no value of the type equals it. None if it cannot be compiled."""
    if pa.types.is_boolean(kind):
        return str(value).lower() if isinstance(value, bool) else None
    if is_text(kind):
        return _text(value) if isinstance(value, str) else None
    if pa.types.is_date32(kind) or pa.types.is_timestamp(kind):
        moment = _moment(value)
        return None if moment is None else _time(moment, kind)
    if not is_number(value):
        return None
    if pa.types.is_integer(kind):
        return str(int(value)) if value == math.floor(value) and int(value) in _INT64 else ""
    if not_a_number(kind):
        return _double(value) if float(value) == value else None
    if pa.types.is_decimal128(kind):
        return _decimal(Decimal(repr(value)), kind)
    return None


def is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= 2**1000


def _double(value: float) -> str:
    return f"'{float(value)!r}'::double"


def _decimal(value: Decimal, kind: Any) -> str:
    _sign, digits, exponent = value.normalize().as_tuple()
    assert isinstance(exponent, int)
    if -exponent > kind.scale or len(digits) + exponent > kind.precision - kind.scale:
        return ""
    return f"'{value:f}'::decimal({kind.precision}, {kind.scale})"


def _text(value: str) -> str | None:
    """Return a literal of text. None for text that is not Unicode, or has a NUL, where SQL may end."""
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        return None
    return "'" + value.replace("'", "''") + "'"


def _moment(value: Any) -> datetime | None:
    if isinstance(value, str) and not _TIME.fullmatch(value):
        return None
    if not isinstance(value, str | date):
        return None
    try:
        return read_time(value).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _time(moment: datetime, kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return _timestamp(moment, kind)
    day = moment.date()
    exact = moment == datetime(day.year, day.month, day.day, tzinfo=UTC)
    return f"date '{day.isoformat()}'" if exact else ""


def _timestamp(moment: datetime, kind: Any) -> str:
    """Return a literal in the column's type. A time without a zone is UTC, as everywhere in Penstock."""
    word = "timestamptz" if kind.tz else "timestamp"
    zone = "+00" if kind.tz else ""
    return f"{word} '{moment.replace(tzinfo=None).isoformat(sep=' ')}{zone}'"
