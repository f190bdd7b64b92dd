"""A row's key as people type it: the value, or a JSON object for a key of several columns.

Numbers are compared digit by digit, never as floats.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.errors import SettingsError
from penstock.privacy.key_forms import TypedValue
from penstock.privacy.masking import MaskingPolicy


@dataclass(frozen=True)
class RowKey:
    """The key of one row. Its values are text, as typed."""

    values: Mapping[str, str]
    """By key column."""
    texts: frozenset[str] = frozenset()
    """Columns that are known to be text, so that no other spelling of a value is the same."""

    def typed(self, column: str) -> TypedValue:
        """Return one value."""
        return TypedValue(self.values[column], column in self.texts)

    def matcher(self, masking: MaskingPolicy) -> Callable[[Mapping[str, Any]], bool]:
        """Return what says whether a stored key is this one. Private values are compared by their hashes."""
        parts = {column: self.typed(column).matcher(masking) for column in self.values}
        return lambda key: set(key) == set(parts) and all(is_mine(key[name]) for name, is_mine in parts.items())


def read_row_key(text: str, columns: tuple[str, ...]) -> RowKey:
    """Read a key.

    Raises:
        SettingsError: the text is not a key of these columns.
    """
    if len(columns) == 1 and not text.lstrip().startswith("{"):
        return RowKey({columns[0]: text})
    shown = json.dumps(dict.fromkeys(columns, "…"), ensure_ascii=False)
    try:
        named = json.loads(text, parse_int=str, parse_float=str)  # a float would lose digits
    except ValueError:
        named = None
    if not isinstance(named, dict) or set(named) != set(columns):
        raise SettingsError(f"`{text}` is not a key of these rows", f"Write it as {shown}.")
    return RowKey({column: str(value) for column, value in named.items()})
