"""What a workload is: the work that all candidates do, who takes turns, what is compared."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, cast

from benchmarks.place import Kind, Place

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)

PENSTOCK, PLAIN, FLOOR = "penstock", "plain", "floor"


@dataclass(frozen=True)
class Ratio:
    """A figure of one candidate over the same of another; less is better."""

    of: str
    to: str
    target: float | None = None
    figure: str = "seconds"

    @property
    def name(self) -> str:
        return f"{self.of} / {self.to}" + ("" if self.figure == "seconds" else f", {self.figure}")


@dataclass(frozen=True)
class Limit:
    """A figure of a candidate by itself, with what it is to keep to; it depends on the machine."""

    of: str
    figure: str
    unit: str
    at_most: float | None = None
    at_least: float | None = None


@dataclass(frozen=True)
class Beyond:
    """What one candidate takes beyond another for each so many rows; it depends on the machine."""

    of: str
    to: str
    rows: int
    at_most_ms: float


@dataclass(frozen=True)
class Workload:
    """A piece of work and who does it."""

    name: str
    title: str
    rows: int
    """Its whole size."""
    kind: Kind
    candidates: Mapping[str, str]
    """Name and module, in the order in which they take turns."""
    ratios: tuple[Ratio, ...] = ()
    limits: tuple[Limit, ...] = ()
    beyond: Beyond | None = None
    left_out: str = ""
    """Who does not take part, and why."""
    rows_of: Mapping[str, float] = field(default_factory=dict)
    """Share of the rows that a candidate scores, the first ones by their key, where it is not all."""
    agree: tuple[str, ...] = ()
    """Candidates whose scores must be the same."""


@dataclass(frozen=True)
class Work:
    """What all candidates of a workload do."""

    spec: dict[str, Any]
    """The pipeline, as YAML would hold it."""
    select: str
    """What the floor and the plain flow read."""
    features: tuple[str, ...]
    key: str = "order_id"
    categories: tuple[str, ...] = ()
    expectations: tuple[tuple[str, dict[str, Any]], ...] = ()
    start: datetime = START
    end: datetime = START + DAY


class WorkloadModule(Protocol):
    """A module of `benchmarks.workloads`."""

    WORKLOAD: Workload

    def fill(self, place: Place) -> None:
        """Fill the source and register the model, named like the workload; runs in a process of its own."""

    def work(self, place: Place) -> Work: ...


NAMES = ("W1", "W2", "W3", "W4", "W5", "W6", "W7")


def load(name: str) -> WorkloadModule:
    return cast("WorkloadModule", importlib.import_module(f"benchmarks.workloads.{name.lower()}"))


def work_of(place: Place) -> Work:
    return load(place.workload).work(place)
