"""How far two scorings of the same rows agree: figures of one score column, and of one decision.

A is the scoring before, B the one that is compared with it. The rows are those that both scored.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.monitor.score_shift import read_stability, stability_of_shares

PERCENTS = 101
"""Quantiles of a column: 0 %, 1 % … 100 %."""
DECILES = 10


@dataclass(frozen=True)
class Moments:
    """Sums over the rows that have both values, around the means of both."""

    squares_a: float
    squares_b: float
    products: float


@dataclass(frozen=True)
class ScoreAgreement:
    """The two values of one score column. The figures are of rows that have both; None where there are none."""

    column: str
    rows: int
    """Rows that have a value in both."""
    null_a: int
    """Rows without a value in A alone."""
    null_b: int
    null_both: int
    mean_a: float | None = None
    mean_b: float | None = None
    mean_difference: float | None = None
    """The mean of the absolute differences."""
    largest_difference: float | None = None
    """B minus A of the row that differs most."""
    correlation: float | None = None
    """Pearson's. None if a column has one value only."""
    psi: float | None = None
    """Population stability index, over ten bins that each hold a tenth of A."""
    deciles: tuple[tuple[int, ...], ...] = ()
    """Rows by decile: those of A from top to bottom, each among its own column's values, and those of B across."""
    quantiles_a: tuple[float, ...] = ()
    """The 101 quantiles of A."""
    quantiles_b: tuple[float, ...] = ()

    @property
    def same_decile(self) -> float | None:
        """The share of the rows that are in the same decile in both."""
        return sum(self.deciles[i][i] for i in range(len(self.deciles))) / self.rows if self.deciles else None

    @property
    def stays(self) -> tuple[float | None, ...]:
        """For each decile of A the share of its rows that are in the same decile of B. None without rows."""
        return tuple(row[i] / sum(row) if sum(row) else None for i, row in enumerate(self.deciles))

    @property
    def reading(self) -> str:
        """The PSI in words."""
        return "" if self.psi is None else read_stability(self.psi)


@dataclass(frozen=True)
class RankAgreement:
    """The two orders that a ranking model's score gives to the rows of each group."""

    column: str
    group: tuple[str, ...]
    """The columns whose rows with equal values are one group. Its scores are comparable only within a group."""
    missing: tuple[str, ...] = ()
    """Those that the tables do not have. With one, nothing is compared."""
    groups: int = 0
    """Groups with at least two rows that have both scores."""
    same_first: int = 0
    """Groups whose first row is the same in both. Rows of equal scores share a place."""
    mean_change: float | None = None
    """The mean number of places that a row moves. None without groups."""


@dataclass(frozen=True)
class DecisionChange:
    """The rows with one value in A and one in B."""

    a: Any
    b: Any
    rows: int


@dataclass(frozen=True)
class DecisionAgreement:
    """A column that is no score: a decision, a class, a flag or a whole number."""

    column: str
    rows: int
    flips: int
    """Rows whose values differ. NULL is a value of its own."""
    cells: tuple[DecisionChange, ...]
    """The cross table of A and B, the most rows first. Only its largest cells, where there are very many."""

    @property
    def share(self) -> float:
        return self.flips / self.rows if self.rows else 0.0


def quantile_ranks(rows: int) -> list[int]:
    """Return the places, counted from 1, of the sorted values that the 101 quantiles lie between."""
    return sorted({place + 1 for i in range(PERCENTS) for place in _neighbours(rows, i)})


def read_quantiles(rows: int, ranked: Mapping[int, float]) -> tuple[float, ...]:
    """Return the 101 quantiles from the values at `quantile_ranks`, interpolated along a line.

    Args:
        ranked: The value at each place.
    """
    found = []
    for i in range(PERCENTS):
        low, high = (ranked[place + 1] for place in _neighbours(rows, i))
        part = i * (rows - 1) % (PERCENTS - 1) / (PERCENTS - 1)
        found.append(low if low == high else low + (high - low) * part)
    return tuple(found)


def own_decile_cuts(quantiles: Sequence[float]) -> list[float]:
    """Return the upper ends of the first nine deciles. Each includes its end, so equal values are in one decile."""
    return list(quantiles[10:-1:10])


def measure_stability(rows_a: Sequence[int], rows_b: Sequence[int]) -> float:
    """Return the PSI of the numbers of rows in the bins of A."""
    now, before = ([number / sum(rows) for number in rows] for rows in (rows_b, rows_a))
    return stability_of_shares(now, before)


def correlate(moments: Moments) -> float | None:
    """Return Pearson's correlation. None if one column has a single value."""
    spread = math.sqrt(moments.squares_a) * math.sqrt(moments.squares_b)
    return max(-1.0, min(1.0, moments.products / spread)) if spread > 0 else None


def _neighbours(rows: int, percent: int) -> tuple[int, int]:
    """Return the places, counted from 0, beside a quantile. In whole numbers, so that a value's own place is exact."""
    place, rest = divmod(percent * (rows - 1), PERCENTS - 1)
    return place, place + (rest > 0)
