"""Counts of positive and negative rows by bins of their probability, which add up over runs.

A bin is a range of arcsin(sqrt(p)), so bins are narrow near 0 and 1, where most scores of rare events are. There are
2 ** level bins, and each bin of a level is two of the next. Few distinct scores are counted at level 24, which tells
float32 scores apart. Others are counted at the finest level that fills at most `MOST` bins, and a sum has the coarser
level of its parts.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from penstock.monitor.estimates import Estimate, logit_interval, share_of_pairs, wilson

FINEST, COARSEST = 24, 10
MOST = 10_000
"""Bins that the counts of a partition and of a stored run fill at most, unless they are at the coarsest level."""
MOST_ADDED = 100_000
"""Bins that a sum fills at most."""


@dataclass(frozen=True, eq=False)
class BinnedScores:
    """Rows by bin. The bins are in ascending order, and only those with rows are listed."""

    level: int
    bins: "np.ndarray[Any, Any]"
    """Their numbers, from 0 to 2 ** level - 1."""
    rows: "np.ndarray[Any, Any]"
    positives: "np.ndarray[Any, Any]"

    def __add__(self, other: "BinnedScores") -> "BinnedScores":
        level = min(self.level, other.level)
        one, two = self.coarsened(level), other.coarsened(level)
        bins = np.concatenate([one.bins, two.bins])
        rows, positives = np.concatenate([one.rows, two.rows]), np.concatenate([one.positives, two.positives])
        return _fitted(_grouped(level, bins, rows, positives), MOST_ADDED)

    def coarsened(self, level: int) -> "BinnedScores":
        """Return the counts by the wider bins of a level that is at most the present one."""
        return _grouped(level, self.bins >> (self.level - level), self.rows, self.positives)

    @cached_property
    def count(self) -> int:
        return int(self.rows.sum())

    @cached_property
    def positive_count(self) -> int:
        return int(self.positives.sum())

    @property
    def negative_count(self) -> int:
        return self.count - self.positive_count

    def auc(self) -> Estimate | None:
        """Return the area under the ROC curve with the interval of DeLong, DeLong and Clarke-Pearson (1988).

        Two rows of one bin count as a tie. None without rows of both labels.
        """
        positives, negatives = self.positives, self.rows - self.positives
        m, n = self.positive_count, self.negative_count
        if m == 0 or n == 0:
            return None
        of_positive = (np.cumsum(negatives) - negatives / 2) / n  # share of the negatives below a positive of the bin
        of_negative = (m - np.cumsum(positives) + positives / 2) / m
        value = float((positives * of_positive).sum() / m)
        spread_m = float((positives * (of_positive - value) ** 2).sum()) / max(m - 1, 1)
        spread_n = float((negatives * (of_negative - value) ** 2).sum()) / max(n - 1, 1)
        return share_of_pairs(value, math.sqrt(spread_m / m + spread_n / n), min(m, n))

    def average_precision(self) -> Estimate | None:
        """Return the area under the precision-recall curve as average precision. None without positives.

        At the finest level, rows of one bin are a tie, as in scikit-learn. Else the expectation over their orders is
        taken.
        """
        if self.positive_count == 0:
            return None
        positives, rows = self.positives[::-1].astype(float), self.rows[::-1].astype(float)
        before, above = np.cumsum(positives) - positives, np.cumsum(rows) - rows
        if self.level == FINEST:
            summed = positives * (before + positives) / (above + rows)
        else:
            rate = np.where(rows > 1, (positives - 1) / np.maximum(rows - 1, 1), 0.0)
            steps = _harmonic(above + rows) - _harmonic(above)
            summed = positives / rows * (rate * rows + (before + 1 - rate - rate * above) * steps)
        return logit_interval(float(summed.sum() / self.positive_count), self.positive_count)

    def first_from(self, threshold: float) -> int:
        """Return the place of the first bin with scores of at least the threshold, rounded to the edge of a bin."""
        return int(np.searchsorted(self.bins, _bin_of(np.array([threshold]), self.level)[0]))

    def counts_from(self, threshold: float) -> tuple[int, int]:
        """Return (rows, positives) with a score of at least the threshold. It is rounded to the edge of a bin."""
        first = self.first_from(threshold)
        return int(self.rows[first:].sum()), int(self.positives[first:].sum())

    def lower_edge(self, place: int) -> float:
        """Return the least probability of the bin at a place of the list, as it counts in `counts_from`."""
        edge = math.sin(int(self.bins[place]) / 2**self.level * math.pi / 2) ** 2
        while int(_bin_of(np.array([edge]), self.level)[0]) < int(self.bins[place]):  # rounding took it below
            edge = math.nextafter(edge, 1.0)
        return edge

    def precision(self, threshold: float) -> Estimate | None:
        """Return the share of positives among the rows with a score of at least the threshold."""
        rows, positives = self.counts_from(threshold)
        return wilson(positives, rows)

    def recall(self, threshold: float) -> Estimate | None:
        """Return the share of the positives that have a score of at least the threshold."""
        return wilson(self.counts_from(threshold)[1], self.positive_count)

    def top(self, k: int) -> tuple[Estimate | None, Estimate | None]:
        """Return precision and recall of the `k` rows with the highest scores. A bin that is cut counts in part."""
        rows, positives = self.rows[::-1], self.positives[::-1]
        above = np.cumsum(rows) - rows
        taken = np.clip(k - above, 0, rows)
        found = round(float((positives * taken / np.maximum(rows, 1)).sum()))
        return wilson(found, int(taken.sum())), wilson(found, self.positive_count)

    def as_json(self) -> dict[str, Any]:
        """Return a value that JSON can hold, with at most `MOST` bins, which keeps it short.

        The bins are written as steps from one to the next.
        """
        kept = _fitted(self, MOST)
        return {
            "level": kept.level,
            "steps": np.diff(kept.bins, prepend=0).tolist(),
            "rows": kept.rows.tolist(),
            "positives": kept.positives.tolist(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "BinnedScores":
        steps, rows, positives = (np.array(value[name], np.int64) for name in ("steps", "rows", "positives"))
        return cls(int(value["level"]), np.cumsum(steps), rows, positives)


def bin_scores(probabilities: "np.ndarray[Any, Any]", positive: "np.ndarray[Any, Any]") -> BinnedScores:
    """Count rows by bin.

    Args:
        probabilities: Between 0 and 1, shape (n,).
        positive: Whether the label is 1, shape (n,).
    """
    bins = _bin_of(probabilities, FINEST)
    return _fitted(_grouped(FINEST, bins, np.ones(len(bins), np.int64), positive.astype(np.int64)), MOST)


def _bin_of(probabilities: "np.ndarray[Any, Any]", level: int) -> "np.ndarray[Any, Any]":
    angle = np.arcsin(np.sqrt(probabilities)) * (2 / math.pi)
    bins: np.ndarray[Any, Any] = np.minimum((angle * 2**level).astype(np.int64), 2**level - 1)
    return bins


def _grouped(
    level: int, bins: "np.ndarray[Any, Any]", rows: "np.ndarray[Any, Any]", positives: "np.ndarray[Any, Any]"
) -> BinnedScores:
    """Add up the entries of each bin."""
    present, place = np.unique(bins, return_inverse=True)
    added = (np.bincount(place, weights, len(present)).astype(np.int64) for weights in (rows, positives))
    return BinnedScores(level, present.astype(np.int64), *added)


def _fitted(counts: BinnedScores, most: int) -> BinnedScores:
    """Join bins until few enough are filled."""
    while len(counts.bins) > most and counts.level > COARSEST:
        counts = counts.coarsened(counts.level - 1)
    return counts


def _harmonic(n: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Return 1 + 1/2 + … + 1/n, without the constant of Euler and Mascheroni for large `n`."""
    table = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, 101))])
    small = table[np.minimum(n, 100).astype(np.int64)] - np.euler_gamma
    large = np.maximum(n, 1)
    sums: np.ndarray[Any, Any] = np.where(n <= 100, small, np.log(large) + 1 / (2 * large) - 1 / (12 * large**2))
    return sums
