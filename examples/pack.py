"""What a domain pack is: a realistic case from its source to a decision, made by a seeded generator.

A pack is a folder of `examples/` whose `pack.py` holds one `PACK`; its pipelines lie in `deployments/pipelines/`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Literal

from penstock import Manifest, Project, SettingsError


@dataclass(frozen=True)
class Size:
    """How large a world is, and where it ends. Same size, same world: a generator draws from nothing else."""

    rows: int
    """Rows of the primary source, about."""
    days: int
    seed: int
    dirty: float
    """Share of the scored rows that are spoiled on purpose."""
    until: datetime
    """End of the newest interval."""


@dataclass(frozen=True)
class Scale:
    """The part of a size that a pack proposes."""

    rows: int
    days: int
    dirty: float = 0.003


@dataclass(frozen=True)
class Made:
    """What a generator made."""

    summary: Mapping[str, str]
    """What lies where, for people: a file or table, and what it holds."""
    to_score: Mapping[str, int]
    """By pipeline: rows of the primary source in all intervals to score, once every incident is mended."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """By pipeline: how many of them the gates must quarantine."""
    excluded: Mapping[str, int] = field(default_factory=dict)
    """By pipeline: how many of them the features query leaves out on purpose."""


Deed = Callable[[Project, Size], None]


@dataclass(frozen=True)
class Incident:
    """Something that goes wrong at the source, and the gate that sees it."""

    name: str
    kind: Literal["schema", "upstream", "drift", "late"]
    pipeline: str
    summary: str
    """What happens, in one sentence."""
    strike: Deed
    mend: Deed
    """What the operator does, or has others do."""
    remedy: str
    """The same in words."""
    outcome: Literal["halted", "noted", "restated"]
    """halted: nothing is published; noted: published, with a note; restated: a published interval is scored again."""
    gate: str = ""
    """Words of the expectation that halts or notes."""


@dataclass(frozen=True)
class Labels:
    """Where what really happened is told, after the score: joined to the live rows by the pipeline's key."""

    connection: str
    table: str
    column: str
    metric: str
    """A name of `penstock.examples.judging.METRICS`."""
    score: str = "score"
    """Column of the live rows that is judged."""
    group: tuple[str, ...] = ()
    """Columns of the key whose rows are ranked among each other: the figure is the mean over such groups."""


@dataclass(frozen=True)
class Pack:
    """One domain pack."""

    name: str
    about: str
    connections: tuple[str, ...]
    """Named connections of its sources: SQLite in the project's folder unless the environment names another."""
    pipelines: tuple[str, ...]
    demo: Scale
    small: Scale
    """What a test makes."""
    scored: int
    """Intervals at the end that the pipelines score; the model learns from what lies before them. At least two."""
    make: Callable[[Project, Size], Made]
    """Fill the project's databases and files."""
    train: Callable[[Project, Size], tuple[Manifest, ...]]
    """Train on what is known by the end of the world, and register each model under the alias that its spec names."""
    deliver_labels: Callable[[Project, Size], int]
    """Write the labels that have come in since; returns how many."""
    labels: Mapping[str, Labels]
    """By pipeline."""
    incidents: tuple[Incident, ...]
    """In the order in which they are played: those that halt first, on the newest interval."""


def pack_names() -> tuple[str, ...]:
    return tuple(sorted(path.parent.name.replace("_", "-") for path in Path(__file__).parent.glob("*/pack.py")))


def _nearest(name: str, known: tuple[str, ...]) -> str:
    found = get_close_matches(name, known, n=1)
    return f"Did you mean `{found[0]}`? " if found else ""


def open_pack(name: str) -> Pack:
    """Return a pack by its name.

    Raises:
        SettingsError: there is none of this name.
    """
    known = pack_names()
    if name not in known:
        raise SettingsError(f"there is no pack `{name}`", f"{_nearest(name, known)}There are: {', '.join(known)}.")
    pack: Pack = import_module(f"penstock.examples.{name.replace('-', '_')}.pack").PACK
    return pack
