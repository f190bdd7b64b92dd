"""A candidate is a process: it makes itself ready, is timed from then on, and tells its figures on its last line."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.place import Place
from deployments.local_server import client_environment


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


@contextmanager
def timed() -> Iterator[None]:
    """Time what a candidate does, and tell it with the process's peak memory."""
    begun, cpu_begun = time.perf_counter(), time.process_time()
    yield
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak_mb}), flush=True)


def run_candidate(module: str, place: Place, file: Path) -> Measured:
    """Run a candidate in a fresh process.

    Raises:
        RuntimeError: with the end of what it said, where it fails.
    """
    begun = time.perf_counter()
    done = run_module(module, place, file)
    process_seconds = time.perf_counter() - begun
    told = json.loads(done.splitlines()[-1])
    return Measured(process_seconds=process_seconds, **told)


def run_module(module: str, place: Place, file: Path) -> str:
    """Run a module of the benchmarks with the place's environment; return what it printed."""
    command = [sys.executable, "-m", module, str(file)]
    done = subprocess.run(command, env=_environment(place), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def _environment(place: Place) -> dict[str, str]:
    """The same for every candidate: nobody's own Prefect settings, and no telemetry."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PENSTOCK_"))}
    return (
        inherited
        | client_environment(place.api_url)
        | {
            "PREFECT_HOME": str(Path(place.folder) / "client"),
            "GX_ANALYTICS_ENABLED": "false",
            "PENSTOCK_HOME": str(Path(place.folder) / "home"),
            "PENSTOCK_MODEL_STORE": str(place.models),
            "PENSTOCK_CONNECTIONS__SHOP": place.shop,
            "PENSTOCK_CONNECTIONS__WAREHOUSE": place.warehouse,
            "PENSTOCK_RUNNER": "threads:2",
        }
    )
