"""Convert Arrow columns to frames that the pandas engine judges correctly, and arguments to the columns' types.

An expectation reads a column through one of five **views**: `value`; `text`, as Arrow writes it; `json`, text without
the values that do not parse; `bounds`, with decimals as float64, since the library reads bounds as float64; `number`,
with all numbers as float64. NaN counts as NULL everywhere.
"""

import json
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from penstock.database.decimals import to_float
from penstock.spec.expectation import Expectation

View = Literal["value", "text", "json", "bounds", "number"]
Column: TypeAlias = "pa.ChunkedArray[Any]"

_TEXT_TYPES = {
    "expect_column_value_lengths_to_be_between",
    "expect_column_value_lengths_to_equal",
    "expect_column_values_to_be_dateutil_parseable",
    "expect_column_values_to_be_json_parseable",
    "expect_column_values_to_match_regex",
    "expect_column_values_to_match_regex_list",
    "expect_column_values_to_match_strftime_format",
    "expect_column_values_to_not_match_regex",
    "expect_column_values_to_not_match_regex_list",
}
_BOUNDS_TYPES = {
    "expect_column_max_to_be_between",
    "expect_column_min_to_be_between",
    "expect_column_values_to_be_between",
}
_NUMBER_TYPES = {
    "expect_column_kl_divergence_to_be_less_than",
    "expect_column_mean_to_be_between",
    "expect_column_median_to_be_between",
    "expect_column_quantile_values_to_be_between",
    "expect_column_stdev_to_be_between",
    "expect_column_sum_to_be_between",
    "expect_column_value_z_scores_to_be_less_than",
}
_SET_TYPES = {"expect_column_values_to_be_in_set", "expect_column_values_to_not_be_in_set"}
_EXACT = 2**53
_EXACT_DIGITS = 15


def view_of(type_: str) -> View:
    """Return the view of its columns that an expectation judges."""
    if type_ == "expect_column_values_to_match_json_schema":
        return "json"
    if type_ in _TEXT_TYPES:
        return "text"
    if type_ in _BOUNDS_TYPES:
        return "bounds"
    return "number" if type_ in _NUMBER_TYPES else "value"


def make_frame(table: pa.Table, columns: Iterable[str], view: View) -> pd.DataFrame:
    """Convert the named columns to a frame with a fresh RangeIndex. Positions are those of the table."""
    convert = {"value": _as_value, "text": _as_text, "json": _as_json, "bounds": _as_bounds, "number": _as_number}[view]
    return pd.DataFrame(
        {name: convert(table[name]) for name in dict.fromkeys(columns)}, index=pd.RangeIndex(table.num_rows)
    )


