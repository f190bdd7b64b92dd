"""The types of a domain pack: a realistic case from its source to a decision, made by a seeded generator.

A pack is a folder of `examples/` whose `pack.py` defines one `PACK`. Its pipelines are in `deployments/pipelines/`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Literal

from penstock import Manifest, Project, SettingsError


@dataclass(frozen=True)
class Size:
    """How much data to generate, and where it ends. The same size gives the same data."""

    rows: int
    """Rows of the primary source, about."""
    days: int
    seed: int
    dirty: float
    """Share of the scored rows that are corrupted on purpose."""
    until: datetime
    """End of the newest interval."""


@dataclass(frozen=True)
class Scale:
    """The part of a size that a pack suggests."""

    rows: int
    days: int
    dirty: float = 0.003


@dataclass(frozen=True)
class Made:
    """What a generator made."""

    summary: Mapping[str, str]
    """For people: each file or table, and what it contains."""
    to_score: Mapping[str, int]
    """By pipeline: rows of the primary source in all intervals to score, after every incident is repaired."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """By pipeline: number of these rows that must be quarantined."""
    excluded: Mapping[str, int] = field(default_factory=dict)
    """By pipeline: number of these rows that the features query excludes on purpose."""


Deed = Callable[[Project, Size], None]


@dataclass(frozen=True)
class Incident:
    """Something that goes wrong at the source, and the gate that detects it."""

    name: str
    kind: Literal["schema", "upstream", "drift", "late"]
    pipeline: str
    summary: str
    """What happens, in one sentence."""
    strike: Deed
    mend: Deed
    """What the operator does, or asks others to do."""
    remedy: str
    """The same as text."""
    outcome: Literal["halted", "accepted", "noted", "restated"]
    """halted: nothing is published; accepted: halted, and then the operator publishes the run, because the data are
    right; noted: published, with a note; restated: a published interval is scored again."""
    gate: str = ""
    """Part of the name of the expectation that halts or notes."""


@dataclass(frozen=True)
class Labels:
    """Where the labels are: joined to the live rows by the pipeline's key."""

    connection: str
    table: str
    column: str
    metric: str
    """A name of `penstock.examples.judging.METRICS`."""
    score: str = "score"
    """Column of the live rows to measure."""
    group: tuple[str, ...] = ()
    """Columns of the key that form groups. Rows are ranked within a group, and the figure is the mean over groups."""


@dataclass(frozen=True)
class FollowUp:
    """What the labels show of a pipeline once they are there, and what people do then."""

    pipeline: str
    summary: str
    """What has happened, in one sentence."""
    metric: str
    """The metric that shows it, by its name in `penstock monitor performance`."""
    outcome: Literal["alerted", "promoted"]
    """alerted: the metric raises its alert; promoted: the challenger's metric is better than the champion's, so its
    past runs go live and it becomes the champion."""
    remedy: str
    """What the operator does, as text."""


@dataclass(frozen=True)
class Pack:
    """One domain pack."""

    name: str
    about: str
    connections: tuple[str, ...]
    """Named connections of its sources: SQLite in the project folder unless the environment sets another."""
    pipelines: tuple[str, ...]
    demo: Scale
    small: Scale
    """The size that the tests use."""
    scored: int
    """Number of intervals at the end that are scored. The model is trained on the data before them. At least two."""
    make: Callable[[Project, Size], Made]
    """Fill the project's databases and files."""
    train: Callable[[Project, Size], tuple[Manifest, ...]]
    """Train on the labels known at the end of the data, and register each model under the alias in its spec."""
    deliver_labels: Callable[[Project, Size], int]
    """Write the labels that have become known since. Returns their number."""
    labels: Mapping[str, Labels]
    """By pipeline."""
    incidents: tuple[Incident, ...]
    """In the order in which they are played: first those that halt, on the newest interval. One that is accepted
    publishes it, so none that halts comes after it."""
    labels_after: tuple[timedelta, ...] = ()
    """When labels are collected, counted from the end of the data. The last time all of them have been seen."""
    follow_ups: tuple[FollowUp, ...] = ()


def pack_names() -> tuple[str, ...]:
    return tuple(sorted(path.parent.name.replace("_", "-") for path in Path(__file__).parent.glob("*/pack.py")))


def _nearest(name: str, known: tuple[str, ...]) -> str:
    found = get_close_matches(name, known, n=1)
    return f"Did you mean `{found[0]}`? " if found else ""


def open_pack(name: str) -> Pack:
    """Return a pack by its name.

    Raises:
        SettingsError: There is no pack of this name.
    """
    known = pack_names()
    if name not in known:
        raise SettingsError(f"there is no pack `{name}`", f"{_nearest(name, known)}There are: {', '.join(known)}.")
    pack: Pack = import_module(f"penstock.examples.{name.replace('-', '_')}.pack").PACK
    return pack
