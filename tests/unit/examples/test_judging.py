"""The figures that packs are judged by, where XGBoost does not compute them."""

import numpy as np
import pyarrow as pa
import pytest

from penstock.examples.judging import judge, ndcg_at_5


def test_the_best_order_has_an_ndcg_of_one_and_a_place_further_down_costs_by_its_logarithm() -> None:
    bought = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])

    assert ndcg_at_5(bought, np.array([6.0, 5, 4, 3, 2, 1])) == 1
    assert ndcg_at_5(bought, np.array([4.0, 6, 5, 3, 2, 1])) == pytest.approx(1 / np.log2(4))
    assert ndcg_at_5(bought, np.array([1.0, 6, 5, 4, 3, 2])) == 0  # the sixth is not looked at


def test_a_ranking_is_judged_within_each_group_in_which_something_was_bought() -> None:
    rows = pa.table({"customer": ["a", "a", "b", "b", "c", "c"]})
    bought = np.array([1.0, 0, 0, 1, 0, 0])
    across = np.array([0.2, 0.1, 0.8, 0.9, 0.5, 0.6])  # right within a and b, wrong across them; c bought nothing

    assert judge("ndcg@5", rows, bought, across, ("customer",)) == 1
    assert judge("ndcg@5", rows, bought, across) < 1
