"""Batches judged by the real library: outcomes, positions, vacuous passes, faults of the spec told from bad data."""

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import SpecError
from penstock.quality import columns_needed, judge_rows, judge_shares, judge_whole, needs_great_expectations
from penstock.quality.engine import build_expectation, run_expectations
from penstock.quality.library_judge import find
from penstock.run_types import Validation, Verdict
from penstock.spec.expectation import Expectation

BETWEEN = "expect_column_values_to_be_between"
IN_SET = "expect_column_values_to_be_in_set"
NOT_NULL = "expect_column_values_to_not_be_null"
MEAN = "expect_column_mean_to_be_between"
BIG = 2**53 + 1


def expect(type_: str, severity: str = "warning", **arguments: Any) -> Expectation:
    return Expectation(type=type_, severity=severity, arguments=arguments)  # type: ignore[arg-type]  # pydantic checks both


def refused_by(values: pa.Array, type_: str, **arguments: Any) -> list[int]:
    return list(judge_rows("payments", pa.table({"x": values}), [expect(type_, column="x", **arguments)]).refused)


def judge_aggregate(values: Any, expectation: Expectation, **options: Any) -> Validation:
    table = pa.table({"x": values})
    return judge_whole("scores", table, table.num_rows, ["x"], [expectation], **options).validations[0]


# --- outcomes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("severity", "outcome"), [("critical", "halted"), ("warning", "quarantined"), ("info", "noted")]
)
def test_severity_decides_the_outcome_of_a_failure(severity: str, outcome: str) -> None:
    table = pa.table({"x": [1, 2, 9]})

    verdict = judge_rows("payments", table, [expect(BETWEEN, severity, column="x", max_value=5)], partition=3)

    (validation,) = verdict.validations
    assert (validation.outcome, validation.evaluated, validation.unexpected) == (outcome, 3, 1)
    assert (validation.stage, validation.partition, validation.severity) == ("payments", 3, severity)
    assert bool(verdict.refused) == (outcome == "quarantined")


def test_failure_shows_counts_and_three_short_samples() -> None:
    table = pa.table({"x": ["a", "b", "b", "c", "d", "z" * 99]})

    (validation,) = judge_rows("payments", table, [expect(IN_SET, column="x", value_set=["a"])]).validations

    assert validation.detail == "5 of 6 rows, e.g. 'b', 'c', 'd'"
    (validation,) = judge_rows("payments", table.slice(5), [expect(IN_SET, column="x", value_set=["a"])]).validations
    assert len(validation.detail) == len("1 of 1 rows, e.g. ") + 40


def test_row_refused_twice_has_both_labels() -> None:
    table = pa.table({"x": [1, 50, -2, None]})
    low, high, there = (
        expect(BETWEEN, column="x", min_value=0),
        expect(BETWEEN, column="x", min_value=10),
        expect(NOT_NULL, column="x"),
    )

    verdict = judge_rows("payments", table, [there, low, high])

    assert verdict.refused == {0: (high.label,), 2: (low.label, high.label), 3: (there.label,)}
    assert [v.expectation for v in verdict.validations] == [there.label, low.label, high.label]


def test_same_expectation_twice_is_judged_twice() -> None:
    one = expect(BETWEEN, column="x", min_value=2)

    verdict = judge_rows("payments", pa.table({"x": [1, 2]}), [one, one])

    assert [v.unexpected for v in verdict.validations] == [1, 1]


def test_only_row_expectations_are_judged_on_rows() -> None:
    chosen = [expect(MEAN, "info", column="x", max_value=0), expect("expect_table_row_count_to_equal", "info", value=9)]

    assert judge_rows("payments", pa.table({"x": [1]}), chosen) == Verdict(())


# --- positions ---------------------------------------------------------------------------------


def test_positions_are_those_of_a_sliced_table() -> None:
    table = pa.table({"x": [-1, -1, 5, None, -7, 5, -7]}).slice(2)

    verdict = judge_rows("payments", table, [expect(BETWEEN, column="x", min_value=0)])

    assert list(verdict.refused) == [2, 4]


