"""A row's key as one text, equal for equal keys whatever source they come from.

It is a JSON object in the order of the columns' names, with the values as text, private ones as their keyed hash:
`{"payment_id": "42"}`.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

import pyarrow as pa

from penstock.privacy.key_forms import write_value
from penstock.privacy.masking import MaskingPolicy
from penstock.privacy.row_key import RowKey


def write_keys(rows: pa.Table, key: Sequence[str], masking: MaskingPolicy) -> list[str | None]:
    """Return the key of each row. None where a part of it is NULL."""
    parts = [[_write_part(name, text) for text in _texts(rows[name], name, masking)] for name in sorted(key)]
    return [None if None in row else "{" + ", ".join(row) + "}" for row in zip(*parts, strict=True)]


def write_key_forms(rows: pa.Table, key: Sequence[str], masking: MaskingPolicy) -> list[tuple[str, ...]]:
    """Return the texts that the ledger may have for the key of each row, the current one first. Empty for a NULL.

    A key without private columns has one. The others are under the former secret, or without the ID of their secret.
    """
    variants = masking.variants if masking.hides(key) else (masking,)
    return [
        tuple(text for text in forms if text is not None)
        for forms in zip(*(write_keys(rows, key, each) for each in variants), strict=True)
    ]


def possible_keys(row_key: RowKey, masking: MaskingPolicy) -> list[str]:
    """Return the texts that a typed key may have: that of each value that it may be, hashed or not."""
    names = sorted(row_key.values)
    written = [[_write_part(name, form) for form in _forms(row_key, name, masking)] for name in names]
    return ["{" + ", ".join(filter(None, parts)) + "}" for parts in product(*written)]


def _write_part(name: str, text: str | None) -> Any:
    return None if text is None else f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(text, ensure_ascii=False)}"


def _texts(column: "pa.ChunkedArray[Any]", name: str, masking: MaskingPolicy) -> Iterable[str | None]:
    values = column.to_pylist()
    texts = (None if value is None else write_value(value) for value in values)
    return map(_hiding(name, masking), texts)


def _hiding(name: str, masking: MaskingPolicy) -> Callable[[str | None], str | None]:
    return masking.hash if masking.hides([name]) else lambda text: text


def _forms(row_key: RowKey, name: str, masking: MaskingPolicy) -> list[str]:
    plain = row_key.typed(name).canonical
    hashed = (masking.possible_hashes(form) for form in plain) if masking.hides([name]) else ()
    return [*plain, *(form for forms in hashed for form in forms)]
