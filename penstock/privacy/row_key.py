"""A row's key as people type it: the value, or a JSON object for a key of several columns.

Numbers are compared digit by digit, never as floats.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from penstock.errors import SettingsError
from penstock.privacy.masking import MaskingPolicy

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,4})?", re.ASCII)


@dataclass(frozen=True)
class RowKey:
    """The key of one row. Its values are text, as typed."""

    values: Mapping[str, str]
    """By key column."""

    def is_key(self, key: Mapping[str, Any], masking: MaskingPolicy) -> bool:
        """Whether a stored key is this one. Private values are compared by their hashes."""
        return set(key) == set(self.values) and all(
            same_value(key[c], text, masking) for c, text in self.values.items()
        )


def same_value(value: Any, text: str, masking: MaskingPolicy) -> bool:
    """Whether a stored value is the typed one or its hash."""
    if value is None:
        return False
    if isinstance(value, bool):
        return str(value).lower() == text.lower()
    if isinstance(value, int | float | Decimal):
        return read_number(text) == Decimal(str(value))
    return str(value) == text or (bool(masking.columns) and str(value) in masking.possible_hashes(text))


def read_number(text: str) -> Decimal | None:
    """Read a typed number with all its digits. None if the text is not a finite number."""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


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
