"""Run and time one candidate: a process that prints its figures as its last line.

A candidate's module has `run(place)`, which is timed, and optionally `ready(place)`, which is called before.
"""

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.place import Place, empty_database


@dataclass(frozen=True)
class Measured:
    """One round of one candidate."""

    seconds: float
    """From ready (everything imported) to done (the rows are committed, the flow has ended)."""
    cpu_seconds: float
    """Processor time of the process in that span, all threads. On a busy machine it says more than the clock."""
    process_seconds: float
    """The whole process, with its start, its imports and its end."""
    peak_mb: float
    extra: dict[str, float] = field(default_factory=dict)
    """Other figures that the candidate measured."""

    def figure(self, name: str) -> float:
        return self.extra[name] if name in self.extra else float(getattr(self, name))


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Time the body. Print the time, the peak memory and the figures that the body puts into the dict."""
    extra: dict[str, float] = {}
    begun, cpu_begun = time.perf_counter(), time.process_time()
    yield extra
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    figures: dict[str, Any] = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak_mb, "extra": extra}
    print(json.dumps(figures), flush=True)


def run_candidate(name: str, module: str, place: Place) -> Measured:
    """Run a candidate in a fresh process, into an empty destination.

    Raises:
        RuntimeError: the candidate failed; the message has the end of its output.
    """
    empty_database(place.warehouses[name])
    begun = time.perf_counter()
    done = run_module("benchmarks.candidate", place, name, module)
    process_seconds = time.perf_counter() - begun
    figures = json.loads(done.splitlines()[-1])
    return Measured(process_seconds=process_seconds, **figures)


def run_module(entry: str, place: Place, name: str, *arguments: str) -> str:
    """Run a module of the benchmarks as a process with the place's environment. Return what it printed."""
    # Every candidate gets the same environment, without the user's Prefect settings.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "PENSTOCK_"))}
    command = [sys.executable, "-m", entry, str(Path(place.folder) / "place.json"), *arguments]
    environment = inherited | place.environment(name)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def main(file: str, module: str) -> None:
    place, candidate = Place.read(file), importlib.import_module(module)
    if hasattr(candidate, "ready"):
        candidate.ready(place)
    with timed() as extra:
        extra.update(candidate.run(place) or {})


if __name__ == "__main__":
    main(*sys.argv[1:])
