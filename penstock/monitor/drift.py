"""Judge drift: how far a run's columns are from the rows that they are compared with, and whether chance explains it.

Everything here is computed from counts that the ledger keeps, so a run can be judged again with other limits.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from penstock.monitor.chance import chance_of_bins, chance_of_share
from penstock.run_types import BinCounts, ColumnProfile, FarthestSlice, SlicedProfile
from penstock.spec.drift import Drift

FALSE_ALARMS = 0.003
"""Probability that chance alone is found to be more than chance in any column of a run."""
Exceeded = Literal["psi", "nulls"]


@dataclass(frozen=True)
class ColumnDrift:
    """The distance of one column from its baseline."""

    profile: ColumnProfile
    now: BinCounts
    before: BinCounts

    @cached_property
    def psi(self) -> float:
        """Population stability index of the values that are not NULL."""
        return population_stability(self.now, self.before)

    @property
    def null_change(self) -> float:
        """The share of NULLs now, less that of before."""
        return self.now.null_share - self.before.null_share

    @cached_property
    def psi_chance(self) -> float:
        """Probability that chance alone moves the values so far: those with a bin of their own, or the unseen ones."""
        now, before = self.now, self.before
        bins = chance_of_bins(now.counts[:-1], before.counts[:-1], ordered=self.profile.kind == "number")
        unseen = chance_of_share(now.counts[-1], now.present, before.counts[-1], before.present)
        return min(1.0, 2 * min(bins, unseen))

    @cached_property
    def null_chance(self) -> float:
        """Probability that chance alone changes the share of NULLs so much."""
        return chance_of_share(self.now.nulls, self.now.rows, self.before.nulls, self.before.rows)

    def beyond_chance(self, columns: int) -> tuple[Exceeded, ...]:
        """Return which of the two figures chance does not explain.

        Args:
            columns: Number of columns that are judged. Each has two figures, so the limit is corrected (Bonferroni).
        """
        limit = FALSE_ALARMS / (2 * columns)
        chances: tuple[tuple[Exceeded, float], ...] = (("psi", self.psi_chance), ("nulls", self.null_chance))
        return tuple(name for name, chance in chances if chance < limit)

    def exceeded(self, drift: Drift, columns: int) -> tuple[Exceeded, ...]:
        """Return which of the two figures is beyond its limit and beyond chance. Empty: the column has not drifted."""
        far = {"psi": self.psi >= drift.distance.psi, "nulls": abs(self.null_change) >= drift.distance.nulls}
        return tuple(name for name in self.beyond_chance(columns) if far[name])

    def degree(self, drift: Drift) -> float:
        """Return the larger of the two figures, in multiples of its limit."""
        return max(self.psi / drift.distance.psi, abs(self.null_change) / drift.distance.nulls)


def measure_drift(profile: ColumnProfile) -> ColumnDrift | None:
    """Return the distance of a profile from its baseline. None if it has none."""
    return ColumnDrift(profile, profile.counts, profile.baseline.counts) if profile.baseline else None


def judge_profiles(profiles: Collection[ColumnProfile], drift: Drift) -> dict[str, tuple[Exceeded, ...]]:
    """Return the columns that have drifted, each with the figures that are beyond their limits.

    The profiles are those of one run. Columns that `drift` does not watch are left out, and so are those with too few
    rows. `penstock monitor replay` calls it with other limits.
    """
    measured = [found for each in profiles if drift.severity_of(each.column) and (found := measure_drift(each))]
    judged = [each for each in measured if min(each.now.rows, each.before.rows) >= drift.least_rows]
    alarms = {each.profile.column: each.exceeded(drift, len(judged)) for each in judged}
    return {column: exceeded for column, exceeded in alarms.items() if exceeded}


def find_farthest_slice(column: str, now: BinCounts, before: BinCounts, slices: SlicedProfile) -> FarthestSlice | None:
    """Return the slice without which a column would be nearest to its baseline.

    None if more than half of the distance would stay without any one of them.

    A slice may always differ from all rows together, so its own distance from the baseline says nothing.
    """
    found: list[tuple[float, FarthestSlice]] = []
    for name, values in slices.items():
        for value, profile in (values or {}).items():
            others = now - profile[column] if column in profile else now
            if column in profile and 0 < others.rows < now.rows:
                rows, psi = profile[column].rows, population_stability(others, before)
                found.append((total_distance(others, before), FarthestSlice(name, value, rows, psi)))
    distance, nearest = min(found, key=lambda each: each[0], default=(math.inf, None))
    return nearest if distance <= total_distance(now, before) / 2 else None


def total_distance(now: BinCounts, before: BinCounts) -> float:
    """Return both figures of a column as one."""
    return population_stability(now, before) + abs(now.null_share - before.null_share)


def population_stability(now: BinCounts, before: BinCounts) -> float:
    """Return the population stability index of the values that are not NULL: sum of (now - before) * ln(now / before).

    Half a row is added to each bin, because the logarithm of an empty one is infinite. A bin that is empty in both does
    not count. Siddiqi, Credit Risk Scorecards (2006), chapter on monitoring.
    """
    pairs = [(new, old) for new, old in zip(now.counts, before.counts, strict=True) if new or old]
    if not now.present or not before.present:
        return 0.0
    shares = zip(_smoothed([new for new, _ in pairs]), _smoothed([old for _, old in pairs]), strict=True)
    return sum((new - old) * math.log(new / old) for new, old in shares)


def _smoothed(counts: Sequence[int]) -> list[float]:
    total = sum(counts) + 0.5 * len(counts)
    return [(count + 0.5) / total for count in counts]