def test_positions_are_those_of_a_taken_table() -> None:
    table = pa.table({"x": [5, -1, None]}).take(pa.array([1, 0, 1, 2, 1]))

    assert list(judge_rows("payments", table, [expect(BETWEEN, column="x", min_value=0)]).refused) == [0, 2, 4]
    assert list(judge_rows("payments", table, [expect(NOT_NULL, column="x")]).refused) == [3]


def test_positions_run_on_over_the_chunks_of_a_table() -> None:
    table = pa.concat_tables([pa.table({"x": [1, -1]}), pa.table({"x": [-1, 1]})])

    assert list(judge_rows("payments", table, [expect(BETWEEN, column="x", min_value=0)]).refused) == [1, 2]


def test_pair_with_one_null_is_unexpected_at_its_own_position() -> None:
    table = pa.table({"a": pa.array([None, 1, None, 3]), "b": pa.array([None, 1, 2, 4])})

    verdict = judge_rows(
        "payments", table, [expect("expect_column_pair_values_to_be_equal", column_A="a", column_B="b")]
    )

    assert list(verdict.refused) == [2, 3]
    assert verdict.validations[0].evaluated == 3


def test_many_positions_are_complete() -> None:
    values = np.random.default_rng(1).normal(size=50_000)

    verdict = judge_rows("payments", pa.table({"x": values}), [expect(BETWEEN, column="x", min_value=0)])

    assert list(verdict.refused) == np.flatnonzero(values < 0).tolist()


# --- vacuous -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.string(), pa.timestamp("us", "UTC"), pa.null()])
def test_all_null_column_makes_a_null_skipping_expectation_vacuous(kind: pa.DataType) -> None:
    table = pa.table({"x": pa.array([None, None], kind)})

    (validation,) = judge_rows("payments", table, [expect(IN_SET, column="x", value_set=[])]).validations

    assert (validation.outcome, validation.evaluated) == ("vacuous", 0)


def test_empty_table_is_vacuous() -> None:
    table = pa.table({"x": pa.array([], pa.int64())})

    (validation,) = judge_rows("payments", table, [expect(NOT_NULL, column="x")]).validations

    assert validation.outcome == "vacuous"
    assert (
        judge_aggregate(pa.array([], pa.float64()), expect(MEAN, "info", column="x", min_value=1)).outcome == "vacuous"
    )


def test_all_null_column_that_fails_is_not_vacuous() -> None:
    table = pa.table({"x": pa.array([None, None], pa.int64())})

    (validation,) = judge_rows("payments", table, [expect(NOT_NULL, "critical", column="x")]).validations

    assert (validation.outcome, validation.detail) == ("halted", "2 of 2 rows")


def test_unique_over_nulls_only_is_vacuous() -> None:
    unique = expect("expect_column_values_to_be_unique", "critical", column="x")

    assert judge_aggregate(pa.array([None, None], pa.int64()), unique).outcome == "vacuous"


# --- types -------------------------------------------------------------------------------------


@pytest.mark.parametrize("null", [[], [None]])
def test_big_integers_are_told_apart(null: list[None]) -> None:
    values = pa.array([BIG, BIG - 1, *null], pa.int64())

    assert refused_by(values, IN_SET, value_set=[BIG]) == [1]
    assert refused_by(values, IN_SET, value_set=[BIG, 1.5]) == [1]
    assert refused_by(values, BETWEEN, max_value=BIG - 1) == [0]
    assert refused_by(values, "expect_column_values_to_not_be_in_set", value_set=[BIG]) == [0]


def test_unsigned_integers_beyond_int64_are_judged() -> None:
    values = pa.array([2**64 - 1, 1], pa.uint64())

    assert refused_by(values, BETWEEN, max_value=10) == [0]


def test_integers_with_nulls_keep_their_text() -> None:
    assert refused_by(pa.array([5, None, 12]), "expect_column_values_to_match_regex", regex=r"^\d$") == [2]


