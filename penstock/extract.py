"""Read what one run needs from a pipeline's sources."""

from penstock.carriers import Extracted, Partition, ScoringRun, SourceExtent
from penstock.interval import DataInterval
from penstock.sources import Connect, open_source
from penstock.sources.log import Landing, LogReader, land_lines
from penstock.spec import LogSource, Pipeline


def land_logs(pipeline: Pipeline, connect: Connect) -> dict[str, Landing]:
    """Land the new lines of each log source; empty for a pipeline without one."""
    warehouse = connect(pipeline.destination.connection)
    logs = {name: source for name, source in pipeline.sources.items() if isinstance(source, LogSource)}
    return {name: land_lines(pipeline.name, name, source, warehouse) for name, source in logs.items()}


def plan_partitions(run: ScoringRun, connect: Connect, partition_rows: int | None = None) -> SourceExtent:
    """Count the primary rows of the run's interval, take their fingerprint and cut them into partitions."""
    reader = open_source(run.pipeline, run.pipeline.primary, connect)
    return reader.plan(run.interval, partition_rows or run.pipeline.partition_rows)


def extract_partition(run: ScoringRun, partition: Partition, connect: Connect) -> Extracted:
    """Read one slice of the primary source, and the other sources whole."""
    pipeline = run.pipeline
    others = [name for name in pipeline.sources if name != pipeline.primary]
    return Extracted(
        primary=open_source(pipeline, pipeline.primary, connect).read(run.interval, partition),
        others={name: open_source(pipeline, name, connect).read(run.interval) for name in others},
    )


def source_fingerprint(pipeline: Pipeline, interval: DataInterval | None, connect: Connect) -> str:
    """Return what the primary source shows for an interval now, to be compared with what a run saw."""
    return open_source(pipeline, pipeline.primary, connect).fingerprint(interval)


def count_malformed(pipeline: Pipeline, interval: DataInterval | None, connect: Connect) -> dict[str, tuple[int, int]]:
    """Return, by log source, how many lines of the interval could not be read, of how many."""
    readers = {name: open_source(pipeline, name, connect) for name in pipeline.sources}
    return {name: r.count_malformed(interval) for name, r in readers.items() if isinstance(r, LogReader)}
