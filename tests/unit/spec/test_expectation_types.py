"""The lists in `expectation_types` are true: the library has each type, and each runs on a pandas batch."""

from typing import Any

import pyarrow as pa
import pytest

from penstock.quality import judge_rows, judge_whole
from penstock.spec.expectation import Expectation
from penstock.spec.expectation_types import AGGREGATE_TYPES, ALL_TYPES, ROW_COUNT_TYPES, ROW_TYPES, SCHEMA_TYPES

TABLE = pa.table(
    {
        "n": pa.array([1, 2, 3, None]),
        "m": pa.array([0, 2, 9, None]),
        "f": pa.array([1.0, 2.0, 3.0, 100.0]),
        "s": pa.array(["a", "b", "b", None]),
        "k": pa.array([1, 1, 1, 1]),
        "day": pa.array(["2026-01-01", "2026-01-02", "no day", None]),
        "doc": pa.array(['{"a": 1}', '{"a": "x"}', "{", None]),
    }
)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}

# Type: arguments that hold on the table, arguments that do not.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "expect_column_pair_values_a_to_be_greater_than_b": (
        {"column_A": "f", "column_B": "m", "ignore_row_if": "either_value_is_missing", "mostly": 0.5},
        {"column_A": "n", "column_B": "m"},
    ),
    "expect_column_pair_values_to_be_equal": ({"column_A": "s", "column_B": "s"}, {"column_A": "n", "column_B": "m"}),
    "expect_column_pair_values_to_be_in_set": (
        {"column_A": "n", "column_B": "m", "value_pairs_set": [[1, 0], [2, 2], [3, 9]]},
        {"column_A": "n", "column_B": "m", "value_pairs_set": [[1, 0]]},
    ),
    "expect_column_value_lengths_to_be_between": ({"column": "s", "max_value": 1}, {"column": "s", "min_value": 2}),
    "expect_column_value_lengths_to_equal": ({"column": "s", "value": 1}, {"column": "day", "value": 10}),
    "expect_column_values_to_be_between": ({"column": "n", "max_value": 3}, {"column": "n", "max_value": 2}),
    "expect_column_values_to_be_dateutil_parseable": ({"column": "day", "mostly": 0.5}, {"column": "day"}),
    "expect_column_values_to_be_in_set": (
        {"column": "s", "value_set": ["a", "b"]},
        {"column": "s", "value_set": ["a"]},
    ),
    "expect_column_values_to_be_json_parseable": ({"column": "n"}, {"column": "doc"}),
    "expect_column_values_to_be_null": ({"column": "n", "mostly": 0.2}, {"column": "n"}),
    "expect_column_values_to_match_json_schema": (
        {"column": "doc", "json_schema": SCHEMA, "mostly": 0.1},
        {"column": "doc", "json_schema": SCHEMA},
    ),
    "expect_column_values_to_match_regex": ({"column": "s", "regex": "^(a|b)$"}, {"column": "s", "regex": "a"}),
    "expect_column_values_to_match_regex_list": (
        {"column": "s", "regex_list": ["a", "b"]},
        {"column": "s", "regex_list": ["a", "b"], "match_on": "all"},
    ),
    "expect_column_values_to_match_strftime_format": (
        {"column": "day", "strftime_format": "%Y-%m-%d", "mostly": 0.5},
        {"column": "day", "strftime_format": "%Y-%m-%d"},
    ),
    "expect_column_values_to_not_be_in_set": ({"column": "s", "value_set": ["x"]}, {"column": "s", "value_set": ["a"]}),
    "expect_column_values_to_not_be_null": ({"column": "f"}, {"column": "n"}),
    "expect_column_values_to_not_match_regex": ({"column": "s", "regex": "x"}, {"column": "s", "regex": "a"}),
    "expect_column_values_to_not_match_regex_list": (
        {"column": "s", "regex_list": ["x", "y"]},
        {"column": "s", "regex_list": ["x", "a"]},
    ),
    "expect_multicolumn_sum_to_equal": (
        {"column_list": ["n", "m"], "sum_total": 4, "mostly": 0.1},
        {"column_list": ["n", "m"], "sum_total": 4},
    ),
    "expect_select_column_values_to_be_unique_within_record": (
        {"column_list": ["s", "day"]},
        {"column_list": ["n", "m"]},
    ),
    "expect_column_distinct_values_to_be_in_set": (
        {"column": "s", "value_set": ["a", "b", "c"]},
        {"column": "s", "value_set": ["a"]},
    ),
    "expect_column_distinct_values_to_contain_set": (
        {"column": "s", "value_set": ["a"]},
        {"column": "s", "value_set": ["c"]},
    ),
    "expect_column_distinct_values_to_equal_set": (
        {"column": "n", "value_set": [1, 2, 3]},
        {"column": "n", "value_set": [1, 2]},
    ),
    "expect_column_kl_divergence_to_be_less_than": (
        {"column": "s", "partition_object": {"values": ["a", "b"], "weights": [0.34, 0.66]}, "threshold": 0.1},
        {"column": "s", "partition_object": {"values": ["a", "b"], "weights": [0.99, 0.01]}, "threshold": 0.1},
    ),
    "expect_column_max_to_be_between": ({"column": "n", "max_value": 3}, {"column": "n", "max_value": 2}),
    "expect_column_mean_to_be_between": ({"column": "n", "max_value": 2}, {"column": "n", "max_value": 1}),
    "expect_column_median_to_be_between": ({"column": "n", "max_value": 2}, {"column": "n", "max_value": 1}),
    "expect_column_min_to_be_between": ({"column": "n", "min_value": 1}, {"column": "n", "min_value": 2}),
    "expect_column_most_common_value_to_be_in_set": (
        {"column": "s", "value_set": ["b"]},
        {"column": "s", "value_set": ["a"]},
    ),
    "expect_column_proportion_of_non_null_values_to_be_between": (
        {"column": "n", "min_value": 0.7},
        {"column": "n", "min_value": 0.8},
    ),
    "expect_column_proportion_of_unique_values_to_be_between": (
        {"column": "n", "min_value": 1},
        {"column": "s", "min_value": 1},
    ),
    "expect_column_quantile_values_to_be_between": (
        {"column": "f", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[1, 3]]}},
        {"column": "f", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[9, None]]}},
    ),
    "expect_column_stdev_to_be_between": ({"column": "n", "max_value": 1}, {"column": "f", "max_value": 1}),
    "expect_column_sum_to_be_between": ({"column": "n", "max_value": 6}, {"column": "n", "max_value": 5}),
    "expect_column_unique_value_count_to_be_between": (
        {"column": "s", "max_value": 2},
        {"column": "s", "max_value": 1},
    ),
    "expect_column_value_z_scores_to_be_less_than": (
        {"column": "f", "threshold": 3, "double_sided": True},
        {"column": "f", "threshold": 1, "double_sided": True},
    ),
    "expect_column_values_to_be_unique": ({"column": "n"}, {"column": "s"}),
    "expect_compound_columns_to_be_unique": ({"column_list": ["s", "n"]}, {"column_list": ["s", "k"]}),
    "expect_table_row_count_to_be_between": ({"min_value": 4}, {"min_value": 4, "strict_min": True}),
    "expect_table_row_count_to_equal": ({"value": 4}, {"value": 5}),
    "expect_column_to_exist": ({"column": "n"}, {"column": "zz"}),
    "expect_table_column_count_to_be_between": ({"min_value": 7}, {"max_value": 6}),
    "expect_table_column_count_to_equal": ({"value": 7}, {"value": 6}),
    "expect_table_columns_to_match_ordered_list": (
        {"column_list": ["n", "m", "f", "s", "k", "day", "doc"]},
        {"column_list": ["m", "n", "f", "s", "k", "day", "doc"]},
    ),
    "expect_table_columns_to_match_set": (
        {"column_set": ["doc", "n", "m", "f", "s", "k", "day"]},
        {"column_set": ["n"], "exact_match": True},
    ),
}