@pytest.mark.parametrize("kind", [pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.timestamp("s", "Europe/Paris")])
@pytest.mark.parametrize("bound", ["2026-01-01", "2026-01-01T01:00:00+01:00", date(2026, 1, 1)])
def test_times_are_compared_with_times_in_text(kind: pa.DataType, bound: object) -> None:
    before, at, after = (datetime(y, m, 1, h, tzinfo=UTC) for y, m, h in ((2025, 12, 23), (2026, 1, 0), (2026, 1, 6)))
    values = pa.array([before, at, None, after], pa.timestamp("s", "UTC")).cast(kind)

    assert refused_by(values, BETWEEN, min_value=bound) == [0]
    assert refused_by(values, IN_SET, value_set=[bound]) == [0, 3]
    assert refused_by(values, BETWEEN, max_value="2026-01-01T05:59:59Z") == [3]


def test_dates_are_compared_with_dates_in_text() -> None:
    values = pa.array([date(2026, 1, 1), None, date(9999, 12, 31)])

    assert refused_by(values, BETWEEN, max_value="2026-06-01") == [2]
    assert refused_by(values, IN_SET, value_set=["2026-01-01"]) == [2]
    assert refused_by(values, "expect_column_values_to_match_strftime_format", strftime_format="%Y-%m-%d") == []


def test_text_that_is_no_time_is_a_fault_of_the_spec() -> None:
    with pytest.raises(SpecError, match="`soon` is not a time"):
        refused_by(pa.array([date(2026, 1, 1)]), IN_SET, value_set=["soon"])


@pytest.mark.parametrize("precision", [10, 38])
def test_decimals_equal_what_is_written(precision: int) -> None:
    values = pa.array([Decimal("0.10"), Decimal("0.30"), None], pa.decimal128(precision, 2))

    assert refused_by(values, IN_SET, value_set=[0.1]) == [1]
    assert refused_by(values, BETWEEN, min_value=0.1, max_value=0.2) == [1]


@pytest.mark.parametrize("precision", [10, 38])
def test_every_decimal_of_two_digits_equals_the_number_that_is_written(precision: int) -> None:
    """Arrow's own cast to float64 is one bit off for one of ten."""
    values = [Decimal(cents).scaleb(-2) for cents in range(100)]
    table = pa.table({"x": pa.array(values, pa.decimal128(precision, 2))})
    bounds = [expect(BETWEEN, "info", column="x", min_value=float(value), max_value=float(value)) for value in values]

    for found in (judge_rows("payments", table, bounds).validations, find("payments", table, bounds, positions=True)):
        assert [one.unexpected for one in found] == [99] * 100


def test_decimals_of_many_digits_are_compared_exactly() -> None:
    values = pa.array([Decimal("12345678901234567890.11"), Decimal("0.10")], pa.decimal128(38, 2))

    assert refused_by(values, BETWEEN, min_value=0.1, max_value=1) == [0]
    assert refused_by(values, IN_SET, value_set=[0.1]) == [0]
    assert judge_aggregate(values, expect(MEAN, "info", column="x", max_value=1)).outcome == "noted"


@pytest.mark.parametrize(
    ("values", "value_set"),
    [
        (pa.array([True, False, None]), [True]),
        (pa.array(["a", "b", None]), ["a"]),
        (pa.array(["a", "b", None]).dictionary_encode(), ["a"]),
        (pa.array(["a", "b", None], pa.large_string()), ["a"]),
        (pa.array([1, 2, None], pa.int8()), [1]),
        (pa.array([0.5, 2, None], pa.float32()), [0.5]),
    ],
)
def test_each_type_is_found_in_its_set(values: pa.Array, value_set: list[Any]) -> None:
    assert refused_by(values, IN_SET, value_set=value_set) == [1]


def test_not_a_number_counts_as_null() -> None:
    assert refused_by(pa.array([1.0, float("nan"), None]), NOT_NULL) == [1, 2]


def test_text_that_is_no_json_does_not_match_a_schema() -> None:
    values = pa.array(['{"a": 1}', "{", None, '{"a": "x"}'])
    schema = {"properties": {"a": {"type": "integer"}}}

    assert refused_by(values, "expect_column_values_to_match_json_schema", json_schema=schema) == [1, 3]


@pytest.mark.parametrize("regex", ["^(a|b)$", "(?=a|b)", r"^[ab]$"])
def test_regex_may_have_groups_and_look_ahead(regex: str) -> None:
    assert refused_by(pa.array(["a", "c", None]), "expect_column_values_to_match_regex", regex=regex) == [1]


# --- faults of the spec ------------------------------------------------------------------------


