"""A guess in the form that the spec takes, so that it can be shown, and written into the spec."""

from collections.abc import Mapping
from typing import Any

from penstock.sources.column_types import ISO, NUMBER, ColumnType
from penstock.sources.text.dialect import Dialect
from penstock.spec.sources import FilesSource

_ALWAYS = ("encoding", "delimiter", "quote", "header", "null", "decimal", "records")
"""Keys that are shown in any case. Others are shown if they have a value."""
_TYPE_NAMES = {"text": "string", NUMBER: "number", "int": "int", "float": "float", "bool": "bool"}


def guessed_dialect(source: FilesSource, dialect: Dialect) -> dict[str, Any]:
    """Return the keys of `csv:` or `json:` that the source does not state."""
    stated = source.csv if source.format == "csv" else source.json_
    given = {name for name, value in dict(stated).items() if value is not None}
    facts = {name: getattr(dialect, name) for name in dialect.facts() if name not in given}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in facts.items()
        if value or name in _ALWAYS
    }


def guessed_columns(source: FilesSource, types: Mapping[str, str]) -> dict[str, Any]:
    """Return the entries of `columns:` that the source does not declare. Columns without a value have none.

    Args:
        types: the types as a contract stores them.
    """
    entries = {c: _entry(ColumnType.parse(kind)) for c, kind in types.items() if c not in source.declared_columns}
    return {column: entry for column, entry in entries.items() if entry is not None}


def _entry(kind: ColumnType) -> str | dict[str, str] | None:
    if kind.kind in _TYPE_NAMES:
        return _TYPE_NAMES[kind.kind]
    if kind.kind not in ("date", "timestamp") or not kind.format:
        return None
    return kind.kind if kind.format == ISO else {"type": kind.kind, "format": kind.format}
