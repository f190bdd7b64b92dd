"""Store the last measured ratios, of the quietest rounds. A later ratio that is a quarter worse is a regression."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

STORED = Path(__file__).with_name("ratios.json")
TOLERANCE = 0.25
_STEADY = ("cpu_seconds", "peak_mb")
"""Figures that other work on the machine hardly changes."""


@dataclass(frozen=True)
class Stored:
    """A workload's ratios and the rows that they were measured with. With fewer rows, fixed costs weigh more."""

    rows: int
    ratios: dict[str, float]


def read_stored(file: Path = STORED) -> dict[str, Stored]:
    """Return the stored ratios by workload. Empty if nothing was stored."""
    if not file.exists():
        return {}
    return {name: Stored(**stored) for name, stored in json.loads(file.read_text(encoding="utf-8")).items()}


def store(workload: str, rows: int, ratios: Mapping[str, float], file: Path = STORED) -> None:
    """Replace a workload's ratios."""
    known = {name: vars(stored) for name, stored in read_stored(file).items()}
    known[workload] = {"rows": rows, "ratios": dict(ratios)}
    file.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n", encoding="utf-8")


def is_busy() -> bool:
    """Return whether other work keeps the machine's processors busy. Ask before the first candidate runs."""
    return os.getloadavg()[0] > (os.cpu_count() or 1)


def find_regressions(workload: str, seen: Mapping[str, float], stored: Stored, busy: bool = False) -> list[str]:
    """Return a message for each ratio that is worse (larger) than the stored one by more than the tolerance.

    Args:
        busy: judge processor time and memory alone: on a busy machine the clock says little.
    """
    return [
        f"{workload}: {name} is {seen[name]:.3f}, and was {was:.3f}: worse by {seen[name] / was - 1:.0%}"
        for name, was in stored.ratios.items()
        if name in seen and seen[name] > was * (1 + TOLERANCE) and not (busy and not name.endswith(_STEADY))
    ]
