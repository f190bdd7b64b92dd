"""Read what one run needs from a pipeline's sources."""

from dataclasses import replace

from penstock.carriers import Extracted, Partition, ScoringRun, SourceExtent
from penstock.interval import DataInterval
from penstock.ledger.releases import waivers_of
from penstock.privacy import Veil
from penstock.sources import Connect, open_source
from penstock.sources.log import Landing, LogReader, land_lines
from penstock.spec import LogSource, Pipeline


def land_logs(pipeline: Pipeline, connect: Connect) -> dict[str, Landing]:
    """Land the new lines of each log source; empty for a pipeline without one."""
    warehouse = connect(pipeline.destination.connection)
    logs = {name: source for name, source in pipeline.sources.items() if isinstance(source, LogSource)}
    return {name: land_lines(pipeline.name, name, source, warehouse) for name, source in logs.items()}


def plan_partitions(run: ScoringRun, connect: Connect, veil: Veil, partition_rows: int | None = None) -> SourceExtent:
    """Count the primary rows of the run's interval, take their fingerprint and cut them into partitions."""
    reader = open_source(run.pipeline, run.pipeline.primary, connect)
    extent = reader.plan(run.interval, partition_rows or run.pipeline.partition_rows)
    return replace(extent, fingerprint=_veiled(run.pipeline, extent.fingerprint, veil))


def extract_partition(run: ScoringRun, partition: Partition, connect: Connect) -> Extracted:
    """Read one slice of the primary source, the other sources whole, and which rows were released for this run."""
    pipeline = run.pipeline
    others = [name for name in pipeline.sources if name != pipeline.primary]
    return Extracted(
        primary=open_source(pipeline, pipeline.primary, connect).read(run.interval, partition),
        others={name: open_source(pipeline, name, connect).read(run.interval) for name in others},
        waivers=waivers_of(connect(pipeline.destination.connection), run),
    )


def source_fingerprint(pipeline: Pipeline, interval: DataInterval | None, connect: Connect, veil: Veil) -> str:
    """Return what the primary source shows for an interval now, to be compared with what a run saw."""
    return _veiled(pipeline, open_source(pipeline, pipeline.primary, connect).fingerprint(interval), veil)


def _veiled(pipeline: Pipeline, fingerprint: str, veil: Veil) -> str:
    """Hash a fingerprint that tells the smallest and largest of a private key."""
    return str(veil.hash(fingerprint)) if veil.hides(pipeline.key) else fingerprint


def count_malformed(pipeline: Pipeline, interval: DataInterval | None, connect: Connect) -> dict[str, tuple[int, int]]:
    """Return, by log source, how many lines of the interval could not be read, of how many."""
    readers = {name: open_source(pipeline, name, connect) for name in pipeline.sources}
    return {name: r.count_malformed(interval) for name, r in readers.items() if isinstance(r, LogReader)}
