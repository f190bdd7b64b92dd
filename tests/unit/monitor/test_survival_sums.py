"""Concordance is that of counting every pair of rows by hand."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.monitor import survival_sums
from penstock.monitor.performance_sums import read_sums
from penstock.monitor.survival_sums import sum_pairs

Row = tuple[int, int]
"""A risk and a label."""
rows = st.lists(st.tuples(st.integers(0, 4), st.integers(-5, 5).filter(bool)), max_size=30)


def count_by_hand(given_rows: list[Row]) -> tuple[int, float]:
    """Return the comparable pairs and the concordant ones, as Harrell and others (1982) define them."""
    pairs, concordant = 0, 0.0
    for one, other in combinations(given_rows, 2):
        first, second = sorted((one, other), key=lambda row: (abs(row[1]), row[1] < 0))
        same_time = abs(first[1]) == abs(second[1])
        if first[1] < 0 or (same_time and second[1] > 0):
            continue
        pairs += 1
        concordant += 1.0 if first[0] > second[0] else 0.5 if first[0] == second[0] else 0.0
    return pairs, concordant


@given(rows)
def test_the_pairs_are_those_that_are_counted_by_hand(given_rows: list[Row]) -> None:
    found = sum_pairs(np.array([r for r, _ in given_rows], float), np.array([y for _, y in given_rows], float))
    assert (found.pairs, found.concordant) == count_by_hand(given_rows)
    assert (found.count, found.events) == (len(given_rows), sum(y > 0 for _, y in given_rows))
    assert read_sums(found.as_json()) == found


def test_blocks_of_events_give_the_same_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    risks, labels = rng.integers(0, 9, 300).astype(float), rng.integers(1, 40, 300) * rng.choice([-1.0, 1.0], 300)
    whole = sum_pairs(risks, labels)
    monkeypatch.setattr(survival_sums, "_CELLS", 1_000)
    assert sum_pairs(risks, labels) == whole


def test_the_error_is_that_of_leaving_out_each_row_in_turn() -> None:
    rng = np.random.default_rng(2)
    times = rng.exponential(1, 400) + 0.01
    risks, labels = -times + rng.normal(size=400), np.where(rng.random(400) < 0.5, times, -times)
    found = sum_pairs(risks, labels).metrics()["concordance"]
    assert found.low is not None
    assert found.high is not None
    without = [
        sum_pairs(np.delete(risks, row), np.delete(labels, row)).metrics()["concordance"].value for row in range(400)
    ]
    jackknife = np.sqrt(399 / 400 * ((np.array(without) - np.mean(without)) ** 2).sum())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * jackknife, rel=0.02)


def test_without_a_comparable_pair_there_is_no_concordance() -> None:
    assert sum_pairs(np.array([1.0, 2.0]), np.array([-1.0, -2.0])).metrics() == {}
