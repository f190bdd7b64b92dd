"""The quality of rankings against relevances, as sums over groups that add up over partitions and runs."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.monitor.estimates import Estimate, mean


@dataclass(frozen=True)
class RankingSums:
    """Sums over groups of rows that are ranked together. Groups without a relevant row have no order to find."""

    count: int
    """Rows with a score and a label."""
    groups: int
    """Groups with a relevant row."""
    gains: float
    """Sum of the groups' ndcg."""
    gains_squared: float

    def __add__(self, other: "RankingSums") -> "RankingSums":
        return RankingSums(
            self.count + other.count,
            self.groups + other.groups,
            self.gains + other.gains,
            self.gains_squared + other.gains_squared,
        )

    def metrics(self) -> dict[str, Estimate]:
        """Return `ndcg`, the mean over the groups."""
        found = mean(self.gains, self.gains_squared, self.groups)
        return {} if found is None else {"ndcg": found.cut(0.0, 1.0)}

    def as_json(self) -> dict[str, Any]:
        sums = {"groups": self.groups, "gains": self.gains, "gains_squared": self.gains_squared}
        return {"problem": "ranking", "count": self.count, **sums}


def sum_groups(
    scores: "np.ndarray[Any, Any]", relevances: "np.ndarray[Any, Any]", groups: "np.ndarray[Any, Any]"
) -> RankingSums:
    """Sum up rows by group.

    Args:
        scores: Shape (n,), without NaN. A higher one is ranked first.
        relevances: At least 0, shape (n,), without NaN.
        groups: The number of each row's group, shape (n,).
    """
    order = np.argsort(groups, kind="stable")
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    parts = np.split(order, cuts) if len(order) else []
    found = np.array([normalized_gain(scores[rows], relevances[rows]) for rows in parts if relevances[rows].any()])
    return RankingSums(len(scores), len(found), float(found.sum()), float((found**2).sum()))


def normalized_gain(scores: "np.ndarray[Any, Any]", relevances: "np.ndarray[Any, Any]") -> float:
    """Return the ndcg of one group, with the relevance as gain. Tied rows share the mean of their gains.

    Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques (2002). Ties are those of McSherry and
    Najork, Computing information retrieval performance measures efficiently in the presence of tied scores (2008).
    """
    discounts = 1 / np.log2(np.arange(2, len(scores) + 2))
    _, place, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    gains = np.bincount(place, relevances) / sizes
    ends = np.cumsum(sizes)
    summed = np.add.reduceat(discounts, np.concatenate([[0], ends[:-1]]))
    return float((gains * summed).sum() / (np.sort(relevances)[::-1] * discounts).sum())
