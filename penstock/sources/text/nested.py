"""Read nested JSON values as SQL values, so that `"user".age` works. The shape is that of all rows."""

import json
from typing import Any

import sqlalchemy as sa

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
    written = json.dumps(shape, ensure_ascii=False)
    return f"json_transform(cast({text} as JSON), {quoted(written)})"


def _settle(shape: Any) -> Any:
    """Return the shape with text where it is open."""
    if isinstance(shape, dict):
        twins = {name.casefold() for name in shape}
        return (
            {name: _settle(kind) for name, kind in shape.items()} if len(twins) == len(shape) and shape else "VARCHAR"
        )
    if isinstance(shape, list):
        return [_settle(kind) for kind in shape]
    return "VARCHAR" if shape in _OPEN else shape
