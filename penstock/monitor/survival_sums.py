"""How well scores order the times of events, as counts of pairs within a run that add up over runs.

A label is the time of the event, or less than 0 where no event was seen until that time, as XGBoost writes it.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.monitor.estimates import Estimate, share_of_pairs

_CELLS = 4_000_000
"""Pairs that are compared at once."""
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class SurvivalSums:
    """Counts of comparable pairs: the row of the earlier time has had its event. Two rows of one run are a pair."""

    count: int
    """Rows with a score and a label."""
    events: int
    pairs: int
    concordant: float
    """Pairs whose earlier event has the score of the higher risk. Equal scores count half."""
    squares: float
    """Sum over rows of the square of a row's concordant pairs."""
    products: float
    """Sum over rows of a row's concordant pairs times its pairs."""
    pairs_squared: float
    """Sum over rows of the square of a row's pairs."""

    def __add__(self, other: "SurvivalSums") -> "SurvivalSums":
        return SurvivalSums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def metrics(self) -> dict[str, Estimate]:
        """Return `concordance`, Harrell's C, with the infinitesimal jackknife for its error.

        Therneau and Atkinson, Concordance (vignette of the R package survival).
        """
        if not self.pairs:
            return {}
        value = self.concordant / self.pairs
        spread = self.squares - 2 * value * self.products + value * value * self.pairs_squared
        return {"concordance": share_of_pairs(value, float(np.sqrt(max(spread, 0.0))) / self.pairs, self.events)}

    def as_json(self) -> dict[str, Any]:
        return {"problem": "survival", **{f.name: getattr(self, f.name) for f in fields(self)}}


def sum_pairs(risks: Array, labels: Array) -> SurvivalSums:
    """Sum up the pairs of rows. It takes as many steps as there are events times rows.

    A row without an event outlasts an event at its own time.

    Args:
        risks: Higher for an earlier event, shape (n,), without NaN.
        labels: Shape (n,), without 0 and NaN.
    """
    order = np.lexsort((labels < 0, np.abs(labels)))
    risks, labels = risks[order], labels[order]
    times, seen = np.abs(labels), labels > 0
    pairs, concordant = np.zeros(len(labels)), np.zeros(len(labels))
    events = np.flatnonzero(seen)
    at_once = max(1, _CELLS // max(len(labels), 1))
    for begin in range(0, len(events), at_once):
        some = events[begin : begin + at_once]
        first = int(some[0])
        later = times[None, first:] > times[some, None]
        later |= (times[None, first:] == times[some, None]) & ~seen[None, first:]
        right = np.sign(risks[some, None] - risks[None, first:]) / 2 + 0.5
        right *= later
        pairs[some] += later.sum(axis=1)
        concordant[some] += right.sum(axis=1)
        pairs[first:] += later.sum(axis=0)
        concordant[first:] += right.sum(axis=0)
    sums = (float((concordant**2).sum()), float((concordant * pairs).sum()), float((pairs**2).sum()))
    return SurvivalSums(len(labels), len(events), int(pairs.sum()) // 2, float(concordant.sum()) / 2, *sums)
