"""A row's key as one text, equal for equal keys whatever source they come from.

It is a JSON object with the values as text, private ones as their keyed hash: `{"payment_id": "42"}`.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import product
from typing import Any

import pyarrow as pa

from penstock.database.decimals import write_decimal
from penstock.interval import as_utc
from penstock.privacy.masking import MaskingPolicy
from penstock.privacy.row_key import RowKey, read_number


def write_keys(rows: pa.Table, key: Sequence[str], masking: MaskingPolicy) -> list[str | None]:
    """Return the key of each row. None where a part of it is NULL."""
    parts = [[_write_part(name, text) for text in _texts(rows[name], name, masking)] for name in key]
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


def possible_keys(row_key: RowKey, key: Sequence[str], masking: MaskingPolicy) -> list[str]:
    """Return the texts that a key may have which a person typed: its number with zeros or without, hashed or not."""
    written = [[_write_part(name, form) for form in _forms(row_key.values[name], name, masking)] for name in key]
    return ["{" + ", ".join(filter(None, parts)) + "}" for parts in product(*written)]


def _write_part(name: str, text: str | None) -> Any:
    return None if text is None else f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(text, ensure_ascii=False)}"


def _texts(column: "pa.ChunkedArray[Any]", name: str, masking: MaskingPolicy) -> Iterable[str | None]:
    values = column.to_pylist()
    texts = (None if value is None else write_value(value) for value in values)
    return map(_hiding(name, masking), texts)


def _hiding(name: str, masking: MaskingPolicy) -> Callable[[str | None], str | None]:
    return masking.hash if masking.hides([name]) else lambda text: text


def write_value(value: Any) -> str:
    """Return a value as text that is equal for equal values: a whole number has no point, a time is in UTC."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return as_utc(value).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float | Decimal):
        number = Decimal(str(value))
        return write_decimal(number) if number.is_finite() else str(value)
    return str(value)


def _forms(text: str, name: str, masking: MaskingPolicy) -> list[str]:
    number = read_number(text)
    plain = dict.fromkeys((text, *([] if number is None else [write_decimal(number)]), *_as_moment(text)))
    hashed = (masking.possible_hashes(form) for form in plain) if masking.hides([name]) else ()
    return [*plain, *(form for forms in hashed for form in forms)]


def _as_moment(text: str) -> list[str]:
    try:
        return [as_utc(datetime.fromisoformat(text)).isoformat()]
    except ValueError:
        return []
