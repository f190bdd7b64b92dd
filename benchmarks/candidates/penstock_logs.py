"""Penstock on W7: land the lines first, to time that separately, then run the flow."""

import time
from pathlib import Path

from benchmarks.candidates import penstock_flow
from benchmarks.candidates.penstock_flow import SPEC, ready
from benchmarks.place import Place

__all__ = ["ready", "run"]


def run(place: Place) -> dict[str, float]:
    from penstock.run.extract import land_logs
    from penstock.spec.yaml_file import load_pipeline
    from penstock.tasks.process_resources import connector

    pipeline = load_pipeline(Path(place.folder) / SPEC)
    begun = time.perf_counter()
    landed = land_logs(pipeline, connector())["visits"].lines
    seconds = time.perf_counter() - begun
    penstock_flow.run(place)
    return {"landing_seconds": seconds, "lines_a_second": landed / seconds}
