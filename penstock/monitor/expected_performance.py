"""The performance that is expected of rows without a label, from their scores alone.

The labelled rows of the same model version say which share of the rows with a score is positive. That share is fitted
as a function of the score that never falls (isotonic regression), and each row without a label counts as positive by
its share. Nothing here is measured, and nothing is added to what was.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.monitor.binned_scores import BinnedScores

LEAST_ROWS, LEAST_OF_EACH = 1_000, 50
"""Fewest labelled rows that a calibration is known from, and fewest of them with each label."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ExpectedPerformance:
    """What is expected of rows without a label."""

    rows: int
    calibrated_on: int
    """Labelled rows that the calibration is known from."""
    metrics: dict[str, float]


def expect_performance(labelled: BinnedScores, waiting: BinnedScores, threshold: float) -> ExpectedPerformance | None:
    """Return what is expected of rows without a label. None without such rows, or without a known calibration.

    Also None if by the calibration all of the rows have one label.

    Args:
        labelled: rows of the same model version with their labels.
        waiting: rows without a label.
        threshold: score from which precision and recall are taken.
    """
    least = min(labelled.positive_count, labelled.negative_count)
    if waiting.count == 0 or labelled.count < LEAST_ROWS or least < LEAST_OF_EACH:
        return None
    level = min(labelled.level, waiting.level)
    known, rows = labelled.coarsened(level), waiting.coarsened(level)
    shares = fit_increasing(known.positives / known.rows, known.rows)
    positives = np.interp(rows.bins, known.bins, shares) * rows.rows
    if not 0 < positives.sum() < waiting.count:
        return None
    metrics = _rate(rows.rows.astype(np.float64), positives)
    chosen = slice(rows.first_from(threshold), None)
    found, taken = float(positives[chosen].sum()), float(rows.rows[chosen].sum())
    if taken:
        metrics[f"precision at {threshold:g}"] = found / taken
    metrics[f"recall at {threshold:g}"] = found / float(positives.sum())
    return ExpectedPerformance(waiting.count, labelled.count, metrics)


def fit_increasing(values: Array, weights: Array) -> Array:
    """Return the nearest values that never fall, by weighted least squares.

    Neighbours that fall are pooled: Ayer and others, An empirical distribution function for sampling with incomplete
    information (1955).

    Args:
        values, weights: shape (n,).
    """
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        pool = (value, float(weight), 1)
        while pools and pools[-1][0] >= pool[0]:
            mean, mass, size = pools.pop()
            total = mass + pool[1]
            pool = ((mean * mass + pool[0] * pool[1]) / total, total, size + pool[2])
        pools.append(pool)
    return np.repeat([mean for mean, _, _ in pools], [size for _, _, size in pools])


def _rate(rows: Array, positives: Array) -> dict[str, float]:
    """Return the expected ranking of rows, ascending by score. Rows of one bin are a tie."""
    negatives = rows - positives
    m, n = float(positives.sum()), float(negatives.sum())
    below = np.cumsum(negatives) - negatives / 2
    found = np.cumsum(positives[::-1]) / np.cumsum(rows[::-1])
    return {"auc": float((positives * below).sum() / (m * n)), "pr_auc": float((positives[::-1] * found).sum() / m)}
