"""Exact numbers: Arrow decimals of at most 38 digits, the most that DuckDB can hold.

A number written as text (Postgres's `numeric` without a scale, DuckDB's widest integers) becomes a decimal with as many
digits after the point as its column needs.
"""

from decimal import Decimal
from typing import Any

import pyarrow as pa

from penstock.database.types import MAX_DIGITS, compute
from penstock.wording import write_decimal


def read_decimals(texts: Any, declared: pa.DataType | None = None, *, exact: bool) -> "pa.ChunkedArray[Any]":
    """Convert numbers written as text. NaN becomes NULL.

    Args:
        declared: the decimal type that the source declares for the column.
        exact: return the text where a number is infinite or has more than 38 digits. Otherwise these become float64.
    """
    numbers = _without_letters(texts)
    try:
        if declared is not None:
            column: pa.ChunkedArray[Any] = numbers.cast(declared)
            return column
        scale, digits = _most_digits(numbers)
        if digits > MAX_DIGITS:
            numbers = _rewrite(numbers)  # without zeros at the end there may be few enough
            scale, digits = _most_digits(numbers)
        if digits <= MAX_DIGITS:
            column = numbers.cast(pa.decimal128(MAX_DIGITS, scale))
            return column
    except pa.ArrowInvalid:
        pass  # an infinity, or more digits than declared
    return numbers if exact else to_float(numbers)


def to_float(column: Any) -> Any:
    """Return decimals, or numbers as text, as the nearest float64. Arrow's own cast is off by one in the last place."""
    return column.cast(pa.string()).cast(pa.float64())


def _without_letters(texts: Any) -> "pa.ChunkedArray[Any]":
    """Return the numbers with NULL for NaN, and without exponents. Infinities stay."""
    if not compute.any(compute.match_substring_regex(texts, "[a-zA-Z]")).as_py():
        plain: pa.ChunkedArray[Any] = texts
        return plain
    nan = compute.match_substring(texts, "nan", ignore_case=True)
    return _rewrite(compute.if_else(nan, pa.scalar(None, pa.string()), texts))


def _rewrite(texts: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    values = [None if text is None else write_decimal(Decimal(text)) for text in texts.to_pylist()]
    return pa.chunked_array([pa.array(values, pa.string())])


def _most_digits(texts: "pa.ChunkedArray[Any]") -> tuple[int, int]:
    """Return the most digits after the point, and the most digits in all that a type needs for the numbers."""
    bare = compute.utf8_ltrim(texts, "+-0")
    length, point = compute.binary_length(bare), compute.find_substring(bare, ".")
    whole = compute.if_else(compute.less(point, 0), length, point)
    after = compute.if_else(compute.less(point, 0), 0, compute.subtract(compute.subtract(length, point), 1))
    scale = int(compute.max(after).as_py() or 0)
    return scale, scale + int(compute.max(whole).as_py() or 0)
