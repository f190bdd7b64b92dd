"""What is expected of rows without a label is near to what is measured later."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import average_precision_score, precision_score, recall_score, roc_auc_score

from penstock.monitor.binned_scores import BinnedScores, bin_scores
from penstock.monitor.expected_performance import LEAST_OF_EACH, LEAST_ROWS, expect_performance, fit_increasing


def test_the_fit_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    values, weights = rng.random(500), rng.integers(1, 50, 500).astype(float)
    fitted = IsotonicRegression().fit_transform(np.arange(500), values, sample_weight=weights)
    assert fit_increasing(values, weights) == pytest.approx(fitted, abs=1e-9)


@pytest.mark.parametrize("power", [1.0, 3.0])  # scores that are calibrated, and ones that are far too low
def test_the_expected_metrics_are_those_that_labels_show_later(power: float) -> None:
    rng = np.random.default_rng(5)

    def draw(rows: int, low: float) -> tuple[np.ndarray, np.ndarray]:
        chance = rng.beta(low, 3, rows)
        return chance**power, rng.random(rows) < chance

    known, labels = draw(40_000, 1.0)
    scores, later = draw(40_000, 1.6)  # the rows without a label have other scores
    threshold = 0.5**power
    found = expect_performance(bin_scores(known, labels), bin_scores(scores, np.zeros(40_000, np.bool_)), threshold)
    assert found is not None
    assert (found.rows, found.calibrated_on) == (40_000, 40_000)
    chosen = scores >= threshold
    measured = {
        "auc": roc_auc_score(later, scores),
        "pr_auc": average_precision_score(later, scores),
        f"precision at {threshold:g}": precision_score(later, chosen),
        f"recall at {threshold:g}": recall_score(later, chosen),
    }
    assert found.metrics == pytest.approx(measured, abs=0.01)


def counted(positives: int, rows: int) -> BinnedScores:
    return bin_scores(np.linspace(0.1, 0.9, rows), np.arange(rows) >= rows - positives)


@pytest.mark.parametrize(
    ("labelled", "waiting"),
    [
        (counted(LEAST_OF_EACH, LEAST_ROWS - 1), counted(0, 10)),
        (counted(LEAST_OF_EACH - 1, LEAST_ROWS), counted(0, 10)),
        (counted(LEAST_ROWS - LEAST_OF_EACH + 1, LEAST_ROWS), counted(0, 10)),
        (counted(LEAST_OF_EACH, LEAST_ROWS), counted(0, 0)),
        (counted(LEAST_OF_EACH, LEAST_ROWS), bin_scores(np.array([0.1, 0.2]), np.array([False, False]))),
    ],
)
def test_nothing_is_expected_without_a_known_calibration_or_without_rows(
    labelled: BinnedScores, waiting: BinnedScores
) -> None:
    assert expect_performance(labelled, waiting, 0.5) is None
