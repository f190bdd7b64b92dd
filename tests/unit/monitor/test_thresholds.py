"""A threshold that is replayed over labelled scores flips and costs what a plain count says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.monitor.binned_scores import bin_scores
from penstock.monitor.thresholds import Costs, find_cheapest, replay_threshold
from penstock.spec.decision_thresholds import find_thresholds

COSTS = Costs(false_positive=5, false_negative=100)


def test_flips_and_cost_are_those_of_the_rows() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(1_000).astype(np.float32)
    y = rng.random(1_000) < p

    found = replay_threshold(bin_scores(p, y), 0.3, COSTS, present=0.7)

    false_positives, false_negatives = int(((p >= 0.3) & ~y).sum()), int(((p < 0.3) & y).sum())
    assert (found.false_positives, found.false_negatives) == (false_positives, false_negatives)
    assert found.cost == 5 * false_positives + 100 * false_negatives
    assert found.flips == ((p >= 0.3) & (p < 0.7)).sum()


@given(
    rows=st.lists(st.tuples(st.integers(0, 50).map(lambda n: n / 50), st.booleans()), min_size=1, max_size=40),
    fp=st.integers(0, 20),
    fn=st.integers(0, 20),
)
def test_no_threshold_is_cheaper_than_the_cheapest(rows: list[tuple[float, bool]], fp: int, fn: int) -> None:
    p, y = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    scores, costs = bin_scores(p, y), Costs(false_positive=fp, false_negative=fn)

    cheapest = find_cheapest(scores, costs)

    every = [fp * int(((p >= t) & ~y).sum()) + fn * int(((p < t) & y).sum()) for t in [*p, 2.0]]
    assert cheapest.cost == pytest.approx(min(every))
    if cheapest.threshold <= 1:
        assert replay_threshold(scores, cheapest.threshold, costs) == cheapest


@pytest.mark.parametrize(
    ("decide", "found"),
    [
        ({"decision": "case when score > 0.8 then 'block' else 'pass' end"}, (0.8,)),
        ({"decision": "case when 0.5 <= score then 'a' when Score >= 0.05 then 'b' end"}, (0.05, 0.5)),
        ({"decision": "case when amount > 100 then 'a' end"}, ()),
        ({}, ()),
    ],
)
def test_the_thresholds_of_decisions_are_found(decide: dict[str, str], found: tuple[float, ...]) -> None:
    assert find_thresholds(decide, "score") == found