def test_missing_column_is_a_fault_of_the_spec_and_names_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"`payments` has no column `amuont`\. Did you mean `amount`\?") as caught:
        judge_rows("payments", pa.table({"amount": [1]}), [expect(NOT_NULL, column="amuont")])

    assert "amuont column_values_to_not_be_null" in str(caught.value)


def test_missing_column_is_told_on_an_empty_table_too() -> None:
    with pytest.raises(SpecError, match="amuont"):
        judge_rows("payments", pa.table({"amount": pa.array([], pa.int64())}), [expect(NOT_NULL, column="amuont")])


def test_missing_column_of_an_aggregate_is_a_fault_of_the_spec() -> None:
    with pytest.raises(SpecError, match="`scores` has no column `score`"):
        judge_aggregate([1.0], expect(MEAN, "info", column="score", min_value=1))


@pytest.mark.parametrize(
    "expectation",
    [
        expect(BETWEEN, column="x", max_value=5),
        expect("expect_multicolumn_sum_to_equal", column_list=["x", "y"], sum_total=5),
    ],
)
def test_expectation_that_cannot_judge_the_type_is_a_fault_of_the_spec(expectation: Expectation) -> None:
    with pytest.raises(SpecError, match="cannot be judged") as caught:
        judge_rows("payments", pa.table({"x": ["a", "b"], "y": [1, 2]}), [expect(NOT_NULL, column="x"), expectation])

    assert expectation.label in str(caught.value)


def test_mean_of_text_is_a_fault_of_the_spec() -> None:
    with pytest.raises(SpecError, match="cannot be judged"):
        judge_aggregate(["a"], expect(MEAN, "critical", column="x", min_value=1))


# --- shares ------------------------------------------------------------------------------------


def judge_two_partitions(expectation: Expectation, parts: Sequence[list[int]]) -> Validation:
    validations = [
        v
        for n, part in enumerate(parts)
        for v in judge_rows("payments", pa.table({"x": part}), [expectation], n).validations
    ]
    (share,) = judge_shares({"payments": [expectation]}, validations)
    return share


def test_share_is_noted_on_the_partition_and_judged_over_the_interval() -> None:
    mostly = expect(BETWEEN, "critical", column="x", min_value=0, mostly=0.9)
    part = judge_rows("payments", pa.table({"x": [-1, *range(9)]}), [mostly]).validations[0]

    share = judge_two_partitions(mostly, [[-1] * 10, list(range(90))])

    assert part.outcome == "noted"
    assert "judged in the audit" in part.detail
    assert (share.outcome, share.evaluated, share.unexpected, share.partition) == ("passed", 100, 10, -1)


@pytest.mark.parametrize(("severity", "outcome"), [("critical", "halted"), ("info", "noted")])
def test_share_below_mostly_reacts_by_severity(severity: str, outcome: str) -> None:
    mostly = expect(BETWEEN, severity, column="x", min_value=0, mostly=0.9)

    share = judge_two_partitions(mostly, [[-1] * 11, list(range(89))])

    assert (share.outcome, share.detail) == (outcome, "11 of 100 rows, 11.0000% where 10.0000% are allowed")


def test_share_of_nothing_is_vacuous() -> None:
    mostly = expect(BETWEEN, "critical", column="x", min_value=0, mostly=0.9)

    assert judge_two_partitions(mostly, [[]]).outcome == "vacuous"


def test_shares_leave_other_stages_and_expectations_alone() -> None:
    mostly, plain = (expect(NOT_NULL, "critical", column="x", mostly=0.5), expect(NOT_NULL, "critical", column="x"))
    other = Validation("features", mostly.label, "critical", 10, 10, "noted")

    (share,) = judge_shares({"payments": [mostly, plain]}, [other])

    assert (share.stage, share.evaluated) == ("payments", 0)


# --- the whole ---------------------------------------------------------------------------------


def test_columns_needed_are_those_of_aggregates_only() -> None:
    chosen = [
        expect(MEAN, "info", column="score", min_value=0),
        expect("expect_compound_columns_to_be_unique", "info", column_list=["b", "a"]),
        expect(NOT_NULL, column="z"),
        expect("expect_column_to_exist", "info", column="y"),
    ]

    assert columns_needed(chosen) == ("a", "b", "score")


