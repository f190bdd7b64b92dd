"""Write nested values (structs, lists, maps) as JSON text."""

import json
from typing import Any

import pyarrow as pa


def write_nested(column: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    """Return a nested column as JSON text. A map is an object."""
    texts = [
        None if value is None else json.dumps(_plain(value, column.type), ensure_ascii=False, default=_write)
        for value in column.to_pylist()
    ]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _plain(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {field.name: _plain(value[field.name], field.type) for field in kind.fields}
    if pa.types.is_map(kind):
        return {str(key): _plain(item, kind.item_type) for key, item in value}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [_plain(item, kind.value_type) for item in value]
    return value


def _write(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
