"""Read nested JSON values as SQL values, so that `"user".age` works. The shape is that of all rows."""

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from penstock.database.types import MAX_DIGITS
from penstock.sources.column_types import quoted

_OPEN = ("JSON", "NULL")
"""What DuckDB calls values of several types, and values that are always null."""


def nested_value(connection: sa.Connection, rows: str, text: str) -> str:
    """Return the SQL of a column's nested values, from its JSON texts. A part of several types is text.

    Args:
        rows: the SQL of all rows.
        text: the SQL of the JSON text.
    """
    shapes = f"select cast(json_group_structure(cast({text} as JSON)) as VARCHAR) from {rows}"  # noqa: S608 # names, quoted
    found = connection.exec_driver_sql(shapes).scalar()
    shape = _settle(json.loads(found)) if found else "VARCHAR"
    if not isinstance(shape, dict | list):
        return text
    for path, holder, place in list(_doubles(shape, "$")):
        holder[place] = _whole_type(connection, rows, text, path) or holder[place]
    written = json.dumps(shape, ensure_ascii=False)
    return f"json_transform(cast({text} as JSON), {quoted(written)})"


def _doubles(shape: Any, path: str) -> Iterator[tuple[str, Any, str | int]]:
    """Yield the JSON path of each part that is stored as DOUBLE, and its place in the shape."""
    parts = shape.items() if isinstance(shape, dict) else enumerate(shape)
    for place, kind in parts:
        step = "[*]" if isinstance(place, int) else "." + json.dumps(place, ensure_ascii=False)
        if kind == "DOUBLE":
            yield path + step, shape, place
        elif isinstance(kind, dict | list):
            yield from _doubles(kind, path + step)


def _whole_type(connection: sa.Connection, rows: str, text: str, path: str) -> str | None:
    """Return the type of whole numbers beyond 64 bits. None if the part has fractions: they are DOUBLE."""
    found = f"json_extract_string(cast({text} as JSON), {quoted(path)})"
    each = f"unnest({found})" if "[*]" in path else found
    query = (
        f"select bool_and(regexp_full_match(v, '-?[0-9]+')), max(length(ltrim(v, '-'))) "  # noqa: S608 # names, quoted
        f"from (select {each} as v from {rows})"
    )
    is_whole, digits = connection.exec_driver_sql(query).one()
    if not is_whole:
        return None
    return f"DECIMAL({MAX_DIGITS}, 0)" if digits <= MAX_DIGITS else "VARCHAR"


def _settle(shape: Any) -> Any:
    """Return the shape with text where it is open."""
    if isinstance(shape, dict):
        twins = {name.casefold() for name in shape}
        is_struct = len(twins) == len(shape) and all(shape) and shape
        return {name: _settle(kind) for name, kind in shape.items()} if is_struct else "VARCHAR"
    if isinstance(shape, list):
        return [_settle(kind) for kind in shape]
    return "VARCHAR" if shape in _OPEN else shape
