"""Figures of number columns are judged exactly as Great Expectations judges them: to the bit, without its import."""

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.quality.aggregates import find_aggregates, judges_aggregate
from penstock.quality.found import Found
from penstock.quality.library_judge import find
from penstock.spec.expectation import Expectation
from tests.unit.quality.test_predicates import KINDS, columns, spell

FIGURES = [f"expect_column_{name}_to_be_between" for name in ("max", "mean", "median", "min", "stdev", "sum")]
NUMBERS = sorted(name for name in KINDS if name.startswith(("int", "uint", "float", "decimal")))
_BOUNDS = st.one_of(
    st.none(),
    st.integers(-3, 3),
    st.floats(-1e300, 1e300),
    st.sampled_from([0.5, 0.1, -0.0, 2**53 + 1, -(2**63), 2**63 - 1]),
)
_FLAGS = st.sampled_from([None, True, False])


def compare(table: pa.Table, expectations: list[Expectation]) -> None:
    """Judge a table by both."""
    assert all(judges_aggregate(each, table.schema.field(each.columns[0]).type) for each in expectations)
    with np.errstate(all="ignore"):  # infinities and overflows
        reference = find("rows", table, expectations, positions=False)
        found = find_aggregates(table, expectations)
    for one, expected, ours in zip(expectations, reference, found, strict=True):
        assert describe(ours) == describe(expected), one.label


def describe(found: Found) -> tuple[Any, ...]:
    """Return what a run stores, and the observed value to the bit."""
    observed = found.result["observed_value"]
    return found.success, found.evaluated, found.unexpected, set(found.result), type(observed), repr(observed)


@settings(max_examples=12)
@given(st.data())
@pytest.mark.parametrize("kind", NUMBERS)
def test_figures(kind: str, data: st.DataObject) -> None:
    table = data.draw(columns(st.just(kind), "xy"))
    spelled = []
    for type_ in FIGURES:
        low, high, strict_min, strict_max = (data.draw(each) for each in (_BOUNDS, _BOUNDS, _FLAGS, _FLAGS))
        column = data.draw(st.sampled_from("xy"))
        bounds = {"min_value": low, "max_value": high, "strict_min": strict_min, "strict_max": strict_max}
        spelled.append(spell(type_, column=column, **bounds))

    compare(table, [each for each in spelled if each is not None])


@pytest.mark.parametrize("nulls", [0.0, 0.1, 1.0])
def test_figures_of_many_rows_are_the_same_to_the_bit(nulls: float) -> None:
    rng = np.random.default_rng(7)
    names, rows = "abc", 10_007
    table = pa.table(
        {name: pa.array(rng.lognormal(sigma=9.0, size=rows), mask=rng.random(rows) < nulls) for name in names}
    )
    table = pa.concat_tables([table.slice(0, 4_000), table.slice(5_000), table.slice(4_000, 1_000)])
    one = [Expectation(type=type_, arguments={"column": name, "min_value": 0}) for type_ in FIGURES for name in names]  # type: ignore[arg-type]  # pydantic checks it

    compare(table, one)


@pytest.mark.parametrize("figure", ["min", "max", "mean", "median", "stdev", "sum"])
def test_bound_that_equals_the_figure_decides_by_the_strict_flags(figure: str) -> None:
    type_: Any = f"expect_column_{figure}_to_be_between"
    table = pa.table({"x": [2.0, 4.0, 6.0]})
    value = {"min": 2.0, "max": 6.0, "sum": 12.0, "stdev": 2.0}.get(figure, 4.0)
    near = [
        Expectation(type=type_, arguments={"column": "x", f"{end}_value": value, f"strict_{end}": strict})
        for end in ("min", "max")
        for strict in (False, True)
    ]

    compare(table, near)
    assert [each.success for each in find_aggregates(table, near)] == [True, False, True, False]


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(NUMBERS)))
@pytest.mark.parametrize("type_", FIGURES)
def test_columns_without_numbers_stay_with_great_expectations(type_: Any, kind: str) -> None:
    bounded = Expectation(type=type_, arguments={"column": "x", "min_value": 0})

    assert not judges_aggregate(bounded, KINDS[kind][0])


def test_bounds_that_are_times_stay_with_great_expectations() -> None:
    arguments = {"column": "x", "max_value": "2026-01-01"}
    bounded = Expectation(type="expect_column_max_to_be_between", arguments=arguments)

    assert not judges_aggregate(bounded, pa.float64())


def test_library_is_not_imported_for_figures() -> None:
    script = (
        "import sys, pyarrow as pa\n"
        "from penstock.quality import judge_whole\n"
        "from penstock.spec.expectation import Expectation\n"
        "mean = Expectation(type='expect_column_mean_to_be_between', arguments={'column': 'x', 'max_value': 1})\n"
        "found = judge_whole('s', pa.table({'x': [1.0, 3.0]}), 2, ['x'], [mean]).validations\n"
        "assert [(one.outcome, one.observed) for one in found] == [('halted', 'observed 2')], found\n"
        "print('great_expectations' in sys.modules)\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
