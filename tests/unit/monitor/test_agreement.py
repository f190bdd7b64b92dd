"""Quantiles from the values at their places, PSI and correlation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.monitor.agreement import (
    Moments,
    ScoreAgreement,
    correlate,
    measure_stability,
    quantile_ranks,
    read_quantiles,
)
from penstock.monitor.score_shift import read_stability


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=400))
def test_quantiles_of_the_values_at_their_places_are_numpys(values: list[float]) -> None:
    ordered, ranks = sorted(values), quantile_ranks(len(values))

    found = read_quantiles(len(values), {rank: ordered[rank - 1] for rank in ranks})

    assert found == pytest.approx(np.quantile(values, np.linspace(0, 1, 101)), rel=1e-9, abs=1e-6)
    assert len(ranks) <= 202


def test_a_quantile_at_a_values_own_place_is_this_value() -> None:
    ordered = [i / 7 for i in range(101)]

    assert read_quantiles(101, dict(enumerate(ordered, start=1))) == tuple(ordered)


def test_the_psi_of_equal_shares_is_zero_and_of_other_ones_is_read_by_the_usual_limits() -> None:
    assert measure_stability([10] * 10, [20] * 10) == 0
    moved = measure_stability([10] * 10, [19, 1] * 5)
    assert read_stability(moved) == "shifted"


def test_a_column_of_one_value_has_no_correlation() -> None:
    assert correlate(Moments(0.0, 2.0, 0.0)) is None
    assert correlate(Moments(2.0, 2.0, 2.0000001)) == 1.0


def test_the_diagonal_is_the_share_of_rows_that_stay_in_their_decile() -> None:
    deciles = tuple(tuple(3 if i == j else int(j == 0) for j in range(10)) for i in range(10))
    score = ScoreAgreement("score", 39, 0, 0, 0, deciles=deciles)

    assert score.same_decile == 30 / 39
    assert score.stays == (1.0, *[0.75] * 9)
    assert ScoreAgreement("score", 0, 0, 0, 0).same_decile is None
