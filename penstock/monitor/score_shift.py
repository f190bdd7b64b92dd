"""The histogram of a run's scores, and their shift against an earlier run.

The ledger keeps a run's first score column as 101 quantiles (0 %, 1 % … 100 %). Everything here is computed from them:
rows are spread evenly between two quantiles, and equal quantiles are rows of one value. So a share is exact to about
one per cent of the rows.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

MOVED, SHIFTED = 0.1, 0.25
"""The usual limits of PSI: Siddiqi, Credit Risk Scorecards (2006), chapter on monitoring."""
_LEAST_SHARE = 0.005
"""Replaces the share of an empty bin, whose logarithm is infinite: half of the least share that 101 quantiles show."""
_CHI_SQUARE = 16.919
"""The 95 % quantile of a chi-square with 9 degrees of freedom."""

Reading = Literal["steady", "within chance", "moved", "shifted"]


@dataclass(frozen=True)
class ScoreShift:
    """How far the scores of a run are from those of an earlier one."""

    psi: float
    chance: float
    """PSI is below this in 95 of 100 cases if the rows of both runs come from one population."""
    median: float
    median_before: float

    @property
    def reading(self) -> Reading:
        """The PSI in words. A difference that chance explains between few rows is not called a shift."""
        if MOVED <= self.psi <= self.chance:
            return "within chance"
        return read_stability(self.psi)


def read_stability(psi: float) -> Literal["steady", "moved", "shifted"]:
    """Return a PSI in words, by the usual limits."""
    if psi < MOVED:
        return "steady"
    return "moved" if psi <= SHIFTED else "shifted"


def measure_shift(now: Sequence[float], rows: int, before: Sequence[float], rows_before: int) -> ScoreShift | None:
    """Compare the 101 quantiles of two runs. None if one of them scored nothing.

    Under chance alone, PSI is distributed as (1/rows + 1/rows_before) times a chi-square with (bins - 1) degrees of
    freedom: Yurdakul and Naranjo, Statistical properties of the population stability index, Journal of Risk Model
    Validation 14 (2020).
    """
    if not (now and before and rows and rows_before):
        return None
    chance = _CHI_SQUARE * (1 / rows + 1 / rows_before)
    return ScoreShift(population_stability(now, before), chance, now[50], before[50])


def population_stability(now: Sequence[float], before: Sequence[float]) -> float:
    """Return the population stability index of two runs' 101 quantiles.

    Below 0.1 steady, 0.1 to 0.25 moved, above 0.25 shifted (Siddiqi 2006).
    """
    cuts = decile_cuts(before)
    return stability_of_shares(_shares_between(now, cuts), _shares_between(before, cuts))


def stability_of_shares(now: Sequence[float], before: Sequence[float]) -> float:
    """Return the population stability index of the bins' shares: sum of (now - before) * ln(now / before)."""
    pairs = ((max(new, _LEAST_SHARE), max(old, _LEAST_SHARE)) for new, old in zip(now, before, strict=True))
    return sum((new - old) * math.log(new / old) for new, old in pairs)


def share_upto(quantiles: Sequence[float], value: float, *, included: bool = True) -> float:
    """Return the share of the rows below a value, with or without those equal to it."""
    last = len(quantiles) - 1
    left, right = bisect_left(quantiles, value), bisect_right(quantiles, value)
    if left < right:
        return (right - 1 if included else left) / last
    if left == 0 or left > last:
        return 0.0 if left == 0 else 1.0
    low, high = quantiles[left - 1], quantiles[left]
    return (left - 1 + (value - low) / (high - low)) / last


def bin_edges(bins: int, *distributions: Sequence[float]) -> list[float]:
    """Return the edges of bins of equal width over all distributions. One bin if all rows have one value."""
    low = min(quantiles[0] for quantiles in distributions if quantiles)
    high = max(quantiles[-1] for quantiles in distributions if quantiles)
    if low == high:
        return [low, high]
    return [low + (high - low) * i / bins for i in range(bins)] + [high]


def bin_shares(quantiles: Sequence[float], edges: Sequence[float]) -> list[float]:
    """Return the share of the rows in each bin `(lower, upper]`, and in the first one with its lower edge."""
    upto = [0.0, *(share_upto(quantiles, edge) for edge in edges[1:])]
    return [upper - lower for lower, upper in pairwise(upto)]


def decile_cuts(quantiles: Sequence[float]) -> list[tuple[float, bool]]:
    """Return the upper end of each bin but the last, and whether the bin includes it.

    There are ten bins that each hold a tenth of the rows. A value that fills whole bins is a bin of its own.
    """
    deciles = quantiles[::10]
    cuts = []
    for value in sorted(set(deciles[1:-1])):
        if deciles.count(value) > 1:
            cuts.append((value, False))
        cuts.append((value, True))
    return cuts


def _shares_between(quantiles: Sequence[float], cuts: Sequence[tuple[float, bool]]) -> list[float]:
    upto = [0.0, *(share_upto(quantiles, value, included=included) for value, included in cuts), 1.0]
    return [upper - lower for lower, upper in pairwise(upto)]
