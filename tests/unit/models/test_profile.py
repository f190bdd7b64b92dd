"""Counting columns in the bins of a manifest: every row in one bin, and the same counts however rows are cut."""

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
from hypothesis import given

from penstock.models.columns import read_column
from penstock.models.manifest import QUANTILES, Feature
from penstock.models.profile import count_column, find_edges
from penstock.models.reference import describe_column
from penstock.run_types import BinCounts

AMOUNT = Feature(name="amount", dtype="float")
ITEMS = Feature(name="items", dtype="int")
COUNTRY = Feature(name="country", dtype="category", categories=("DE", "FR"))
FIRST = Feature(name="first", dtype="bool")


def count(feature: Feature, values: list[object], edges: list[float] = ()) -> BinCounts:
    return count_column(read_column(feature, pa.chunked_array([pa.array(values)])), np.asarray(edges, np.float32))


def test_an_edge_belongs_to_the_bin_below_it() -> None:
    assert count(AMOUNT, [0.5, 1.0, 1.5, 2.0, 9.0, None], [1.0, 2.0]) == BinCounts((2, 2, 1, 0), 1)


def test_unseen_categories_have_the_last_bin() -> None:
    assert count(COUNTRY, ["DE", "XX", None, "FR", "DE"]) == BinCounts((2, 1, 1), 1)


def test_bools_that_are_none_have_the_last_bin() -> None:
    assert count(FIRST, [True, False, None, True]) == BinCounts((1, 2, 0), 1)
    assert count(FIRST, [1, 0, 7, None]) == BinCounts((1, 1, 1), 1)


def test_values_of_another_type_are_unseen_and_not_null() -> None:
    assert count(AMOUNT, ["a", None, "b"], [1.0]) == BinCounts((0, 0, 2), 1)


def test_an_infinite_number_is_in_the_last_bin_of_numbers() -> None:
    assert count(AMOUNT, [float("inf"), 1.0], [1.0]) == BinCounts((1, 1, 0), 0)


def test_a_value_of_several_quantiles_has_a_bin_of_its_own() -> None:
    edges = find_edges(np.quantile([0.0] * 60 + list(range(1, 41)), QUANTILES))
    counted = count(AMOUNT, [-1.0, 0.0, 0.0], edges.tolist())
    assert counted.counts[:2] == (1, 2)


@given(st.lists(st.one_of(st.none(), st.integers(-(2**30), 2**30)), min_size=1, max_size=60), st.integers(0, 60))
def test_counts_add_up_however_the_rows_are_cut(values: list[int | None], cut: int) -> None:
    known = [value for value in values if value is not None] or [0]
    edges = find_edges(np.quantile(known, QUANTILES)).tolist()
    parts = [part for part in (values[:cut], values[cut:]) if part]
    counted = [count(ITEMS, part, edges) for part in parts]
    whole = count(ITEMS, values, edges)
    assert counted[0] + counted[1] == whole if len(counted) > 1 else counted[0] == whole
    assert whole.rows == len(values)


def test_a_reference_counts_all_of_its_rows() -> None:
    column = read_column(AMOUNT, pa.chunked_array([pa.array([*np.arange(100.0), None, None])]))
    distribution = describe_column(column)
    assert (sum(distribution.counts), distribution.nulls) == (100, 2)
    assert len(distribution.counts) == len(find_edges(distribution.quantiles)) + 2
