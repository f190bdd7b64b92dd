"""Drift between counts: the two figures, what chance explains, and how often chance alone is taken for drift."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from penstock.models.columns import FeatureColumn
from penstock.models.manifest import QUANTILES, Feature
from penstock.models.profile import count_column, find_edges
from penstock.monitor.chance import chance_of_bins, chance_of_share
from penstock.monitor.drift import ColumnDrift, judge_profiles, population_stability
from penstock.run_types import Baseline, BinCounts, ColumnProfile
from penstock.spec.drift import Drift

COLUMNS = 20
REFERENCE_ROWS = 10_000
RUNS = 3_000
SHARES = {
    "number": np.diff((0.0, *QUANTILES[1:-1], 1.0)),
    "whole numbers": np.full(8, 1 / 8),
    "categories": np.array([0.5, 0.3, 0.15, 0.04, 0.01]),
}
"""True shares of the bins by kind of column."""
KINDS = tuple(SHARES)
SHIFTS = {200: 0.75, 500: 0.5, 5_000: 0.2}
"""By rows of a run: a shift of the mean in standard deviations that must be found. Stated before it was measured."""
NULLS = {200: 0.1, 500: 0.06, 5_000: 0.03}
"""By rows of a run: a share of NULLs that must be found where 1 % was before."""
UNSEEN = {200: 0.05, 500: 0.03, 5_000: 0.005}
"""By rows of a run: a share of unseen categories that must be found where none was before."""


def profile(now: BinCounts, before: BinCounts, column: str = "amount", kind: Any = "number") -> ColumnProfile:
    return ColumnProfile(column, "features", kind, (), "", "m/1", now, Baseline("m/1", before))


def measure(now: BinCounts, before: BinCounts, kind: Any = "number") -> ColumnDrift:
    return ColumnDrift(profile(now, before, kind=kind), now, before)


def draw(rng: np.random.Generator, bins: Any, rows: int) -> BinCounts:
    """Draw rows of which 1 % are NULL. Nothing is unseen."""
    nulls = int(rng.binomial(rows, 0.01))
    return BinCounts((*rng.multinomial(rows - nulls, bins).tolist(), 0), nulls)


def compare_by_chance(rng: np.random.Generator, kind: str, rows: int, against: str) -> ColumnDrift:
    """Compare rows with others of the same population: reference rows that give the bins, or as many of a run before.

    The bins of numbers end at quantiles of the reference rows, so their true shares are drawn: the gaps between order
    statistics of a uniform sample (Dirichlet). The reference rows are in them as the quantiles say.
    """
    if kind == "number" and against == "model":
        ranks = np.diff(np.round(np.array((0.0, *QUANTILES[1:-1], 1.0)) * REFERENCE_ROWS))
        before = BinCounts((*ranks.astype(int).tolist(), 0), int(rng.binomial(REFERENCE_ROWS, 0.01)))
        return measure(draw(rng, rng.dirichlet(ranks), rows), before)
    shares = SHARES[kind]
    before = draw(rng, shares, REFERENCE_ROWS if against == "model" else rows)
    return measure(draw(rng, shares, rows), before, "category" if kind == "categories" else "number")


def compare_shifted(rng: np.random.Generator, rows: int, shift: float) -> ColumnDrift:
    """Compare normal rows that are shifted with reference rows that are not, from the values to the counts."""
    feature = Feature(name="x", dtype="float")
    reference = rng.normal(0, 1, REFERENCE_ROWS)
    edges = find_edges(tuple(np.quantile(reference, QUANTILES)))
    now, before = (count_column(FeatureColumn(feature, v), edges) for v in (rng.normal(shift, 1, rows), reference))
    return measure(now, before)


def test_psi_is_the_sum_of_the_formula() -> None:
    now, before = BinCounts((300, 300, 400, 0), 50), BinCounts((200, 300, 500, 0), 0)
    expected = (0.3 - 0.2) * np.log(0.3 / 0.2) + (0.4 - 0.5) * np.log(0.4 / 0.5)
    assert population_stability(now, before) == pytest.approx(expected, rel=0.01)
    assert population_stability(BinCounts((0, 0, 0, 0), 9), before) == 0


def test_the_chi_square_is_scipys_where_no_bin_is_small() -> None:
    now, before = [30, 50, 20], [300, 400, 300]
    assert chance_of_bins(now, before, ordered=True) == pytest.approx(
        stats.chi2_contingency([now, before], correction=False).pvalue
    )


@pytest.mark.parametrize("now", [7, 100, 193])
def test_the_chance_of_a_share_is_scipys_where_many_rows_are_expected(now: int) -> None:
    table = [[now, 200 - now], [2_500, 2_500]]
    assert chance_of_share(now, 200, 2_500, 5_000) == pytest.approx(stats.chi2_contingency(table).pvalue)


def test_two_shares_of_few_rows_are_binomial_and_not_below_fishers() -> None:
    exact = stats.fisher_exact([[4, 196], [2, 9998]]).pvalue
    assert exact <= chance_of_share(4, 200, 2, 10_000) < 10 * exact


def test_no_rows_are_no_drift() -> None:
    none, some = BinCounts((0, 0, 0), 0), BinCounts((10, 20, 0), 5)
    assert measure(none, some).beyond_chance(1) == ()
    assert measure(none, none).psi == 0


def test_an_alarm_needs_the_limit_and_more_than_chance() -> None:
    before = BinCounts((5_000, 5_000, 0), 0)
    by_chance, small, far = BinCounts((1, 6, 0), 0), BinCounts((2_700, 2_300, 0), 0), BinCounts((4_000, 1_000, 0), 0)
    drift = Drift(least_rows=1)
    assert measure(by_chance, before).psi > 0.25
    assert measure(small, before).beyond_chance(1) == ("psi",)
    found = [judge_profiles([profile(now, before)], drift) for now in (by_chance, small, far)]
    assert found == [{}, {}, {"amount": ("psi",)}]


def test_other_limits_judge_the_same_counts_again() -> None:
    profiles = [profile(BinCounts((2_700, 2_300, 0), 0), BinCounts((5_000, 5_000, 0), 0))]
    assert judge_profiles(profiles, Drift()) == {}
    assert judge_profiles(profiles, Drift.model_validate({"distance": {"psi": 0.005}})) == {"amount": ("psi",)}
    assert judge_profiles(profiles, Drift(watch={"country": "info"})) == {}
    assert judge_profiles(profiles, Drift.model_validate({"distance": {"psi": 0.005}, "least_rows": 5_001})) == {}


@pytest.mark.slow
@pytest.mark.parametrize("against", ["model", "previous"])
@pytest.mark.parametrize("rows", list(SHIFTS))
def test_chance_alone_is_an_alarm_in_at_most_one_run_of_a_hundred(rows: int, against: str) -> None:
    """The chance line alone, without limits. The upper bound of the share is at most 1 %, with 95 % confidence."""
    rng = np.random.default_rng(rows)
    alarms = 0
    for _ in range(RUNS):
        drawn = [compare_by_chance(rng, KINDS[at % len(KINDS)], rows, against) for at in range(COLUMNS)]
        alarms += any(each.beyond_chance(COLUMNS) for each in drawn)
    bound = stats.beta.ppf(0.95, alarms + 1, RUNS - alarms)
    assert bound <= 0.01, f"{alarms} of {RUNS} runs, upper bound {bound:.2%}"


@pytest.mark.parametrize("rows", list(SHIFTS))
def test_shifts_that_were_stated_before_are_found_in_nine_of_ten_runs(rows: int) -> None:
    rng, runs = np.random.default_rng(rows), 100
    found = {"shift": 0, "nulls": 0, "unseen": 0}
    for _ in range(runs):
        found["shift"] += "psi" in compare_shifted(rng, rows, SHIFTS[rows]).beyond_chance(COLUMNS)
        lost = rng.binomial(rows, NULLS[rows])
        nulls = measure(BinCounts((rows - lost, 0), lost), BinCounts((REFERENCE_ROWS - 100, 0), 100))
        found["nulls"] += "nulls" in nulls.beyond_chance(COLUMNS)
        new = rng.binomial(rows, UNSEEN[rows])
        unseen = measure(BinCounts((rows - new, new), 0), BinCounts((REFERENCE_ROWS, 0), 0), "category")
        found["unseen"] += "psi" in unseen.beyond_chance(COLUMNS)
    assert min(found.values()) >= 90, found
