"""Types of a workload: the work, the candidates that do it, and the comparisons."""

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
    """A figure of one candidate divided by the same figure of another. Less is better."""

    of: str
    to: str
    target: float | None = None
    figure: str = "seconds"

    @property
    def name(self) -> str:
        return f"{self.of} / {self.to}" + ("" if self.figure == "seconds" else f", {self.figure}")


@dataclass(frozen=True)
class Growth:
    """A candidate's fixed cost and its time for each further row, from two sizes, as shares of another's."""

    of: str
    to: str
    of_part: str
    """The candidate that does the same with a part of the rows."""
    to_part: str
    fixed: float
    """Target of the fixed cost, as a share of the other's time for a million rows."""
    each: float
    """Target of the time for each further row, as a share of the other's."""


@dataclass(frozen=True)
class Limit:
    """A limit for a figure of one candidate. It depends on the machine."""

    of: str
    figure: str
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    per_rows: int | None = None
    """Divide the figure: it is that of so many rows."""


@dataclass(frozen=True)
class Beyond:
    """A limit for the extra time of one candidate over another per `rows` rows. It depends on the machine."""

    of: str
    to: str
    rows: int
    at_most_ms: float


@dataclass(frozen=True)
class Workload:
    """A piece of work and the candidates that do it."""

    name: str
    title: str
    rows: int
    """Its whole size."""
    check_rows: int
    """The size for comparing with the stored ratios. Fixed costs weigh more in it."""
    kind: Kind
    candidates: Mapping[str, str]
    """Name and module, in the order in which they take turns."""
    ratios: tuple[Ratio, ...] = ()
    growth: Growth | None = None
    limits: tuple[Limit, ...] = ()
    beyond: Beyond | None = None
    left_out: str = ""
    """Why a usual candidate does not take part."""
    rows_of: Mapping[str, float] = field(default_factory=dict)
    """Share of the rows that a candidate scores (the first ones by key), if not all."""
    agree: tuple[str, ...] = ()
    """Candidates whose scores must be the same. Empty: they score nothing, and check their results themselves."""


@dataclass(frozen=True)
class Work:
    """What all candidates of a workload do."""

    spec: dict[str, Any]
    """The pipeline spec, as read from YAML."""
    select: str
    """The query of the floor, of the plain flow and of Ray Data. Empty: the floor reads files."""
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
        """Fill the source and register a model named like the workload. Runs in a process of its own."""

    def work(self, place: Place) -> Work: ...


NAMES = ("W1", "W2", "W3", "W4", "W5", "W6", "W7", "W8", "W9")


def load(name: str) -> WorkloadModule:
    return cast("WorkloadModule", importlib.import_module(f"benchmarks.workloads.{name.lower()}"))


def work_of(place: Place) -> Work:
    return load(place.workload).work(place)
