"""Histogram and shift, against values worked out by hand."""

import math

import numpy as np
import pytest

from penstock.monitor.score_shift import (
    ScoreShift,
    bin_edges,
    bin_shares,
    measure_shift,
    population_stability,
    share_upto,
)
from penstock.report.chart import draw_histogram

EVEN = [i / 100 for i in range(101)]
"""Scores spread evenly over 0 to 1."""


def two_values(low: float, share: int, high: float) -> list[float]:
    """The quantiles of rows of which `share` per cent have the low value."""
    return [low] * (share + 1) + [high] * (100 - share)


def test_a_distribution_has_not_shifted_against_itself() -> None:
    for same in (EVEN, [0.5] * 101, two_values(0.1, 40, 0.9)):
        assert population_stability(same, same) == 0


def test_psi_of_scores_squeezed_into_the_upper_half_is_the_one_worked_out_by_hand() -> None:
    upper = [0.5 + i / 200 for i in range(101)]

    # five deciles empty (0.005 stands for nothing), five doubled
    by_hand = 5 * (0.005 - 0.1) * math.log(0.005 / 0.1) + 5 * (0.2 - 0.1) * math.log(2)
    assert population_stability(upper, EVEN) == pytest.approx(by_hand)
    assert by_hand == pytest.approx(1.7695, abs=1e-4)


def test_psi_of_a_tenth_moved_from_one_decile_to_the_next_is_the_one_worked_out_by_hand() -> None:
    # 5 % of the rows leave (0, 0.1] for (0.1, 0.2]
    now = [*(i / 50 for i in range(5)), *(0.1 + (i - 5) * 0.1 / 15 for i in range(5, 20)), *EVEN[20:]]

    by_hand = (0.05 - 0.1) * math.log(0.05 / 0.1) + (0.15 - 0.1) * math.log(0.15 / 0.1)
    assert population_stability(now, EVEN) == pytest.approx(by_hand)
    assert by_hand == pytest.approx(0.0549, abs=1e-4)


def test_psi_of_two_values_counts_each_value_as_a_bin() -> None:
    shift = population_stability(two_values(0.1, 60, 0.9), two_values(0.1, 40, 0.9))

    # 101 quantiles know a share to one per cent; the empty bins beside the two values add nothing
    assert shift == pytest.approx(0.2 * math.log(0.6 / 0.4) + 0.2 * math.log(0.6 / 0.4), abs=0.02)


def test_one_value_that_gives_way_to_a_smaller_one_is_a_shift() -> None:
    assert population_stability([0.2] * 101, [0.5] * 101) > 1
    assert population_stability([0.8] * 101, [0.5] * 101) > 1


@pytest.mark.parametrize(
    ("psi", "reading"),
    [(0.0999, "steady"), (0.1, "moved"), (0.25, "moved"), (0.2501, "shifted")],
)
def test_the_reading_follows_the_lines_that_the_field_draws(psi: float, reading: str) -> None:
    assert ScoreShift(psi, 0.001, 0.5, 0.5).reading == reading


def test_few_rows_differ_by_chance_and_that_is_not_called_a_shift() -> None:
    lower = [q**1.6 for q in EVEN]
    few, many = measure_shift(lower, 60, EVEN, 60), measure_shift(lower, 60_000, EVEN, 60_000)

    assert few is not None
    assert many is not None
    assert few.psi == many.psi > 0.1
    assert (few.reading, many.reading) == ("within chance", "moved")
    assert few.chance == pytest.approx(16.919 * 2 / 60)


def test_samples_of_one_population_stay_below_chance_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(7)
    stayed, trials, rows = 0, 400, 500
    for _ in range(trials):
        now, before = (np.quantile(rng.beta(2, 5, rows), np.linspace(0, 1, 101)).tolist() for _ in range(2))
        shift = measure_shift(now, rows, before, rows)
        assert shift is not None
        stayed += shift.psi <= shift.chance

    assert 0.9 < stayed / trials < 0.99


def test_a_run_that_scored_nothing_is_not_compared() -> None:
    assert measure_shift(EVEN, 10, [], 0) is None
    assert measure_shift([], 0, EVEN, 10) is None


@pytest.mark.parametrize(
    ("value", "included", "share"),
    [(-1, True, 0), (0.255, True, 0.255), (0.5, True, 0.5), (1, True, 1), (2, True, 1), (0, False, 0)],
)
def test_between_two_quantiles_rows_are_spread_evenly(value: float, included: bool, share: float) -> None:
    assert share_upto(EVEN, value, included=included) == pytest.approx(share)


def test_rows_of_one_value_are_a_step() -> None:
    rows = two_values(0.1, 40, 0.9)

    assert share_upto(rows, 0.1, included=False) == 0
    assert share_upto(rows, 0.1) == 0.4
    assert share_upto(rows, 0.9, included=False) == 0.41
    assert share_upto(rows, 0.9) == 1


def test_the_shares_of_a_histogram_add_up() -> None:
    for rows in (EVEN, two_values(0.1, 40, 0.9), [q**3 for q in EVEN]):
        shares = bin_shares(rows, bin_edges(12, rows))
        assert len(shares) == 12
        assert sum(shares) == pytest.approx(1.0)
    assert bin_shares(EVEN, bin_edges(4, EVEN)) == pytest.approx([0.25] * 4)


def test_a_histogram_of_one_value_is_one_bar() -> None:
    edges = bin_edges(12, [0.5] * 101)

    assert bin_shares([0.5] * 101, edges) == [1.0]
    assert draw_histogram([0.5] * 101).count("fill-opacity") == 1


def test_a_histogram_shows_both_runs_on_one_scale_with_a_legend() -> None:
    picture = draw_histogram(EVEN, [q + 1 for q in EVEN], ["this run", "the run before"])

    assert picture.count("fill-opacity") == 10  # of 20 bins this run fills the lower half
    assert picture.count("<polyline") == 1
    assert "this run" in picture
    assert "the run before" in picture
    assert ">2<" in picture
