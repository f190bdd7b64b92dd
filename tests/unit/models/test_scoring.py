"""Figures that are computed from the scores of a partition."""

import numpy as np
import pyarrow as pa
import pytest

from penstock.models.scoring import _quantiles

SCORES = np.random.default_rng(7).random(5_001)


@pytest.mark.parametrize(
    "scores",
    [SCORES, SCORES[:1], SCORES[:2], SCORES.astype(np.float32).astype(np.float64), np.round(SCORES, 1), SCORES - 0.5],
    ids=["many", "one", "two", "narrow", "ties", "negative"],
)
def test_quantiles_are_numpys_to_the_bit(scores: np.ndarray) -> None:
    found = _quantiles(pa.table({"score": scores}), "score")

    assert np.array(found).tobytes() == np.quantile(scores, np.linspace(0, 1, 101)).tobytes()


def test_rows_without_a_score_do_not_count() -> None:
    found = _quantiles(pa.table({"score": pa.array([None, 0.25, None, 0.75])}), "score")

    assert (found[0], found[50], found[100]) == (0.25, 0.5, 0.75)
