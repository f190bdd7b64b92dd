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


Profile = Mapping[str, BinCounts]
"""The counts by column."""


def add_profiles(profiles: Iterable[Profile]) -> dict[str, BinCounts]:
    """Add up the profiles of several partitions."""
    total: dict[str, BinCounts] = {}
    for profile in profiles:
        for column, counts in profile.items():
            total[column] = total[column] + counts if column in total else counts
    return total


@dataclass(frozen=True)
class ColumnBins:
    """The bins of one column of a model version, and its reference rows in them."""

    column: str
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
    alarm: Severity | None = None
    """The severity, if the column has drifted."""
    episode: str | None = None
    """The run with which the alarm began: the first of consecutive runs that have it."""
