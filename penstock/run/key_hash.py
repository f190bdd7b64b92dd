"""Hash the keys of rows, so that every partition size, runner and database chooses the same rows."""

import hashlib
from decimal import Decimal
from typing import Any

import pyarrow as pa

from penstock.wording import write_decimal

SPACE = 2**64
"""Hashes are from 0 to below this number."""


def hash_keys(keys: pa.Table, *salt: str) -> list[int]:
    """Return a hash of each key. Another salt gives other ones.

    Args:
        keys: The key columns, in any order.
    """
    columns = [keys[name].to_pylist() for name in sorted(keys.column_names)]
    return [_hash_values((*salt, *values)) for values in zip(*columns, strict=True)]


def _hash_values(values: tuple[Any, ...]) -> int:
    text = "\x1f".join(map(_write_value, values))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _write_value(value: Any) -> str:
    """Write a value so that each database's type of it gives the same text: 5, 5.0 and Decimal("5.00") are `5`."""
    if isinstance(value, float | Decimal):
        exact = Decimal(repr(value)) if isinstance(value, float) else value
        return write_decimal(exact) if exact.is_finite() else str(value)
    return str(value)
