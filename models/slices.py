"""Count features and scores for drift by the slices of `drift.slices`, beside the counts of all rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.errors import MissingColumns
from penstock.models.columns import FeatureColumn, Numbers
from penstock.models.profile import edges_of, match_bins
from penstock.privacy.key_forms import write_value
from penstock.run_types import MOST_SLICES, BinCounts, ColumnBins, Profile, SlicedProfile
from penstock.spec.pipeline import Pipeline

NULL = "NULL"
"""The slice of the rows without a value."""


@dataclass(frozen=True)
class RowSlices:
    """To which slice of one column each row belongs."""

    values: tuple[str, ...]
    numbers: Numbers
    """Of each row: the place of its value."""


Slicing = Mapping[str, RowSlices | None]
"""By column of `drift.slices`. None: it has too many values."""


def slice_rows(pipeline: Pipeline, rows: pa.Table) -> Slicing:
    """Return the slices of rows. Empty without `drift.slices`.

    Raises:
        MissingColumns: a column to slice by is not among the features.
    """
    columns = pipeline.drift.slices if pipeline.drift else ()
    lacking = tuple(column for column in columns if column not in rows.column_names)
    if lacking:
        raise MissingColumns("the features, for `drift.slices`,", lacking, tuple(rows.column_names))
    return {column: _slice_by(rows[column]) for column in columns}


def _slice_by(column: "pa.ChunkedArray[Any]") -> RowSlices | None:
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    if len(encoded.dictionary) > MOST_SLICES:
        return None
    texts = [NULL if value is None else write_value(value) for value in encoded.dictionary.to_pylist()]
    values = tuple(dict.fromkeys(texts))
    places = np.array([values.index(text) for text in texts], np.int64)
    return RowSlices(values, places[encoded.indices.to_numpy(zero_copy_only=False)])


def count_slices(columns: Iterable[FeatureColumn], bins: Sequence[ColumnBins], slicing: Slicing) -> SlicedProfile:
    """Count the rows of converted columns that have bins, for each slice."""
    matched = [(column, each) for column, each in match_bins(columns, bins)] if slicing else []
    placed = [(each, find_bins(column, edges_of(each)), len(each.reference.counts)) for column, each in matched]
    found: dict[str, Mapping[str, Profile] | None] = {}
    for name, slices in slicing.items():
        found[name] = None if slices is None else _count_values(slices, placed)
    return found


def _count_values(
    slices: RowSlices, placed: Sequence[tuple[ColumnBins, npt.NDArray[np.int64], int]]
) -> dict[str, dict[str, BinCounts]]:
    found: dict[str, dict[str, BinCounts]] = {value: {} for value in slices.values}
    for bins, places, width in placed:
        cells = slices.numbers * (width + 1) + places
        counts = np.bincount(cells, minlength=len(slices.values) * (width + 1)).reshape(-1, width + 1)
        for value, row in zip(slices.values, counts.tolist(), strict=True):
            found[value][bins.column] = BinCounts(tuple(row[:-1]), row[-1])
    return found


def find_bins(column: FeatureColumn, edges: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return the bin of each row as `count_column` counts it. After the last bin comes one for NULL."""
    misfits = list(column.misfits)
    if column.feature.dtype == "category":
        unseen = len(column.feature.categories)
        places = np.where(column.values < 0, unseen + 1, column.values).astype(np.int64)
        places[misfits] = unseen
        return places
    is_bool = column.feature.dtype == "bool"
    with np.errstate(over="ignore"):
        values = column.values.astype(np.float32)
    unseen = 2 if is_bool else len(edges) + 1
    known = np.where(np.isin(values, (0, 1)), values, 2) if is_bool else np.searchsorted(edges, values, side="left")
    missing = np.isnan(values)
    places = np.where(missing, unseen + 1, known).astype(np.int64)
    unread = np.zeros(len(values), np.bool_)
    unread[misfits] = True
    places[missing & unread] = unseen
    return places
