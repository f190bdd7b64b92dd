"""Convert columns from a database or a file to the few types of rows.

These are bool, int64, float64, string, date32 and `timestamp[us, UTC]` (a value without a zone is UTC). Decimals
become float64, all other types text.
"""

from typing import Any

import pyarrow as pa

from penstock.database.types import EPOCH_MILLISECONDS, TIMESTAMP, compute


def normalized(table: pa.Table, declared: pa.Schema | None = None) -> pa.Table:
    """Return the table with every column in one of the few types (see the module's docstring)."""
    columns = []
    for field, column in zip(table.schema, table.columns, strict=True):
        position = declared.get_field_index(field.name) if declared is not None else -1
        wanted = declared.field(position).type if declared is not None and position >= 0 else None
        columns.append(_normalize(column, field.name, wanted))
    return pa.table(columns, names=table.column_names)


def _normalize(column: "pa.ChunkedArray[Any]", name: str, wanted: pa.DataType | None) -> "pa.ChunkedArray[Any]":
    if isinstance(column.type, pa.BaseExtensionType):
        column = _storage(column)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    target = wanted if wanted is not None else _plain(column.type)
    if column.type.equals(target):
        return column
    if pa.types.is_list(column.type) or pa.types.is_struct(column.type) or pa.types.is_map(column.type):
        return pa.chunked_array([pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())])
    try:
        if target.equals(TIMESTAMP):
            return _timestamps(column)
        if pa.types.is_boolean(target) and _is_number(column.type) and not _is_flag(column):
            return column.cast(_plain(column.type))
        return column.cast(target, safe=not pa.types.is_uint64(column.type))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        # The column contains other values than it declares, which SQLite allows. Keep them.
        return column.cast(_plain(column.type)) if _is_number(column.type) else _written(column)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_flag(column: "pa.ChunkedArray[Any]") -> bool:
    """Whether a number column contains only 0 and 1. Arrow would read any other number as true."""
    flags = compute.or_(compute.equal(column, 0), compute.equal(column, 1))
    return compute.all(flags).as_py() is not False


def _written(column: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    """Write each value as text: bytes that are not text as hex, values that Arrow cannot write with Python's `str`."""
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.chunked_array([pa.array([_write(value) for value in column.to_pylist()], pa.string())])


def _write(value: Any) -> str | None:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return f"\\x{value.hex()}"
    return None if value is None else str(value)


def _storage(column: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    kind = column.type
    if kind.extension_name == "arrow.uuid":
        return pa.chunked_array([pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())])
    chunks: list[Any] = column.chunks
    storage = pa.chunked_array([chunk.storage for chunk in chunks], kind.storage_type)
    if getattr(kind, "type_name", "") == "numeric":
        return storage.cast(pa.float64())
    return storage if pa.types.is_string(storage.type) else storage.cast(pa.string())


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_boolean(kind) or pa.types.is_date32(kind):
        return kind
    if pa.types.is_uint64(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
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
