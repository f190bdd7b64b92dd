"""Convert one feature's column from Arrow to what the model takes, and find the rows that it cannot take.

NULL and NaN are missing values, which every feature may have. Nothing else is repaired: text is not a number, 2.5 is
not an integer, and an unseen category is not replaced by a known one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.database.decimals import to_float
from penstock.models.manifest import Feature, Scalar
from penstock.run_types import Misfit

_LARGEST = float(np.finfo(np.float32).max)
"""XGBoost computes in 32 bits: larger numbers become infinite."""

_FLOAT32_EXACT = 2.0**24
"""A float32 holds every whole number up to this one."""

_SHOWN = 80
"""Characters of an unseen category that a reason shows. The quarantined row has all of them."""

Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class FeatureColumn:
    """Values in a NumPy dtype that XGBoost reads. Missing is NaN, or -1 for category codes."""

    feature: Feature
    values: Numbers
    misfits: dict[int, Misfit] = field(default_factory=dict)
    """By row position: why the model cannot take the value."""

    def scalar(self, row: int) -> Scalar:
        """Return the value of one row as the manifest's golden rows store it."""
        value = self.values[row]
        if self.feature.dtype == "category":
            return None if value < 0 else self.feature.categories[value]
        if np.isnan(value):
            return None
        if self.feature.dtype == "bool":
            return bool(value)
        return int(value) if self.feature.dtype == "int" else float(value)


def read_column(feature: Feature, column: "pa.ChunkedArray[Any]", missing: float | None = None) -> FeatureColumn:
    """Convert a table's column for its feature. Copy only if its type, NULLs or chunks need it.

    Args:
        missing: a number, or the code of a category, that is a missing value, compared in 32 bits as XGBoost does.
    """
    array: Any = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_null(array.type):
        return _all_missing(feature, len(array))
    if feature.dtype == "category":
        return _read_category(feature, array, missing)
    return _read_number(feature, array, missing)


def read_margin(name: str, column: "pa.ChunkedArray[Any]") -> FeatureColumn:
    """Convert a column of base margins. Unlike a feature, it needs a number in each row."""
    margin = read_column(Feature(name=name, dtype="float"), column)
    lacking = np.flatnonzero(np.isnan(margin.values)).tolist()
    misfits = dict.fromkeys(lacking, Misfit(name, "no base margin")) | margin.misfits
    return FeatureColumn(margin.feature, margin.values, misfits)


def golden_array(feature: Feature, values: list[Scalar]) -> "pa.Array[Any]":
    """Build an Arrow column of the feature's own type from a manifest's values."""
    types = {"float": pa.float64(), "int": pa.int64(), "bool": pa.bool_(), "category": pa.string()}
    return pa.array(values, types[feature.dtype])


def is_text(type_: pa.DataType) -> bool:
    return pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)


def is_number(type_: pa.DataType) -> bool:
    return pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_)


def count_large_integers(column: "pa.ChunkedArray[Any]") -> int:
    """Count the whole numbers beyond 2^24 of an integer column. Columns of other types have none."""
    kind = column.type
    if not (pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)):
        return 0
    extremes: Any = pc.min_max(column).as_py()
    if extremes["min"] is None or max(abs(extremes["min"]), abs(extremes["max"])) <= _FLOAT32_EXACT:
        return 0
    numbers = column.cast(pa.float64(), safe=False) if pa.types.is_integer(kind) else to_float(column)
    values: Numbers = numbers.to_numpy()
    return int(np.count_nonzero(np.abs(values) > _FLOAT32_EXACT))


def _all_missing(feature: Feature, rows: int) -> FeatureColumn:
    if feature.dtype == "category":
        return FeatureColumn(feature, np.full(rows, -1, np.int32))
    return FeatureColumn(feature, np.full(rows, np.nan, np.float32))


def _read_number(feature: Feature, array: "pa.Array[Any]", missing: float | None) -> FeatureColumn:
    if not (is_number(array.type) or pa.types.is_boolean(array.type)):
        return _wrong_type(feature, array)
    values = _without(_numbers(array), missing)
    misfits: dict[int, Misfit] = {}
    if not pa.types.is_boolean(array.type):
        for bad, why in _misfit_numbers(feature, values):
            misfits = dict.fromkeys(np.flatnonzero(bad).tolist(), Misfit(feature.name, why)) | misfits
    return FeatureColumn(feature, values, misfits)


