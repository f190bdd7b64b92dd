"""Rows as JSON values from which every value comes back as it was, to the bit.

Floats are numbers, or `nan`, `inf` and `-inf`. Decimals, dates and times are text. A date or time beyond Python's
calendar is the number that Arrow has for it. Values of other types are Arrow's own bytes, in base64.
"""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from penstock.database.types import TIMESTAMP

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TIMES = (
    (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND,
    (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND,
)
_DAYS = (date.min.toordinal() - _EPOCH.toordinal(), date.max.toordinal() - _EPOCH.toordinal())


def write_schema(schema: pa.Schema) -> str:
    """Return a schema as text."""
    return base64.b64encode(schema.remove_metadata().serialize().to_pybytes()).decode()


def read_schema(text: str) -> pa.Schema:
    """Read what `write_schema` wrote."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def write_values(rows: pa.Table) -> list[dict[str, Any]]:
    """Return each row as values that JSON has, by column."""
    columns = [_write(rows[name]) for name in rows.column_names]
    return [dict(zip(rows.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def read_values(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return the table of rows that `write_values` wrote.

    Args:
        rows: each has every column of the schema, and may have others.
    """
    arrays = [_read([row[field.name] for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _write(column: "pa.ChunkedArray[Any]") -> list[Any]:
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_null(kind):
        return column.to_pylist()
    if pa.types.is_floating(kind):
        return [_write_float(value) for value in column.to_pylist()]
    if pa.types.is_decimal(kind):
        return _each(str, column.to_pylist())
    if kind == TIMESTAMP:
        return _each(_write_time, column.cast(pa.int64()).to_pylist())
    if kind == pa.date32():
        return _each(_write_day, column.cast(pa.int32()).to_pylist())
    return [_write_bytes(column.slice(row, 1)) for row in range(len(column))]


def _read(values: Sequence[Any], kind: pa.DataType) -> "pa.Array[Any]":
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_null(kind):
        return pa.array(values, kind)
    if pa.types.is_floating(kind):
        return pa.array(_each(float, values), pa.float64()).cast(kind)
    if pa.types.is_decimal(kind):
        return pa.array(_each(Decimal, values), kind)
    if kind == TIMESTAMP:
        return pa.array(_each(_read_time, values), pa.int64()).cast(kind)
    if kind == pa.date32():
        return pa.array(_each(_read_day, values), pa.int32()).cast(kind)
    return pa.concat_arrays([pa.array([], kind), *map(_read_bytes, values)])


def _each(convert: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
    return [None if value is None else convert(value) for value in values]


def _write_float(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def _write_time(number: int) -> str | int:
    return (_EPOCH + number * _MICROSECOND).isoformat() if _TIMES[0] <= number <= _TIMES[1] else number


def _read_time(value: str | int) -> int:
    return value if isinstance(value, int) else (datetime.fromisoformat(value) - _EPOCH) // _MICROSECOND


def _write_day(number: int) -> str | int:
    return date.fromordinal(_EPOCH.toordinal() + number).isoformat() if _DAYS[0] <= number <= _DAYS[1] else number


def _read_day(value: str | int) -> int:
    return value if isinstance(value, int) else date.fromisoformat(value).toordinal() - _EPOCH.toordinal()


def _write_bytes(one: "pa.ChunkedArray[Any]") -> str:
    table, sink = pa.Table.from_arrays([one], ["value"]), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return base64.b64encode(sink.getvalue().to_pybytes()).decode()


def _read_bytes(text: str) -> "pa.Array[Any]":
    with pa.ipc.open_stream(base64.b64decode(text)) as reader:
        array: pa.Array[Any] = reader.read_all().column("value").combine_chunks()
    return array
