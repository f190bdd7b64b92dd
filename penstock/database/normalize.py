"""Convert columns from a database or a file to the few types of rows.

These are bool, int64, float64, decimal128, string, date32 and `timestamp[us, UTC]` (a value without a zone is UTC).
Integers that int64 cannot hold become decimals, nested values JSON, all other types text. No value loses a digit here:
only the model turns its features into floats.
"""

from collections.abc import Collection
from typing import Any

import pyarrow as pa

from penstock.database.decimals import read_decimals
from penstock.database.nested import write_nested
from penstock.database.types import EPOCH_MILLISECONDS, MAX_DIGITS, TIMESTAMP, compute
from penstock.errors import InexactColumn

_UINT64 = pa.decimal128(20, 0)
_OTHER_BYTES = (pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
_AS_THEY_ARE = frozenset((pa.bool_(), pa.int64(), pa.float64(), pa.string(), pa.date32(), TIMESTAMP))
_HEX = "\\x"
"""The begin of bytes that are written as hex. Text that begins so is written as hex too."""


def normalized(
    table: pa.Table, declared: pa.Schema | None = None, exact: Collection[str] = (), *, nested: bool = False
) -> pa.Table:
    """Return the table with every column in one of the few types (see the module's docstring).

    Args:
        nested: keep structs, lists and maps, which are written as JSON without this.
        exact: keys and columns to keep. A number of more than 38 digits stays text there. Elsewhere it is a float64.

    Raises:
        InexactColumn: a column of `exact` has times with nanoseconds.
    """
    columns = []
    for field, column in zip(table.schema, table.columns, strict=True):
        position = declared.get_field_index(field.name) if declared is not None else -1
        wanted = declared.field(position).type if declared is not None and position >= 0 else None
        kept = field.name in exact
        if kept:
            _refuse_nanoseconds(field.name, column)
        if (wanted is None and field.type in _AS_THEY_ARE) or (nested and pa.types.is_nested(field.type)):
            columns.append(column)
        elif _is_numeric_text(field.type):
            columns.append(read_decimals(_storage(column), _postgres_decimal(field), exact=kept))
        else:
            columns.append(_normalize(column, field.name, wanted, exact=kept))
    return pa.table(columns, names=table.column_names)


def _is_numeric_text(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.BaseExtensionType) and getattr(kind, "type_name", "") == "numeric"


def _postgres_decimal(field: "pa.Field[Any]") -> pa.DataType | None:
    """Return the decimal type of a Postgres column, from the modifier of its type. None without one."""
    modifier = int((field.metadata or {}).get(b"POSTGRESQL:typmod", b"-1")) - 4
    precision, scale = modifier >> 16, modifier & 0x7FF
    return pa.decimal128(precision, scale) if 0 < precision <= MAX_DIGITS and scale <= precision else None


def _refuse_nanoseconds(name: str, column: "pa.ChunkedArray[Any]") -> None:
    if not pa.types.is_timestamp(column.type) or column.type.unit != "ns":
        return
    micro = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    if not compute.all(compute.equal(micro.cast(column.type), column)).as_py():
        raise InexactColumn(name, "has times with nanoseconds, and Penstock keeps microseconds")


def _normalize(
    column: "pa.ChunkedArray[Any]", name: str, wanted: pa.DataType | None, *, exact: bool
) -> "pa.ChunkedArray[Any]":
    if isinstance(column.type, pa.BaseExtensionType):
        column = _storage(column)
    if pa.types.is_decimal(column.type) and _is_too_wide(column):
        return read_decimals(column.cast(pa.string()), exact=exact)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if any(is_bytes(column.type) for is_bytes in _OTHER_BYTES):
        column = column.cast(pa.binary())
    target = wanted if wanted is not None else _plain(column.type)
    if column.type.equals(target):
        return column
    if pa.types.is_nested(column.type):
        return write_nested(column)
    try:
        if target.equals(TIMESTAMP):
            return _timestamps(column)
        if pa.types.is_boolean(target) and _is_number(column.type) and not _is_flag(column):
            return column.cast(_plain(column.type))
        if pa.types.is_string(target) and pa.types.is_binary(column.type) and _has_hex(column):
            return _written(column)
        return column.cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        # The column contains other values than it declares, which SQLite allows. Keep them.
        return column.cast(_plain(column.type)) if _is_number(column.type) else _written(column)


def _is_too_wide(column: "pa.ChunkedArray[Any]") -> bool:
    """Whether decimals have more than 38 digits. DuckDB gives a HUGEINT of 39 digits as a decimal of 38."""
    if column.type.precision < MAX_DIGITS:
        return False
    if column.type.precision > MAX_DIGITS:
        return True
    extremes = compute.min_max(column).values()
    return any(abs(int(v.as_py().scaleb(column.type.scale))) >= 10**MAX_DIGITS for v in extremes if v.is_valid)


def _has_hex(column: "pa.ChunkedArray[Any]") -> bool:
    """Whether bytes begin like bytes that are written as hex."""
    if not pa.types.is_binary(column.type):
        return False
    return compute.any(compute.starts_with(column, pattern=_HEX)).as_py() is True


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_flag(column: "pa.ChunkedArray[Any]") -> bool:
    """Whether a number column contains only 0 and 1. Arrow would read any other number as true."""
    flags = compute.or_(compute.equal(column, 0), compute.equal(column, 1))
    return compute.all(flags).as_py() is not False


def _written(column: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    """Write each value as text: bytes that are not text as hex, values that Arrow cannot write with Python's `str`."""
    try:
        if not _has_hex(column):
            return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    return pa.chunked_array([pa.array([_write(value) for value in column.to_pylist()], pa.string())])


def _write(value: Any) -> str | None:
    if isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = _HEX
        return f"{_HEX}{value.hex()}" if text.startswith(_HEX) else text
    return None if value is None else str(value)


def _storage(column: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    kind = column.type
    if kind.extension_name == "arrow.uuid":
        return pa.chunked_array([pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())])
    chunks: list[Any] = column.chunks
    storage = pa.chunked_array([chunk.storage for chunk in chunks], kind.storage_type)
    return storage if pa.types.is_string(storage.type) else storage.cast(pa.string())


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_boolean(kind) or pa.types.is_date32(kind):
        return kind
    if pa.types.is_uint64(kind):
        return _UINT64
    if pa.types.is_decimal(kind):
        return pa.decimal128(min(kind.precision - min(kind.scale, 0), MAX_DIGITS), max(kind.scale, 0))
    if pa.types.is_floating(kind):
        return pa.float64()
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_timestamp(kind):
        return TIMESTAMP
    return pa.date32() if pa.types.is_date(kind) else pa.string()


def _timestamps(column: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    kind = column.type
    if pa.types.is_timestamp(kind):
        micro = column.cast(pa.timestamp("us", kind.tz), safe=False)
        aware: pa.ChunkedArray[Any] = micro.cast(TIMESTAMP) if kind.tz else compute.assume_timezone(micro, "UTC")
        return aware
    if pa.types.is_integer(kind):
        largest = max(abs(v.as_py() or 0) for v in compute.min_max(column).values())
        unit: Any = "ms" if largest > EPOCH_MILLISECONDS else "s"
        return column.cast(pa.timestamp(unit)).cast(pa.timestamp("us")).cast(TIMESTAMP)
    if pa.types.is_null(kind):
        return column.cast(TIMESTAMP)
    naive = compute.replace_substring_regex(column.cast(pa.string()), r"(Z|\+00:?00)$", "")
    utc: pa.ChunkedArray[Any] = compute.assume_timezone(naive.cast(pa.timestamp("us")), "UTC")
    return utc
