"""Profiles: the counts per column and bin of what a run scored, and of the rows that it is compared with."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from penstock.spec.expectation_types import Severity

ColumnKind = Literal["number", "category"]
ProfileStage = Literal["features", "scores"]
UNSEEN = "(unseen)"
"""Name of the last bin of every column: values that the model cannot take, such as unseen categories."""


@dataclass(frozen=True)
class BinCounts:
    """How many rows of a column are in each bin, the unseen values last, and how many are NULL."""

    counts: tuple[int, ...]
    nulls: int

    @property
    def present(self) -> int:
        """Rows that are not NULL."""
        return sum(self.counts)

    @property
    def rows(self) -> int:
        return self.present + self.nulls

    @property
    def null_share(self) -> float:
        return self.nulls / self.rows if self.rows else 0.0

    def __add__(self, other: "BinCounts") -> "BinCounts":
        """Add the counts of other rows in the same bins."""
        return BinCounts(tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)), self.nulls + other.nulls)

    def __sub__(self, other: "BinCounts") -> "BinCounts":
        """Leave out the counts of some of the rows."""
        return BinCounts(tuple(a - b for a, b in zip(self.counts, other.counts, strict=True)), self.nulls - other.nulls)


Profile = Mapping[str, BinCounts]
"""The counts by column."""


def add_profiles(profiles: Iterable[Profile]) -> dict[str, BinCounts]:
    """Add up the profiles of several partitions."""
    total: dict[str, BinCounts] = {}
    for profile in profiles:
        for column, counts in profile.items():
            total[column] = total[column] + counts if column in total else counts
    return total


SlicedProfile = Mapping[str, Mapping[str, Profile] | None]
"""By column of `drift.slices`: the profile of the rows with each of its values. None: it has too many values."""
MOST_SLICES = 50
"""Most values of a column that drift is sliced by, in all partitions together."""


def add_slices(sliced: Iterable[SlicedProfile]) -> dict[str, dict[str, dict[str, BinCounts]] | None]:
    """Add up the profiles of slices. A column with more than `MOST_SLICES` values in all is None."""
    total: dict[str, dict[str, dict[str, BinCounts]] | None] = {}
    for each in sliced:
        for column, values in each.items():
            known = total.setdefault(column, {})
            if known is None or values is None:
                total[column] = None
                continue
            for value, profile in values.items():
                known[value] = add_profiles([known.get(value, {}), profile])
            if len(known) > MOST_SLICES:
                total[column] = None
    return total


@dataclass(frozen=True)
class ColumnBins:
    """The bins of one column of a model version, and its reference rows in them."""

    column: str
    """Its name in the ledger. With `models:`, that of a feature is `step.feature`."""
    step: str
    """The step whose model it is of."""
    feature: str
    """Its name in the manifest."""
    model: str
    """The version, as `name/version`."""
    stage: ProfileStage
    kind: ColumnKind
    edges: tuple[float, ...] | tuple[str, ...]
    """Upper ends of the bins of numbers, each included; the last bin has no end. Names of categories, a bin each."""
    reference: BinCounts

    @property
    def digest(self) -> str:
        """Identify the bins: only counts in the same bins can be compared."""
        return hashlib.sha256(json.dumps([self.kind, self.edges]).encode()).hexdigest()


@dataclass(frozen=True)
class Baseline:
    """The rows that a column is compared with."""

    name: str
    """A model version as `name/version`, or the ID of a run."""
    counts: BinCounts


@dataclass(frozen=True)
class FarthestSlice:
    """The rows with one value of a column, without which another column would be nearer to its baseline."""

    column: str
    value: str
    rows: int
    psi_without: float
    """PSI of the other rows."""


@dataclass(frozen=True)
class ColumnProfile:
    """One column of one run, as the ledger keeps it."""

    column: str
    stage: ProfileStage
    kind: ColumnKind
    edges: tuple[float, ...] | tuple[str, ...] | None
    """None: the column is private."""
    edges_digest: str
    model: str
    """The version that the bins are of, as `name/version`."""
    counts: BinCounts
    baseline: Baseline | None = None
    """None: nothing to compare with, or in other bins."""
    farthest: int | None = None
    """The partition that is farthest from the baseline. None for a run with one partition."""
    slice: FarthestSlice | None = None
    """The slice that most of the distance comes from. None: no slice explains half of it, or nothing is sliced."""
    sources: tuple[str, ...] = ()
    """Of a feature: the sources that its values are made of. Empty: not known, or a score."""
    alarm: Severity | None = None
    """The severity, if the column has drifted."""
    episode: str | None = None
    """The run with which the alarm began: the first of consecutive runs that have it."""