def _numbers(array: "pa.Array[Any]") -> Numbers:
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
        array = array.cast(pa.float32()) if array.null_count else array
    elif pa.types.is_decimal(array.type):
        array = to_float(array)
    elif pa.types.is_float16(array.type):
        array = array.cast(pa.float64())
    elif pa.types.is_integer(array.type) and array.null_count:
        # Directly to 32 bits, as XGBoost does: by way of 64 bits a number would be rounded twice, and a row's score
        # would depend on whether another row of its partition is NULL.
        array = array.cast(pa.float32(), safe=False)
    values: Numbers = array.to_numpy(zero_copy_only=False)
    return values


def _without(values: Numbers, missing: float | None) -> Numbers:
    """Return the numbers with NaN for those that are the missing value."""
    if missing is None:
        return values
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    found = narrow == np.float32(missing)
    if not found.any():
        return values
    values = values.copy() if values.dtype == np.float64 else narrow
    values[found] = np.nan
    return values


def _misfit_numbers(feature: Feature, values: Numbers) -> Iterator[tuple[Numbers, str]]:
    """Yield the mask and the reason of each kind of misfit, the gravest first. A look at the extremes is cheap."""
    floating = values.dtype.kind == "f"
    if floating and values.size and max(np.fmax.reduce(values), -np.fmin.reduce(values)) > _LARGEST:
        yield np.abs(values) > _LARGEST, "not finite"
    if feature.dtype == "int" and floating:
        yield (values != np.floor(values)) & ~np.isnan(values), "not a whole number"
    if feature.dtype == "bool":
        yield (values != 0) & (values != 1) & ~np.isnan(values), "not a boolean"


def _read_category(feature: Feature, array: "pa.Array[Any]", missing: float | None) -> FeatureColumn:
    if not (is_text(array.type) or is_number(array.type)):
        return _wrong_type(feature, array)
    text = category_text(array)
    found = pc.index_in(text, value_set=pa.array(feature.categories, text.type))
    codes = found.fill_null(-1).to_numpy(zero_copy_only=False)
    misfits: dict[int, Misfit] = {}
    if found.null_count != text.null_count:
        unseen = np.flatnonzero(pc.and_(pc.is_null(found), pc.is_valid(text)).to_numpy(zero_copy_only=False))
        names: list[Any] = text.take(pa.array(unseen, pa.int64())).to_pylist()
        misfits = {
            int(row): Misfit(feature.name, "unseen category", _shortened(name))
            for row, name in zip(unseen, names, strict=True)
        }
    return FeatureColumn(
        feature, codes if missing is None else np.where(codes == missing, np.int32(-1), codes), misfits
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def category_text(array: "pa.Array[Any]") -> "pa.Array[Any]":
    """Return categories as text. Whole floats become integers: an integer column with NULLs is read as float."""
    if is_text(array.type):
        return array.cast(pa.string()) if pa.types.is_string_view(array.type) else array
    if pa.types.is_integer(array.type) or (pa.types.is_decimal(array.type) and array.type.scale == 0):
        return array.cast(pa.string())
    numbers = to_float(array) if pa.types.is_decimal(array.type) else array.cast(pa.float64())
    numbers = pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
    whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), pa.scalar(2.0**53)))
    as_integers = pc.if_else(whole, numbers, 0.0).cast(pa.int64()).cast(pa.string())
    text: pa.Array[Any] = pc.if_else(whole, as_integers, numbers.cast(pa.string()))
    return text


def _wrong_type(feature: Feature, array: "pa.Array[Any]") -> FeatureColumn:
    """Return a column of missing values. Every value that was not NULL is a misfit."""
    misfit = Misfit(feature.name, f"{array.type} where a {feature.dtype} is needed")
    rows = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
    return FeatureColumn(feature, _all_missing(feature, len(array)).values, dict.fromkeys(rows.tolist(), misfit))
