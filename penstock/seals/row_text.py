"""Write rows as bytes that are equal for equal rows, whichever database has stored them in between.

A row is its columns in the order of their names. NULLs are left out, so a column that is added later changes no row.
Each other column is `length:name=length:text`, and the text of a value does not depend on its type: 5, 5.0 and the
decimal 5.00 are `5`. As in a SQLite file, NaN is NULL, and -0.0 is 0.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import pyarrow as pa

from penstock.database.types import compute
from penstock.interval import as_utc
from penstock.wording import write_decimal

Kind = Literal["number", "flag", "day", "time", "text"]
_FLAGS = {"1": "true", "True": "true", "true": "true", "0": "false", "False": "false", "false": "false"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER_TEXT = re.compile(r"[-+.0-9a-zA-Z]+", re.ASCII)


def kind_of(kind: pa.DataType) -> Kind:
    """Return how values of an Arrow type are written."""
    if pa.types.is_boolean(kind):
        return "flag"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_date(kind):
        return "day"
    return "time" if pa.types.is_timestamp(kind) else "text"


def write_rows(rows: pa.Table, kinds: Mapping[str, Kind] | None = None) -> list[bytes]:
    """Return each row as bytes.

    Args:
        kinds: By column, if the types of the table do not show them. A value that is not of its kind is written as it
            is, so the row differs from every row of that kind.
    """
    parts = [_write_part(name, write_column(rows[name], (kinds or {}).get(name))) for name in sorted(rows.column_names)]
    if not parts:
        return [b""] * rows.num_rows
    joined: Any = compute.binary_join_element_wise(*parts, pa.scalar("", pa.large_string()))
    written: list[bytes] = joined.cast(pa.large_binary()).to_pylist()
    return written


def write_column(column: "pa.ChunkedArray[Any]", kind: Kind | None = None) -> "pa.ChunkedArray[Any]":
    """Return the text of each value."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    stated = kind or kind_of(column.type)
    if pa.types.is_null(column.type):
        return column.cast(pa.large_string())
    if pa.types.is_integer(column.type) and stated == "number":
        return column.cast(pa.large_string())
    if pa.types.is_floating(column.type) and stated == "number":
        return _write_floats(column)
    if pa.types.is_timestamp(column.type) and stated == "time":
        return column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64()).cast(pa.large_string())
    if pa.types.is_string(column.type) and stated == "text":
        return column.cast(pa.large_string())
    return _as_texts([None if value is None else _write_value(value, stated) for value in column.to_pylist()])


def _as_texts(values: list[str | None]) -> "pa.ChunkedArray[Any]":
    return pa.chunked_array([pa.array(values, pa.large_string())])


def _write_floats(column: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    """Write the shortest decimal number that gives the float, without an exponent."""
    texts = column.cast(pa.float64()).cast(pa.large_string())
    if not compute.any(compute.match_substring_regex(texts, "e|nan|^-0$")).as_py():
        return texts
    return _as_texts([None if text is None else _write_number(text) for text in texts.to_pylist()])


def _write_number(text: str) -> str | None:
    """Write a number that is given as text. None for NaN, and text that is no number as it is."""
    if not _NUMBER_TEXT.fullmatch(text):  # Decimal reads `0.1_2` as well
        return text
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    if number.is_nan():
        return None
    return write_decimal(number) if number.is_finite() else ("-inf" if number < 0 else "inf")


def _write_value(value: Any, kind: Kind) -> str | None:
    if kind == "number":
        return _write_number(str(value))
    if kind == "flag":
        return _FLAGS.get(str(value), str(value))
    if kind == "time":
        return _write_time(value)
    return value if isinstance(value, str) else _write_other(value)


def _write_time(value: Any) -> str:
    try:
        moment = as_utc(datetime.fromisoformat(value) if isinstance(value, str) else value)
    except (ValueError, TypeError, AttributeError):
        return str(value)
    return str((moment - _EPOCH) // (datetime.resolution))


def _write_other(value: Any) -> str:
    """Write a date as ISO text, a list or a struct as JSON."""
    return (
        json.dumps(value, default=str, ensure_ascii=False, sort_keys=True)
        if isinstance(value, dict | list)
        else str(value)
    )


def _write_part(name: str, texts: "pa.ChunkedArray[Any]") -> Any:
    """Return `length:name=length:text` for each value, and nothing for NULL."""
    begin = pa.scalar(f"{len(name.encode())}:{name}=", pa.large_string())
    lengths = compute.binary_length(texts).cast(pa.large_string())
    colon, nothing = pa.scalar(":", pa.large_string()), pa.scalar("", pa.large_string())
    return compute.fill_null(compute.binary_join_element_wise(begin, lengths, colon, texts, nothing), "")
