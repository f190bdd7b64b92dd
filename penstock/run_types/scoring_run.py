"""One try to score an interval, and the model versions that it is pinned to."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from penstock.interval import DataInterval
from penstock.spec.pipeline import Pipeline


@dataclass(frozen=True)
class ModelPin:
    """The one model version that a run scores with. Resolved once."""

    name: str
    version: str
    digest: str

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True)
class LeftOut:
    """A challenger of the spec that has no run, and why."""

    model: str
    why: str
    failed: bool
    """Whether it could not be found. Otherwise it has nothing to add."""


Pins = Mapping[str, ModelPin]
"""Each step's version, in the order that they run. The last one decides."""


def deciding_model(pins: Pins) -> ModelPin:
    """Return the version that decides."""
    return pins[next(reversed(list(pins)))]


@dataclass(frozen=True)
class ScoringRun:
    """One try to score one data interval with one version of each model: the input of every step of the run."""

    run_id: str
    pipeline: Pipeline
    interval: DataInterval | None
    """None for a snapshot."""
    model: ModelPin
    """The version that decides: of several steps, that of the last."""
    lease_token: str
    variant: str = "live"
    flow_run_id: str | None = None
    steps: Pins = field(default_factory=dict)
    """Every step's version, where the pipeline has `models`."""
    share: float = 1.0
    """Share of the rows that the run scores. Less than 1 only for a challenger."""
    champion_run_id: str | None = None
    """Of a challenger's run: the run that scores the same rows for readers."""
    challengers: tuple[Self, ...] = ()
    """Of a champion's run: the runs of its challengers, under the same lease."""
    left_out: tuple[LeftOut, ...] = ()
    """Of a champion's run: the challengers of the spec that have no run."""

    @property
    def interval_key(self) -> str:
        return interval_key(self.interval)

    @property
    def claimed_ids(self) -> tuple[str, ...]:
        """The run and its challengers' runs."""
        return (self.run_id, *(each.run_id for each in self.challengers))

    def drop_challengers(self, run_ids: Collection[str]) -> Self:
        """Return the run without some of its challengers."""
        left = tuple(each for each in self.challengers if each.run_id not in run_ids)
        return replace(self, challengers=left) if len(left) < len(self.challengers) else self

    @property
    def label(self) -> str:
        return f"{self.pipeline.label} {interval_label(self.interval)}"


def interval_key(interval: DataInterval | None) -> str:
    """The interval's name in the ledger. A snapshot has one name for ever, so that the newest supersedes."""
    return interval.key if interval else "snapshot"


def interval_label(interval: DataInterval | None) -> str:
    return interval.label if interval else "snapshot"