def test_aggregate_says_what_it_observed() -> None:
    mean = expect(MEAN, "critical", column="x", max_value=0.4)

    failed = judge_aggregate([0.4, 0.42, None], mean)
    sampled = judge_aggregate([0.1, 0.3], mean, sampled=True)

    assert (failed.outcome, failed.detail, failed.evaluated) == ("halted", "observed 0.41", 2)
    assert (sampled.outcome, sampled.detail) == ("passed", "observed 0.2, on a sample of 2 rows")


def test_uniqueness_counts_the_rows() -> None:
    found = judge_aggregate([1, 1, 2, None], expect("expect_column_values_to_be_unique", "critical", column="x"))

    assert (found.outcome, found.evaluated, found.unexpected) == ("halted", 3, 2)
    assert found.detail == "2 of 3 rows"


def test_distinct_values_show_what_is_wrong() -> None:
    found = judge_aggregate(
        ["a", "b"], expect("expect_column_distinct_values_to_equal_set", "info", column="x", value_set=["a", "c"])
    )

    assert (found.outcome, found.detail) == ("noted", "unexpected 'b', missing 'c'")


@pytest.mark.parametrize("severity", ["critical", "info"])
def test_aggregates_compare_times(severity: str) -> None:
    values = pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 2 + [datetime(2026, 1, 2, tzinfo=UTC)])

    newest = judge_aggregate(
        values, expect("expect_column_max_to_be_between", severity, column="x", max_value="2026-01-02")
    )
    common = judge_aggregate(
        values, expect("expect_column_most_common_value_to_be_in_set", severity, column="x", value_set=["2026-01-01"])
    )

    assert (newest.outcome, newest.detail) == ("passed", "observed 2026-01-02T00:00:00+00:00")
    assert common.outcome == "passed"


def test_row_count_is_exact_though_the_sample_is_not() -> None:
    sample = pa.table({"x": [1.0]})
    chosen = [
        expect("expect_table_row_count_to_be_between", "critical", min_value=1, max_value=4_000_000_000),
        expect("expect_table_row_count_to_equal", "critical", value=1),
    ]

    verdict = judge_whole("payments", sample, 5_000_000_000, ["x"], chosen, sampled=True)

    assert [v.outcome for v in verdict.validations] == ["halted", "halted"]
    assert verdict.halts[1] == "payments: table_row_count_to_equal (value=1) (observed 5,000,000,000 rows)"


def test_schema_is_judged_on_the_names_alone() -> None:
    chosen = [
        expect("expect_column_to_exist", "critical", column="y"),
        expect("expect_column_to_exist", "critical", column="z"),
    ]

    verdict = judge_whole("payments", pa.table({"x": [1]}), 1, ["x", "y"], chosen)

    assert [v.outcome for v in verdict.validations] == ["passed", "halted"]
    assert verdict.validations[1].detail == "observed 2 columns: x, y"


def test_whole_keeps_the_order_and_leaves_row_expectations_out() -> None:
    chosen = [
        expect("expect_table_row_count_to_equal", "info", value=2),
        expect(NOT_NULL, column="x"),
        expect(MEAN, "info", column="x", min_value=0),
    ]

    verdict = judge_whole("payments", pa.table({"x": [1, 2]}), 2, ["x"], chosen)

    assert [v.expectation for v in verdict.validations] == [chosen[0].label, chosen[2].label]


# --- the process -------------------------------------------------------------------------------


def test_threads_judge_their_own_batches() -> None:
    def judge(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        table = pa.table({name: rng.normal(size=2_000 + seed) for name in ("a", "b")})
        low = -1 - seed / 100
        chosen = [expect(BETWEEN, column=name, min_value=low) for name in ("a", "b")]

        verdict = judge_rows("payments", table, chosen)

        wrong = (table["a"].to_numpy() < low) | (table["b"].to_numpy() < low)
        return list(verdict.refused) == np.flatnonzero(wrong).tolist()

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(judge, range(40)))


