"""A candidate is a process: it makes itself ready, is timed from then on, and tells its figures on its last line.

A candidate's module has `run(place)` and, where it needs time to get ready, `ready(place)`.
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
    """Processor time of the process in that span, all threads: it tells more than the clock on a busy machine."""
    process_seconds: float
    """The whole process, with its start, its imports and its end."""
    peak_mb: float
    told: dict[str, float] = field(default_factory=dict)
    """What else the candidate has measured."""

    def figure(self, name: str) -> float:
        return self.told[name] if name in self.told else float(getattr(self, name))


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Time what a candidate does, and tell it with the process's peak memory and what is put into the dict given."""
    told: dict[str, float] = {}
    begun, cpu_begun = time.perf_counter(), time.process_time()
    yield told
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    figures: dict[str, Any] = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak_mb, "told": told}
    print(json.dumps(figures), flush=True)


def run_candidate(name: str, module: str, place: Place) -> Measured:
    """Run a candidate in a fresh process, into an empty destination.

    Raises:
        RuntimeError: with the end of what it said, where it fails.
    """
    empty_database(place.warehouses[name])
    begun = time.perf_counter()
    done = run_module("benchmarks.candidate", place, name, module)
    process_seconds = time.perf_counter() - begun
    told = json.loads(done.splitlines()[-1])
    return Measured(process_seconds=process_seconds, **told)


def run_module(entry: str, place: Place, name: str, *arguments: str) -> str:
    """Run a module of the benchmarks as a process with the place's environment; return what it printed."""
    # The same for every candidate: nobody's own Prefect settings.
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
    with timed() as told:
        told.update(candidate.run(place) or {})


if __name__ == "__main__":
    main(*sys.argv[1:])
