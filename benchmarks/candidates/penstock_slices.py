"""Penstock on W9. Before the time begins, it measures the reading alone: staging, and every partition."""

import time
from pathlib import Path

from benchmarks.candidates import penstock_flow
from benchmarks.place import Place
from benchmarks.workload import Work, work_of

_measured: dict[str, float] = {}


def ready(place: Place) -> None:
    prepare(place, work_of(place))


def run(place: Place) -> dict[str, float]:
    penstock_flow.run(place)
    return _measured


def prepare(place: Place, work: Work) -> None:
    """Read once to load everything, and once to measure. Then write the spec."""
    penstock_flow.import_late()
    penstock_flow.write_spec(place, work.spec)
    read_partitions(place, work)
    begun = time.process_time()
    read_partitions(place, work)
    _measured["reading_cpu_seconds"] = time.process_time() - begun


def read_partitions(place: Place, work: Work) -> None:
    from tempfile import TemporaryDirectory

    from penstock.database.connections import Connector, open_database
    from penstock.interval import DataInterval
    from penstock.settings import load_settings
    from penstock.sources import open_source, read_file_states
    from penstock.spec.yaml_file import load_pipeline

    settings = load_settings()
    pipeline = load_pipeline(Path(place.folder) / penstock_flow.SPEC)
    interval = DataInterval(work.start, work.end)
    with TemporaryDirectory(dir=place.folder) as staging:
        connect = Connector(lambda name: open_database(settings, name), (), Path(staging)).of_run("reading")
        files = read_file_states(pipeline, ["orders"], interval, connect)
        partitions = open_source(pipeline, "orders", connect, files).plan(interval, pipeline.partition_rows).partitions
        parts = [open_source(pipeline, "orders", connect, files).read(interval, each) for each in partitions]
    if sum(part.num_rows for part in parts) != place.rows:
        raise RuntimeError(f"{len(partitions)} partitions have {sum(part.num_rows for part in parts):,} rows")
