"""The table of arguments agrees with the library: same names, each with an effect, and nothing that it refuses."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from penstock.quality import judge_rows, judge_whole, load_engine
from penstock.quality.engine import InvalidArguments, build_expectation
from penstock.spec.expectation import Expectation
from penstock.spec.expectation_arguments import ARGUMENTS, IGNORED, REFUSED
from penstock.spec.expectation_types import ALL_TYPES
from tests.unit.spec.test_expectation_types import CASES, TABLE

BETWEEN = "expect_column_values_to_be_between"
IN_SET = "expect_column_values_to_be_in_set"
ROW_COUNT = "expect_table_row_count_to_be_between"
NOT_NULL = "expect_column_values_to_not_be_null"
KL = "expect_column_kl_divergence_to_be_less_than"
QUANTILES = "expect_column_quantile_values_to_be_between"


def library_fields(type_: str) -> dict[str, Any]:
    load_engine()  # registers the types
    from great_expectations.expectations.registry import get_expectation_impl

    return dict(get_expectation_impl(type_).__fields__)


def complaints(type_: str, arguments: dict[str, Any], severity: str = "info") -> dict[str, str]:
    """Return what the spec refuses, by argument."""
    try:
        Expectation(type=type_, severity=severity, arguments=arguments)  # type: ignore[arg-type]
    except ValidationError as error:
        return {str(e["loc"][-1]): e["msg"] for e in error.errors()}
    return {}


# --- the table and the library -----------------------------------------------------------------


@pytest.mark.parametrize("type_", ALL_TYPES)
def test_each_field_of_the_library_is_an_argument_or_refused(type_: str) -> None:
    fields = set(library_fields(type_)) - {"severity"}
    ignored = {name for of, name in IGNORED if of == type_}

    assert set(ARGUMENTS[type_]) == fields - set(REFUSED) - ignored
    assert ignored <= fields


@pytest.mark.parametrize("type_", ALL_TYPES)
def test_what_the_library_requires_is_required(type_: str) -> None:
    required = {name for name, field in library_fields(type_).items() if field.required}

    assert required <= {name for name, argument in ARGUMENTS[type_].items() if argument.required}


@pytest.mark.parametrize("type_", ALL_TYPES)
def test_arguments_of_the_cases_are_accepted(type_: str) -> None:
    assert [complaints(type_, arguments) for arguments in CASES[type_]] == [{}, {}]


PROBES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 95, 10**6, 2**53 + 1, 0.5, 10.5, float("inf"), float("nan"), "", "1", "0.5", "no",
    "yes", "any", "all", "(", "a", "%Y", "%Y-%m-%d", "2026-01-01", "2026-01-01T06:00:00Z", "20260101", "2026-13-01",
    "nearest", "linear", "neither", "never", "any_value_is_missing", "either_value_is_missing", date(2026, 1, 1),
    datetime(2026, 1, 1, tzinfo=UTC), [], [1], ["a"], ["a", "b"], [None], [[1, 2]], [[1]], (1, 2), {1, 2}, {}, {"a": 1},
    {"$PARAMETER": "x"}, {"type": "object"}, {"type": "objekt"}, {"quantiles": [0.5], "value_ranges": [[1, 3]]},
    {"quantiles": [0.5], "value_ranges": [[3, 1]]}, {"quantiles": [1.5], "value_ranges": [[1, 3]]},
    {"quantiles": [0.5, 0.6], "value_ranges": [[1, 3]]}, {"values": ["a", "b"], "weights": [0.5, 0.5]},
    {"values": ["a"], "weights": [0.5]}, {"bins": [0, 1, 2], "weights": [0.5, 0.5]},
    {"bins": [0, 1], "weights": [0.5, 0.5]},
)  # fmt: skip


@pytest.mark.parametrize("type_", ALL_TYPES)
def test_no_value_is_taken_that_the_library_refuses(type_: str) -> None:
    """Each argument of each type with some sixty values, most of them wrong."""
    taken = 0
    for name in ARGUMENTS[type_]:
        for probe in PROBES:
            arguments = CASES[type_][0] | {name: probe}
            if complaints(type_, arguments):
                continue
            taken += 1
            build_expectation(type_, "info", arguments)
    assert taken


# --- no argument is ignored --------------------------------------------------------------------

NULLS = pa.table({"a": [1, 2, None, None], "b": [1, 1, 1, None], "c": [5, 5, None, None]})
TWICE = pa.table({"s": ["a", "a", "b", "b"]})
ONCE_TWICE = pa.table({"s": ["a", "a", "b"], "t": [1, 1, 1]})
LOW = pa.table({"f": [0.0] * 8 + [-100.0]})
PAIR = {"column_A": "a", "column_B": "b"}
LIST = {"column_list": ["a", "b", "c"]}
BINS = {"partition_object": {"bins": [0, 2, 200], "weights": [0.25, 0.75]}, "threshold": 0.1}

EFFECTS: dict[tuple[str, str], tuple[pa.Table, dict[str, Any], Any]] = {
    (BETWEEN, "strict_min"): (TABLE, {"column": "n", "min_value": 1}, True),
    (BETWEEN, "strict_max"): (TABLE, {"column": "n", "max_value": 3}, True),
    ("expect_column_most_common_value_to_be_in_set", "ties_okay"): (TWICE, {"column": "s", "value_set": ["a"]}, True),
    ("expect_column_pair_values_a_to_be_greater_than_b", "or_equal"): (NULLS, PAIR, True),
    ("expect_column_pair_values_a_to_be_greater_than_b", "ignore_row_if"): (NULLS, PAIR, "neither"),
    ("expect_column_pair_values_to_be_equal", "ignore_row_if"): (NULLS, PAIR, "either_value_is_missing"),
    ("expect_column_pair_values_to_be_in_set", "ignore_row_if"): (
        NULLS,
        PAIR | {"value_pairs_set": [[1, 1]]},
        "either_value_is_missing",
    ),
    ("expect_multicolumn_sum_to_equal", "ignore_row_if"): (NULLS, LIST | {"sum_total": 7}, "any_value_is_missing"),
    ("expect_select_column_values_to_be_unique_within_record", "ignore_row_if"): (NULLS, LIST, "never"),
    ("expect_compound_columns_to_be_unique", "ignore_row_if"): (NULLS, LIST, "any_value_is_missing"),
    ("expect_column_values_to_match_regex_list", "match_on"): (
        TABLE,
        {"column": "s", "regex_list": ["a", "b"]},
        "all",
    ),
    (QUANTILES, "allow_relative_error"): (
        TABLE,
        {"column": "f", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[2.6, 3]]}},
        "linear",
    ),
    (KL, "internal_weight_holdout"): (
        TABLE,
        {"column": "f", "threshold": 9, "partition_object": {"bins": [0, 2, 50, 200], "weights": [0.25, 0.75, 0]}},
        0.5,
    ),
    (KL, "tail_weight_holdout"): (TABLE, {"column": "f"} | BINS, 0.2),
    ("expect_table_columns_to_match_set", "exact_match"): (TABLE, {"column_set": ["n"]}, False),
    ("expect_column_values_to_be_unique", "mostly"): (ONCE_TWICE, {"column": "s"}, 0.3),
    ("expect_compound_columns_to_be_unique", "mostly"): (ONCE_TWICE, {"column_list": ["s", "t"]}, 0.3),
    ("expect_column_value_z_scores_to_be_less_than", "mostly"): (
        LOW,
        {"column": "f", "threshold": 1, "double_sided": True},
        0.5,
    ),
}
"""An optional argument: a table and arguments, and a value that changes what is found."""


def strict_bounds() -> Iterator[tuple[str, str, Any, dict[str, Any]]]:
    """Yield each other argument `strict_…` with the value that the type observes."""
    observed = {
        "expect_column_max_to_be_between": {"column": "n", "": 3},
        "expect_column_mean_to_be_between": {"column": "n", "": 2},
        "expect_column_median_to_be_between": {"column": "n", "": 2},
        "expect_column_min_to_be_between": {"column": "n", "": 1},
        "expect_column_proportion_of_non_null_values_to_be_between": {"column": "n", "": 0.75},
        "expect_column_proportion_of_unique_values_to_be_between": {"column": "n", "": 1},
        "expect_column_stdev_to_be_between": {"column": "n", "": 1},
        "expect_column_sum_to_be_between": {"column": "n", "": 6},
        "expect_column_unique_value_count_to_be_between": {"column": "n", "": 3},
        "expect_column_value_lengths_to_be_between": {"column": "s", "": 1},
        ROW_COUNT: {"": 4},
    }
    for type_, given in observed.items():
        rest = {name: value for name, value in given.items() if name}
        for end in ("min", "max"):
            yield type_, f"strict_{end}", TABLE, rest | {f"{end}_value": given[""]}


def found(type_: str, table: pa.Table, arguments: dict[str, Any]) -> tuple[Any, ...]:
    expectation = Expectation(type=type_, severity="critical", arguments=arguments)  # type: ignore[arg-type]
    columns = table.column_names
    if expectation.is_row:
        (one,) = judge_rows("payments", table, [expectation]).validations
    else:
        (one,) = judge_whole("payments", table, table.num_rows, columns, [expectation]).validations
    return one.outcome, one.evaluated, one.unexpected, one.observed


def test_each_optional_argument_is_tried_for_its_effect() -> None:
    optional = {(t, n) for t, known in ARGUMENTS.items() for n, argument in known.items() if not argument.required}
    plain = {
        key for key in optional if key[1] in ("min_value", "max_value")
    }  # the cases of each type show their effect
    shares = {(t, "mostly") for t in ALL_TYPES}  # of row expectations: see the tests of `judge_shares`
    aggregate = {key for key in EFFECTS if key[1] == "mostly"}

    assert optional - plain - shares | aggregate == set(EFFECTS) | {(t, n) for t, n, _, _ in strict_bounds()}


@pytest.mark.parametrize(("type_", "name"), list(EFFECTS))
def test_an_optional_argument_changes_what_is_found(type_: str, name: str) -> None:
    table, arguments, value = EFFECTS[type_, name]

    assert found(type_, table, arguments) != found(type_, table, arguments | {name: value})


@pytest.mark.parametrize(("type_", "name", "table", "arguments"), list(strict_bounds()))
def test_a_strict_bound_excludes_the_bound(type_: str, name: str, table: pa.Table, arguments: dict[str, Any]) -> None:
    assert found(type_, table, arguments)[0] == "passed"
    assert found(type_, table, arguments | {name: True})[0] == "halted"


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(REFUSED))
@pytest.mark.parametrize("type_", [NOT_NULL, ROW_COUNT])
def test_a_field_of_the_library_is_refused_with_what_to_do(type_: str, name: str) -> None:
    told = complaints(type_, CASES[type_][0] | {name: "x > 1"})

    assert told[name] == f"`{name}` is not allowed here; {REFUSED[name]}"


@pytest.mark.parametrize(
    ("type_", "arguments", "name", "problem"),
    [
        (NOT_NULL, {"column": "x", "severty": "info"}, "severty", "no argument `severty`. Did you mean `severity`?"),
        (BETWEEN, {"column": "x", "min_valu": 1, "max_value": 9}, "min_valu", "Did you mean `min_value`?"),
        (NOT_NULL, {"column": "x", "mostly": 95}, "mostly", "`95` is not a share; write a number from 0 to 1"),
        (NOT_NULL, {"column": "x", "mostly": "0.9"}, "mostly", "`0.9` is not a number; write it without quotation"),
        (NOT_NULL, {"column": "x", "mostly": True}, "mostly", "`True` is not a number"),
        (NOT_NULL, {"column": "x", "mostly": 0}, "mostly", "0 lets every value pass"),
        (NOT_NULL, {"column": 3}, "column", "`3` is not the name of a column"),
        (NOT_NULL, {}, "column", "Field required"),
        (ROW_COUNT, {"min_value": 1, "mostly": 0.9}, "mostly", "has no argument `mostly`"),
        (ROW_COUNT, {"min_value": 10.5}, "min_value", "`10.5` is not a whole number"),
        (ROW_COUNT, {"min_value": "10"}, "min_value", "`10` is not a whole number; write it without quotation marks"),
        (ROW_COUNT, {"min_value": -1}, "min_value", "-1 is below 0"),
        (ROW_COUNT, {"min_value": 1, "strict_min": "no"}, "strict_min", "`no` is neither `true` nor `false`"),
        (ROW_COUNT, {"min_value": 1, "strict_max": True}, "strict_max", "it changes nothing without `max_value`"),
        (ROW_COUNT, {"min_value": {"$PARAMETER": "x"}}, "min_value", "`$PARAMETER` is not allowed here"),
        (IN_SET, {"column": "x", "value_set": {"$PARAMETER": "x"}}, "value_set", "`$PARAMETER` is not allowed here"),
        (IN_SET, {"column": "x", "value_set": "ab"}, "value_set", "`ab` is not a list of values"),
        (IN_SET, {"column": "x", "value_set": ["a", None]}, "value_set", "NULL is not a value to compare with"),
        (IN_SET, {"column": "x", "value_set": [["a"]]}, "value_set", "`['a']` is not a single value"),
        ("expect_column_values_to_not_be_in_set", {"column": "x", "value_set": []}, "value_set", "the list is empty"),
        (BETWEEN, {"column": "x"}, "min_value", "without them the expectation always passes"),
        (BETWEEN, {"column": "x", "min_value": None}, "min_value", "without them the expectation always passes"),
        (BETWEEN, {"column": "x", "min_value": 9, "max_value": 1}, "min_value", "`min_value` 9 is above `max_value` 1"),
        (BETWEEN, {"column": "x", "min_value": "2026-02-01", "max_value": "2026-01-01"}, "min_value", "is above"),
        (BETWEEN, {"column": "x", "min_value": 1, "max_value": "2026-01-01"}, "max_value", "a number and a time"),
        (BETWEEN, {"column": "x", "min_value": 1, "max_value": 1, "strict_min": True}, "min_value", "no value is"),
        (BETWEEN, {"column": "x", "min_value": "1"}, "min_value", "`1` is text; write it without quotation marks"),
        (BETWEEN, {"column": "x", "min_value": "soon"}, "min_value", "`soon` is neither a number nor a time"),
        (BETWEEN, {"column": "x", "min_value": 2**53 + 1}, "min_value", "that float64 holds exactly"),
        (BETWEEN, {"column": "x", "min_value": float("nan")}, "min_value", "`nan` is not a finite number"),
        ("expect_column_mean_to_be_between", {"column": "x"}, "min_value", "always passes"),
        ("expect_column_values_to_match_regex", {"column": "x"}, "regex", "Field required"),
        ("expect_column_values_to_match_regex", {"column": "x", "regex": "("}, "regex", "not a regular expression"),
        ("expect_column_values_to_match_regex_list", {"column": "x", "regex_list": ["("]}, "regex_list", "not a reg"),
        ("expect_column_values_to_match_regex_list", {"column": "x", "regex_list": []}, "regex_list", "is empty"),
        ("expect_compound_columns_to_be_unique", {"column_list": ["x"]}, "column_list", "name at least two columns"),
        ("expect_compound_columns_to_be_unique", {"column_list": ["x", "x"]}, "column_list", "`x` stands twice"),
        ("expect_table_columns_to_match_ordered_list", {}, "column_list", "Field required"),
        ("expect_column_to_exist", {"column": "x", "column_index": 3}, "column_index", "it is not compared"),
        (KL, {"column": "x", "threshold": 1}, "partition_object", "Field required"),
        (KL, {"column": "x"} | BINS | {"max_value": 1}, "max_value", "it is not compared; the limit is `threshold`"),
        (
            KL,
            {"column": "x", "threshold": 1, "partition_object": {"values": ["a"], "weights": [1]}}
            | {"tail_weight_holdout": 0.1},
            "tail_weight_holdout",
            "it is for a partition with `bins`",
        ),
        (
            QUANTILES,
            {"column": "x", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[3, 1]]}},
            "quantile_ranges",
            "`[3, 1]` is not in ascending order",
        ),
        (
            "expect_column_values_to_match_json_schema",
            {"column": "x", "json_schema": {"type": "objekt"}},
            "json_schema",
            "this is not a JSON Schema",
        ),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_refused(type_: str, arguments: dict[str, Any], name: str, problem: str) -> None:
    assert problem in complaints(type_, arguments)[name]


def test_all_wrong_arguments_are_refused_at_once() -> None:
    assert set(complaints(IN_SET, {"value_set": 3, "mostly": 2, "meta": {}})) == {
        "column",
        "value_set",
        "mostly",
        "meta",
    }


def test_what_only_the_library_would_refuse_is_an_error_of_the_spec_at_the_run() -> None:
    with pytest.raises(InvalidArguments, match="`value_set`: value is not a valid list"):
        build_expectation(IN_SET, "info", {"column": "x", "value_set": 3})


def test_the_check_does_not_import_the_library() -> None:
    script = (
        "import sys\n"
        "from penstock.spec.expectation import Expectation\n"
        f"Expectation(type='{NOT_NULL}', arguments={{'column': 'x'}})\n"
        "sys.exit('great_expectations' in sys.modules or 'jsonschema' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
