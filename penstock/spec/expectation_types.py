"""The types of Great Expectations that a spec may name, and whether each judges rows or the whole interval.

The lists stand here, not in `quality`, so that a spec is read and judged without paying Great Expectations' import.
A test compares them with the installed library and runs each type on a pandas batch.
"""

from typing import Literal, get_args

RowType = Literal[
    "expect_column_pair_values_a_to_be_greater_than_b",
    "expect_column_pair_values_to_be_equal",
    "expect_column_pair_values_to_be_in_set",
    "expect_column_value_lengths_to_be_between",
    "expect_column_value_lengths_to_equal",
    "expect_column_values_to_be_between",
    "expect_column_values_to_be_dateutil_parseable",
    "expect_column_values_to_be_in_set",
    "expect_column_values_to_be_json_parseable",
    "expect_column_values_to_be_null",
    "expect_column_values_to_match_json_schema",
    "expect_column_values_to_match_regex",
    "expect_column_values_to_match_regex_list",
    "expect_column_values_to_match_strftime_format",
    "expect_column_values_to_not_be_in_set",
    "expect_column_values_to_not_be_null",
    "expect_column_values_to_not_match_regex",
    "expect_column_values_to_not_match_regex_list",
    "expect_multicolumn_sum_to_equal",
    "expect_select_column_values_to_be_unique_within_record",
]
"""Judge each row by itself: run on every partition, may quarantine."""

AggregateType = Literal[
    "expect_column_distinct_values_to_be_in_set",
    "expect_column_distinct_values_to_contain_set",
    "expect_column_distinct_values_to_equal_set",
    "expect_column_kl_divergence_to_be_less_than",
    "expect_column_max_to_be_between",
    "expect_column_mean_to_be_between",
    "expect_column_median_to_be_between",
    "expect_column_min_to_be_between",
    "expect_column_most_common_value_to_be_in_set",
    "expect_column_proportion_of_non_null_values_to_be_between",
    "expect_column_proportion_of_unique_values_to_be_between",
    "expect_column_quantile_values_to_be_between",
    "expect_column_stdev_to_be_between",
    "expect_column_sum_to_be_between",
    "expect_column_unique_value_count_to_be_between",
    "expect_column_value_z_scores_to_be_less_than",
    "expect_column_values_to_be_unique",
    "expect_compound_columns_to_be_unique",
]
"""Judge columns of the whole interval, in the audit. Cannot quarantine."""

RowCountType = Literal["expect_table_row_count_to_be_between", "expect_table_row_count_to_equal"]
"""Judge the exact row count of the interval, in the audit."""

SchemaType = Literal[
    "expect_column_to_exist",
    "expect_table_column_count_to_be_between",
    "expect_table_column_count_to_equal",
    "expect_table_columns_to_match_ordered_list",
    "expect_table_columns_to_match_set",
]
"""Judge which columns there are, in the audit."""

ExpectationType = RowType | AggregateType | RowCountType | SchemaType
Severity = Literal["critical", "warning", "info"]
Outcome = Literal["passed", "vacuous", "noted", "quarantined", "halted"]

ROW_TYPES: frozenset[str] = frozenset(get_args(RowType))
AGGREGATE_TYPES: frozenset[str] = frozenset(get_args(AggregateType))
ROW_COUNT_TYPES: frozenset[str] = frozenset(get_args(RowCountType))
SCHEMA_TYPES: frozenset[str] = frozenset(get_args(SchemaType))
ALL_TYPES: tuple[str, ...] = tuple(sorted(ROW_TYPES | AGGREGATE_TYPES | ROW_COUNT_TYPES | SCHEMA_TYPES))
