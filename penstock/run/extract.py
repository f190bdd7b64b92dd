"""Read what one run needs from a pipeline's sources."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace

from penstock.database.connections import Connect, Connector
from penstock.interval import DataInterval
from penstock.ledger.releases import waivers_of
from penstock.privacy.masking import MaskingPolicy
from penstock.resources.memory import MemoryPlan
from penstock.run_types import ExtractedRows, Horizon, Partition, ScoringRun, SourcePlan
from penstock.sources import open_source
from penstock.sources.logs.landed import Landing, LogReader, land_lines
from penstock.sources.open_transactions import read_horizon
from penstock.sources.snapshot import exported_snapshot
from penstock.spec.pipeline import LogSource, Pipeline, SqlSource


def land_logs(pipeline: Pipeline, connect: Connector) -> dict[str, Landing]:
    """Land the new lines of each log source; empty for a pipeline without one."""
    warehouse = connect(pipeline.destination.connection)
    logs = {name: source for name, source in pipeline.sources.items() if isinstance(source, LogSource)}
    return {
        name: land_lines(pipeline.name, name, source, warehouse, connect.allowed_roots) for name, source in logs.items()
    }


def plan_partitions(
    run: ScoringRun,
    connect: Connector,
    masking: MaskingPolicy,
    partition_rows: int | None = None,
    held: ExitStack | None = None,
    fit: Callable[[SourcePlan, int], MemoryPlan | None] = lambda _extent, _partition_rows: None,
) -> SourcePlan:
    """Count the primary rows of the run's interval, take their fingerprint and cut them into partitions.

    Args:
        held: keeps one moment of each Postgres source still, until it is closed, for all partitions to read; without it
            each is read at a moment of its own.
        fit: is told of the interval, cut into partitions of so many rows at the most; says what fits into memory, and
            may refuse the run.
    """
    pipeline, wanted = run.pipeline, partition_rows or run.pipeline.partition_rows
    with ExitStack() as opening:
        snapshots = _hold_snapshots(pipeline, connect, opening) if held is not None else {}
        reader = open_source(pipeline, pipeline.primary, _connect_at(snapshots, connect))

        def cut(size: int) -> SourcePlan:
            source_plan = reader.plan(run.interval, size)
            partitions = tuple(replace(partition, snapshots=snapshots) for partition in source_plan.partitions)
            return replace(
                source_plan, fingerprint=_masked(pipeline, source_plan.fingerprint, masking), partitions=partitions
            )

        source_plan = cut(wanted)
        fitted = fit(source_plan, wanted)
        if fitted and fitted.partition_rows < min(wanted, source_plan.rows):
            source_plan = cut(fitted.partition_rows)
        if held is not None:
            held.enter_context(opening.pop_all())
    return replace(source_plan, fit=fitted)


def extract_partition(run: ScoringRun, partition: Partition, connect: Connector) -> ExtractedRows:
    """Read one slice of the primary source, the other sources whole, and which rows were released for this run.

    Raises:
        SnapshotLost: the moment at which the partition was planned is no longer held still.
    """
    pipeline, then = run.pipeline, _connect_at(partition.snapshots, connect)
    others = [name for name in pipeline.sources if name != pipeline.primary]
    return ExtractedRows(
        primary=open_source(pipeline, pipeline.primary, then).read(run.interval, partition),
        others={name: open_source(pipeline, name, then).read(run.interval) for name in others},
        waivers=waivers_of(connect(pipeline.destination.connection), run),
    )


def extract_first(run: ScoringRun, rows: int, connect: Connector) -> ExtractedRows:
    """Read whichever rows of the interval come first, as if they were a partition, to see what rows are like."""
    pipeline = run.pipeline
    others = [name for name in pipeline.sources if name != pipeline.primary]
    return ExtractedRows(
        primary=open_source(pipeline, pipeline.primary, connect).read(run.interval, limit=rows),
        others={name: open_source(pipeline, name, connect).read(run.interval) for name in others},
    )


def source_fingerprint(
    pipeline: Pipeline, interval: DataInterval | None, connect: Connector, masking: MaskingPolicy
) -> str:
    """Return what the primary source shows for an interval now, to be compared with what a run saw."""
    return _masked(pipeline, open_source(pipeline, pipeline.primary, connect).fingerprint(interval), masking)


def _masked(pipeline: Pipeline, fingerprint: str, masking: MaskingPolicy) -> str:
    """Hash a fingerprint that tells the smallest and largest of a private key."""
    return str(masking.hash(fingerprint)) if masking.hides(pipeline.key) else fingerprint


def source_horizon(pipeline: Pipeline, connect: Connect) -> Horizon | None:
    """Return up to where the primary source is settled; None where the pipeline does not ask.

    Raises:
        HorizonHidden: the database cannot tell.
    """
    source = pipeline.primary_source
    if pipeline.interval is None or pipeline.interval.settle != "horizon" or not isinstance(source, SqlSource):
        return None
    return read_horizon(connect(source.connection))


def count_malformed(
    pipeline: Pipeline, interval: DataInterval | None, connect: Connector
) -> dict[str, tuple[int, int]]:
    """Return, by log source, how many lines of the interval could not be read, of how many."""
    readers = {name: open_source(pipeline, name, connect) for name in pipeline.sources}
    return {name: r.count_malformed(interval) for name, r in readers.items() if isinstance(r, LogReader)}


def _hold_snapshots(pipeline: Pipeline, connect: Connect, held: ExitStack) -> dict[str, str]:
    names = sorted({source.connection for source in pipeline.sources.values() if isinstance(source, SqlSource)})
    snapshots = {name: held.enter_context(exported_snapshot(connect(name))) for name in names}
    return {name: snapshot for name, snapshot in snapshots.items() if snapshot is not None}


def _connect_at(snapshots: Mapping[str, str], connect: Connector) -> Connector:
    return replace(connect, open=lambda name: replace(connect(name), snapshot=snapshots.get(name)))
