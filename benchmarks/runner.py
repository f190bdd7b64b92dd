"""Run one candidate in a process of its own, and measure it."""

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

from benchmarks.peers import python_of
from benchmarks.place import Place
from benchmarks.processes import resident_mb
from benchmarks.servers import empty_database, environment_of

_EVERY = 0.2
"""Seconds between two looks at the memory of a candidate's processes."""


@dataclass(frozen=True)
class Measured:
    """One round of one candidate."""

    seconds: float
    """From ready (everything imported and started) to done (the rows are committed, the flow has ended)."""
    cpu_seconds: float
    """Processor time of the process and its children in that span. On a busy machine it says more than the clock."""
    process_seconds: float
    """The whole process, with its start, its imports and its end."""
    peak_mb: float
    """The peak of the process, or of all its processes together, looked at five times a second."""
    extra: dict[str, float] = field(default_factory=dict)
    """Other figures that the candidate measured."""

    def figure(self, name: str) -> float:
        return self.extra[name] if name in self.extra else float(getattr(self, name))


def run_candidate(name: str, module: str, place: Place) -> Measured:
    """Run a candidate in a fresh process, into an empty destination.

    Raises:
        RuntimeError: the candidate failed; the message has the end of its output.
    """
    empty_database(place.warehouses[name])
    shutil.rmtree(Path(place.folder) / "home", ignore_errors=True)  # it names the ledger that was emptied
    begun = time.perf_counter()
    done, together_mb = _run("benchmarks.candidate", place, name, module)
    process_seconds = time.perf_counter() - begun
    figures = next(json.loads(line) for line in reversed(done.splitlines()) if line.startswith('{"seconds"'))
    figures["peak_mb"] = max(figures["peak_mb"], together_mb)
    return Measured(process_seconds=process_seconds, **figures)


def run_module(entry: str, place: Place, name: str, *arguments: str) -> str:
    """Run a module of the benchmarks as a process with the place's environment. Return what it printed."""
    return _run(entry, place, name, *arguments)[0]


def _run(entry: str, place: Place, name: str, *arguments: str) -> tuple[str, float]:
    # Every candidate gets the same environment, without the user's Prefect settings.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "PENSTOCK_"))}
    command = [str(python_of(name)), "-m", entry, str(Path(place.folder) / "place.json"), *arguments]
    environment = inherited | environment_of(place, name)
    peak = 0.0
    with TemporaryFile("w+") as output, TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=errors)
        while True:
            try:
                process.wait(_EVERY)
                break
            except subprocess.TimeoutExpired:
                peak = max(peak, resident_mb(process.pid))
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command[1:])} ended with {process.returncode}:\n{errors.read()[-3000:]}")
        return output.read(), peak