def test_importing_quality_does_not_import_the_library() -> None:
    script = "import sys, penstock.quality; sys.exit('great_expectations' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_library_is_not_imported_if_all_is_compiled() -> None:
    script = (
        "import sys, pyarrow as pa\n"
        "from penstock.quality import judge_rows, judge_whole\n"
        "from penstock.spec.expectation import Expectation\n"
        "def expect(type, **arguments): return Expectation(type=type, arguments=arguments)\n"
        "rows = pa.table({'x': [1, None, 9], 'y': ['a', 'b', None]})\n"
        "chosen = [\n"
        "    expect('expect_column_values_to_be_between', column='x', max_value=5),\n"
        "    expect('expect_column_values_to_match_regex', column='y', regex='^a$'),\n"
        "    expect('expect_column_to_exist', column='x'),\n"
        "    expect('expect_table_row_count_to_equal', value=3),\n"
        "]\n"
        "found = judge_rows('s', rows, chosen).validations + judge_whole('s', rows, 3, ['x'], chosen).validations\n"
        "assert [one.unexpected for one in found] == [1, 1, 0, 0], found\n"
        "print('great_expectations' in sys.modules)\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("expectation", "needs"),
    [
        (expect(BETWEEN, column="x", max_value=5), False),
        (expect(BETWEEN, column="x", max_value="2026-01-01"), False),
        (expect(IN_SET, column="x", value_set=["a", "b"]), False),
        (expect(IN_SET, column="x", value_set=["a", 1]), True),
        (expect("expect_column_values_to_match_regex", column="x", regex="^a+$"), False),
        (expect("expect_column_values_to_match_regex", column="x", regex="(?=a)"), True),
        (expect("expect_column_values_to_be_json_parseable", column="x"), True),
        (expect(MEAN, "info", column="x", max_value=5), False),
        (expect("expect_column_max_to_be_between", "info", column="x", max_value="2026-01-01"), True),
        (expect("expect_column_values_to_be_unique", "info", column="x"), True),
        (expect("expect_table_row_count_to_equal", "info", value=5), False),
        (expect("expect_column_to_exist", "info", column="x"), False),
    ],
)
def test_pipeline_needs_the_library_for_what_can_never_be_compiled(expectation: Expectation, needs: bool) -> None:
    pipeline: Any = SimpleNamespace(expectations={"payments": [expect(NOT_NULL, column="x"), expectation]})

    assert needs_great_expectations(pipeline) is needs


_NAMES = ("a", "b", "A", "é")


@given(
    st.lists(st.sampled_from(_NAMES), min_size=1, unique=True),
    st.lists(st.sampled_from(_NAMES), min_size=1),
    st.integers(0, 4),
)
def test_schema_is_judged_as_the_library_does(columns: list[str], names: list[str], number: int) -> None:
    chosen = [
        expect("expect_column_to_exist", "info", column=names[0]),
        expect("expect_table_column_count_to_equal", "info", value=number),
        expect("expect_table_column_count_to_be_between", "info", min_value=number),
        expect("expect_table_column_count_to_be_between", "info", min_value=0, max_value=number),
        expect("expect_table_columns_to_match_ordered_list", "info", column_list=names),
        expect("expect_table_columns_to_match_set", "info", column_set=names),
        expect("expect_table_columns_to_match_set", "info", column_set=names, exact_match=False),
        expect("expect_table_columns_to_match_set", "info", column_set=names, exact_match=True),
    ]
    built = [build_expectation(each.type, "info", each.arguments, place) for place, each in enumerate(chosen)]

    found = judge_whole("s", pa.table({}), 0, columns, chosen).validations

    reference = run_expectations(pd.DataFrame(columns=columns), built, positions=False)
    assert [one.outcome == "passed" for one in found] == [one.success for one in reference]


def test_engine_keeps_quiet_and_reports_nothing_to_its_makers(tmp_path: Any) -> None:
    script = (
        "import os, pyarrow as pa\n"
        "from penstock.quality import judge_rows, load_engine\n"
        "from penstock.spec.expectation import Expectation\n"
        "load_engine()\n"
        "one = Expectation(type='expect_column_values_to_not_be_null', arguments={'column': 'x'})\n"
        "judge_rows('payments', pa.table({'x': [1, None]}), [one])\n"
        "assert os.environ['GX_ANALYTICS_ENABLED'] == 'false'\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("", "")
