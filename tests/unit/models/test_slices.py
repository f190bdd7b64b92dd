"""Counts by slice add up to the counts of all rows."""

import numpy as np
import pyarrow as pa
import pytest

from penstock.errors import MissingColumns
from penstock.models.columns import read_column
from penstock.models.manifest import Feature
from penstock.models.profile import count_column, edges_of
from penstock.models.slices import NULL, RowSlices, count_slices, slice_rows
from penstock.run_types import MOST_SLICES, BinCounts, ColumnBins, add_profiles, add_slices
from penstock.spec.yaml_file import parse_pipeline
from tests.shop import SPEC

PIPELINE = parse_pipeline(f"{SPEC}drift: {{slices: [shop]}}\n".encode(), "x")
EDGES = (1.0, 2.0, 2.5, 40.0)


def bins_of(name: str, kind: str, edges: tuple[object, ...], width: int) -> ColumnBins:
    return ColumnBins(name, "score", name, "m/1", "features", kind, edges, BinCounts((0,) * width, 0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("feature", "values", "bins"),
    [
        (
            Feature(name="x", dtype="float"),
            [1.0, 2.0, 2.1, None, float("nan"), 1e300, float("inf"), 40.0, 41.0, -3.0],
            bins_of("x", "number", EDGES, 6),
        ),
        (Feature(name="x", dtype="int"), ["1", "2", "no", None, "3", "40", "7", "8", "x", "0"], None),
        (Feature(name="x", dtype="bool"), [True, False, None, True] * 2 + [False, None], None),
        (
            Feature(name="x", dtype="category", categories=("DE", "FR")),
            ["DE", "FR", "XX", None, "DE", "YY", "FR", "DE", None, "XX"],
            bins_of("x", "category", ("DE", "FR"), 3),
        ),
    ],
)
def test_the_counts_of_the_slices_add_up(feature: Feature, values: list[object], bins: ColumnBins | None) -> None:
    width = {"int": 6, "bool": 3}.get(feature.dtype, 0)
    bins = bins or bins_of("x", "number" if feature.dtype == "int" else "category", EDGES, width)
    column = read_column(feature, pa.chunked_array([pa.array(values)]))
    slicing = {"shop": RowSlices(("a", "b", "c"), np.arange(len(values)) % 3)}
    sliced = count_slices([column], [bins], slicing)["shop"]
    assert sliced is not None
    assert add_profiles(sliced.values()) == {"x": count_column(column, edges_of(bins))}
    assert [each["x"].rows for each in sliced.values()] == [4, 3, 3]


def test_a_slice_has_one_name_whatever_the_type_of_its_partition() -> None:
    whole = slice_rows(PIPELINE, pa.table({"shop": pa.array([7, 8], pa.int64())}))["shop"]
    with_null = slice_rows(PIPELINE, pa.table({"shop": pa.array([8.0, None])}))["shop"]
    assert whole is not None
    assert with_null is not None
    assert (whole.values, with_null.values) == (("7", "8"), ("8", NULL))


def test_a_column_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(MissingColumns, match=r"the features, for `drift.slices`,"):
        slice_rows(PIPELINE, pa.table({"store": [1]}))


def test_too_many_values_are_too_many_however_the_rows_are_cut() -> None:
    parts = [{"shop": {str(n): {"x": BinCounts((1,), 0)}}} for n in range(MOST_SLICES + 1)]
    assert add_slices(parts) == {"shop": None}
    assert add_slices([{"shop": None}, parts[0]]) == {"shop": None}
    assert len(add_slices(parts[:-1])["shop"] or {}) == MOST_SLICES
    many = pa.table({"shop": [str(n) for n in range(MOST_SLICES + 1)]})
    assert slice_rows(PIPELINE, many) == {"shop": None}