def _as_value(column: Column) -> pd.Series:
    """Convert a column exactly, if possible to a dtype that the engine compares without a Python loop."""
    column = _decode(column)
    kind = column.type
    if pa.types.is_integer(kind):
        return _integers(column)
    if pa.types.is_floating(kind):
        return _pandas(column.cast(pa.float64()))
    if pa.types.is_decimal(kind):
        return _pandas(to_float(column)) if _fits_float(column) else _objects(column)
    if pa.types.is_date(kind):
        return _pandas(column.cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC")))
    if pa.types.is_timestamp(kind):
        return _pandas(column.cast(pa.timestamp(kind.unit, "UTC")))
    if pa.types.is_boolean(kind) and column.null_count:
        return _objects(column)
    return _pandas(column)


def _integers(column: Column) -> pd.Series:
    """Return int64, or float64 if there are NULLs, or Python's integers if float64 does not hold all values exactly.

    Not pandas' Int64, whose NA makes a comparison of two columns neither true nor false. Not int64 for large values:
    pandas compares them with a float bound as floats, while Python compares exactly.
    """
    if _largest(column) >= _EXACT:
        return _objects(column)
    return _pandas(column.cast(pa.float64() if column.null_count else pa.int64()))


def _as_bounds(column: Column) -> pd.Series:
    column = _decode(column)
    return _pandas(to_float(column)) if pa.types.is_decimal(column.type) else _as_value(column)


def _as_number(column: Column) -> pd.Series:
    column = _decode(column)
    if pa.types.is_decimal(column.type):
        return _pandas(to_float(column))
    if pa.types.is_integer(column.type):
        return _pandas(column.cast(pa.float64(), safe=False))
    return _as_value(column)


def _as_text(column: Column) -> pd.Series:
    column = _decode(column)
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return _pandas(column)
    return _pandas(column.cast(pa.large_string()))


def _as_json(column: Column) -> pd.Series:
    """Replace text that is not JSON by NULL, since the engine raises for it as if the schema were wrong."""
    broken = find_broken_json(column)
    text = _as_text(column).astype(object)
    text[broken] = None
    return text


def find_broken_json(column: Column) -> list[int]:
    """Return the positions of values that are not NULL and do not parse as JSON."""
    return [position for position, value in enumerate(_as_text(column)) if _is_broken_json(value)]


def _is_broken_json(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return True
    return False


def _decode(column: Column) -> Column:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _pandas(column: Column) -> pd.Series:
    return column.to_pandas()


def _objects(column: Column) -> pd.Series:
    """Return Python's own values, with NaN for NULL: unlike None, it can be compared, and is never true."""
    series = pd.Series(column.to_pylist(), dtype=object)
    return series.where(series.notna(), np.nan)


def _largest(column: Column) -> int:
    bounds: Any = pc.min_max(column).as_py()
    return max((abs(b) for b in bounds.values() if b is not None), default=0)


def _fits_float(column: Column) -> bool:
    """Whether the decimals have so few digits that float64 keeps them distinct, and writes them back unchanged."""
    if column.type.precision <= _EXACT_DIGITS:
        return True
    return bool(abs(_largest(column)) * Decimal(10) ** column.type.scale < 10**_EXACT_DIGITS)


# --- arguments ---------------------------------------------------------------------------------


def fit_arguments(expectation: Expectation, table: pa.Table) -> dict[str, Any]:
    """Return the arguments with values in the types of the columns that they are compared with.

    Raises:
        ValueError: a value for a column of times is not a time.
    """
    fitted = dict(expectation.arguments)
    columns = [_decode(table[name]) for name in expectation.columns]
    view = view_of(expectation.type)
    if not columns or view in ("text", "json"):
        return fitted
    for name in ("min_value", "max_value"):
        if name in fitted:
            fitted[name] = _fit(fitted[name], columns[0], view)
    if isinstance(fitted.get("value_set"), (list, tuple, set, frozenset)):
        values = [_fit(v, columns[0], view) for v in fitted["value_set"]]
        fitted["value_set"] = _fit_set(expectation.type, values, columns[0])
    if isinstance(fitted.get("value_pairs_set"), (list, tuple)):
        fitted["value_pairs_set"] = [
            tuple(_fit(v, column, view) for v, column in zip(pair, columns, strict=True))
            for pair in fitted["value_pairs_set"]
        ]
    return fitted


def _fit(value: Any, column: Column, view: View) -> Any:
    if (pa.types.is_date(column.type) or pa.types.is_timestamp(column.type)) and isinstance(value, (str, date)):
        return _read_time(value)
    if view == "value" and isinstance(value, float) and pa.types.is_decimal(column.type) and not _fits_float(column):
        return Decimal(str(value))
    return value


def _read_time(value: str | date) -> pd.Timestamp:
    try:
        moment = pd.Timestamp(value)
    except ValueError:
        raise ValueError(f"`{value}` is not a time; write it as in `2026-01-01` or `2026-01-01T06:00:00Z`") from None
    return moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")


def _fit_set(type_: str, values: list[Any], column: Column) -> list[Any]:
    if type_ == "expect_column_most_common_value_to_be_in_set":
        # The engine returns NumPy's datetimes, which equal no other type.
        return [v.tz_localize(None).to_datetime64() if isinstance(v, pd.Timestamp) else v for v in values]
    if pa.types.is_integer(column.type) and type_ in _SET_TYPES:
        # A 1.5 in the set makes pandas compare as floats, where 2**53 + 1 is 2**53. No integer equals 1.5 anyway.
        return [int(v) for v in values if isinstance(v, int) or (isinstance(v, float) and v.is_integer())]
    return values
