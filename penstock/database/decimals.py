"""Exact numbers: Arrow decimals of at most 38 digits, the most that DuckDB can hold.

A number written as text (Postgres's `numeric` without a scale, DuckDB's widest integers) becomes a decimal with as many
digits after the point as its column needs.
"""

from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from penstock.database.types import MAX_DIGITS, compute

_ENDLESS = r"(?i)^[-+]?inf"
_EXPONENT = r"[eE]"


def read_decimals(texts: Any, declared: pa.DataType | None = None, *, exact: bool) -> "pa.ChunkedArray[Any]":
    """Convert numbers written as text. NaN becomes NULL.

    Args:
        declared: the decimal type that the source declares for the column.
        exact: return the text where a number is infinite or has more than 38 digits. Otherwise these become float64.
    """
    finite: pa.ChunkedArray[Any] = compute.if_else(
        compute.match_substring_regex(texts, r"(?i)^[-+]?nan$"), pa.scalar(None, pa.string()), texts
    )
    try:
        if declared is not None:
            column: pa.ChunkedArray[Any] = finite.cast(declared)
            return column
        plain = _without_exponents(finite)
        scale, whole = _most_digits(plain)
        if scale + whole <= MAX_DIGITS:
            column = plain.cast(pa.decimal128(MAX_DIGITS, scale))
            return column
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, InvalidOperation):
        pass  # an infinity, or more digits than declared
    return finite if exact else to_float(finite)


def to_float(column: Any) -> Any:
    """Return decimals, or numbers as text, as the nearest float64. Arrow's own cast is off by one in the last place."""
    return column.cast(pa.string()).cast(pa.float64())


def write_decimal(value: Decimal) -> str:
    """Write a decimal as text that is equal for equal numbers: no exponent, no zeros at the end."""
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _without_exponents(texts: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    """Return the numbers without an exponent, and without zeros at the end of a fraction."""
    if compute.any(compute.match_substring_regex(texts, f"{_EXPONENT}|{_ENDLESS}")).as_py():
        values = [None if text is None else write_decimal(Decimal(text)) for text in texts.to_pylist()]
        return pa.chunked_array([pa.array(values, pa.string())])
    trimmed = compute.replace_substring_regex(texts, r"(\.[0-9]*?)0+$", r"\1")
    bare: pa.ChunkedArray[Any] = compute.replace_substring_regex(trimmed, r"\.$", "")
    return bare


def _most_digits(texts: "pa.ChunkedArray[Any]") -> tuple[int, int]:
    """Return the most digits after the point, and the most before it."""
    lengths = (
        compute.max(compute.utf8_length(compute.replace_substring_regex(texts, pattern, ""))).as_py() or 0
        for pattern in (r"^[^.]*\.?", r"^[-+]?0*|\..*$")
    )
    scale, whole = lengths
    return int(scale), int(whole)
