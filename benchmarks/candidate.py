"""Time one candidate in this process, which prints its figures as its last line.

A candidate's module has `run(place)`, which is timed. It may have `ready(place)`, called before, and `stop()`, called
after. This module, `benchmarks.place` and the workloads are imported in the environments of peers too, which lack
Penstock and most of its libraries.
"""

import importlib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.place import Place
from benchmarks.processes import cpu_seconds, peak_mb


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Time the body. Print the times, the peak memory and the figures that the body puts into the dict."""
    extra: dict[str, float] = {}
    begun, cpu_begun = time.perf_counter(), cpu_seconds()
    yield extra
    seconds = time.perf_counter() - begun
    used = cpu_seconds() - cpu_begun
    figures: dict[str, Any] = {"seconds": seconds, "cpu_seconds": used, "peak_mb": peak_mb(), "extra": extra}
    print(json.dumps(figures), flush=True)


def main(file: str, module: str) -> None:
    place, candidate = Place.read(file), importlib.import_module(module)
    if hasattr(candidate, "ready"):
        candidate.ready(place)
    with timed() as extra:
        extra.update(candidate.run(place) or {})
    if hasattr(candidate, "stop"):
        candidate.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