def outcome_of(type_: str, arguments: dict[str, Any]) -> str:
    expectation = Expectation(type=type_, severity="info", arguments=arguments)
    if expectation.is_row:
        (validation,) = judge_rows("payments", TABLE, [expectation]).validations
    else:
        columns = TABLE.column_names
        (validation,) = judge_whole("payments", TABLE, TABLE.num_rows, columns, [expectation]).validations
    return validation.outcome


def test_each_listed_type_has_a_case() -> None:
    assert sorted(CASES) == list(ALL_TYPES)


def test_no_type_is_on_two_lists() -> None:
    assert len(ROW_TYPES) + len(AGGREGATE_TYPES) + len(ROW_COUNT_TYPES) + len(SCHEMA_TYPES) == len(ALL_TYPES)


@pytest.mark.parametrize("type_", ALL_TYPES)
def test_type_passes_where_it_holds(type_: str) -> None:
    arguments = CASES[type_][0]
    # A share is judged over the interval: one partition only notes it.
    expected = "noted" if "mostly" in arguments and type_ in ROW_TYPES else "passed"

    assert outcome_of(type_, arguments) == expected


@pytest.mark.parametrize("type_", ALL_TYPES)
def test_type_fails_where_it_does_not_hold(type_: str) -> None:
    assert outcome_of(type_, CASES[type_][1]) == "noted"
