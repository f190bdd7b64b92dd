"""Read what one run needs from a pipeline's sources."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pyarrow as pa

from penstock.database.connections import Connect, Connector
from penstock.errors import Halted, SourceChanged
from penstock.interval import DataInterval
from penstock.ledger.releases import waivers_of
from penstock.privacy.masking import HIDDEN, MaskingPolicy
from penstock.resources.memory import MemoryPlan
from penstock.run_types import ExtractedRows, Horizon, LogNotes, Partition, ScoringRun, SourcePlan, interval_label
from penstock.sources import SourceReader, open_source, read_file_states
from penstock.sources.files_reader import FilesReader
from penstock.sources.logs.landed import LogReader
from penstock.sources.logs.landing import Landing, land_lines
from penstock.sources.open_transactions import read_horizon
from penstock.sources.snapshot import exported_snapshot
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import LogSource, SqlSource
from penstock.wording import plural


@dataclass(frozen=True)
class ExtractedSecondary:
    """The rows of the secondary sources."""

    tables: dict[str, pa.Table]
    unread: dict[str, int]
    """By source of files: how many of its rows cannot be read."""


def land_logs(pipeline: Pipeline, connect: Connector) -> dict[str, Landing]:
    """Land the new lines of each log source. Empty for a pipeline without one.

    A sandbox lands none: it reads the lines that the pipeline's runs have landed.
    """
    if pipeline.is_sandbox:
        return {}
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
    keep_open: ExitStack | None = None,
    fit: Callable[[SourcePlan, int], MemoryPlan | None] = lambda _extent, _partition_rows: None,
) -> SourcePlan:
    """Count the primary rows of the run's interval, take their fingerprint and cut them into partitions.

    Args:
        keep_open: keeps one snapshot of each Postgres source open, for all partitions to read; without it each
            partition is read at a moment of its own.
        fit: takes the plan and the most rows of its partitions; returns what fits into memory, or refuses the run.

    Raises:
        Halted: a value of `partition_by` has more rows than a partition may have.
    """
    pipeline, wanted = run.pipeline, partition_rows or run.pipeline.partition_rows
    with ExitStack() as opening:
        snapshots = _export_snapshots(pipeline, pipeline.sources, connect, opening) if keep_open is not None else {}
        files = dict(read_file_states(pipeline, [pipeline.primary], run.interval, connect))
        reader = open_source(pipeline, pipeline.primary, _connect_at(snapshots, connect), files)

        def cut(size: int) -> SourcePlan:
            source_plan = reader.plan(run.interval, size)
            return replace(source_plan, fingerprint=_masked(pipeline, source_plan.fingerprint, masking))

        source_plan = cut(wanted)
        fitted, in_memory = fit(source_plan, wanted), False
        if fitted and fitted.partition_rows < min(wanted, source_plan.rows):
            source_plan = cut(fitted.partition_rows)
            wanted, in_memory = fitted.partition_rows, True
        if reason := describe_large_group(pipeline, source_plan, wanted, in_memory=in_memory):
            raise Halted(pipeline.name, interval_label(run.interval), (reason,))
        if source_plan.stray and isinstance(reader, FilesReader) and reader.source.stray == "halt":
            raise Halted(pipeline.name, interval_label(run.interval), (_describe_stray(pipeline, source_plan.stray),))
        if source_plan.partitions:
            files |= read_file_states(pipeline, _others(pipeline), run.interval, connect)
        if keep_open is not None:
            keep_open.enter_context(opening.pop_all())
    partitions = tuple(
        replace(each, snapshots=snapshots, files=files, versions=connect.versions) for each in source_plan.partitions
    )
    return replace(source_plan, partitions=partitions, fit=fitted)


def _describe_stray(pipeline: Pipeline, stray: int) -> str:
    return (
        f"source `{pipeline.primary}`: {plural(stray, 'row')} of the interval's files are outside the interval that "
        "the files are named by, and the source says `stray: halt`. Correct the files, or write `stray: note` or "
        "`stray: quarantine`"
    )


def describe_large_group(
    pipeline: Pipeline, source_plan: SourcePlan, partition_rows: int, *, in_memory: bool
) -> str | None:
    """Name the value of `partition_by` that has more rows than a partition may have. None if all fit."""
    largest, column = source_plan.largest_group, pipeline.partition_by
    if largest is None or largest.rows <= partition_rows:
        return None
    value = HIDDEN if str(column).casefold() in pipeline.private_columns else f"`{largest.value}`"
    limit = f"{partition_rows:,} ({'what fits PENSTOCK_MEMORY' if in_memory else '`partition_rows`'})"
    remedy = "Raise PENSTOCK_MEMORY" if in_memory else "Raise `partition_rows`"
    return (
        f"`partition_by: {column}`: the value {value} has {plural(largest.rows, 'row')}, and a partition takes at most "
        f"{limit}. {remedy}, or partition by a column with fewer rows of a value"
    )


def extract_partition(run: ScoringRun, partition: Partition, connect: Connector) -> ExtractedRows:
    """Read one slice of the primary source, the other sources whole, and the releases that apply to the run.

    Raises:
        SnapshotLost: the snapshot that the partition was planned in is closed.
        FilesChanged: a file is not as it was when the partition was planned.
        VersionGone: the version of a table that the partition was planned with is gone.
    """
    pipeline, files = run.pipeline, partition.files
    then = replace(_connect_at(partition.snapshots, connect), versions=partition.versions)
    readers = {name: open_source(pipeline, name, then, files) for name in pipeline.sources}
    primary = readers[pipeline.primary]
    file_readers = (
        {name: r for name, r in readers.items() if isinstance(r, FilesReader)} if partition.index == 0 else {}
    )
    keeps_stray = partition.stray and isinstance(primary, FilesReader) and primary.source.stray == "quarantine"
    return ExtractedRows(
        primary=primary.read(run.interval, partition),
        others={name: readers[name].read(run.interval) for name in _others(pipeline)},
        waivers=waivers_of(connect(pipeline.destination.connection), run),
        refused={name: reader.read_refused(run.interval) for name, reader in file_readers.items()},
        stray=primary.read_stray(run.interval) if keeps_stray and isinstance(primary, FilesReader) else None,
    )


def extract_secondary(
    pipeline: Pipeline, interval: DataInterval | None, connect: Connector, read: Callable[[str, SourceReader], pa.Table]
) -> ExtractedSecondary:
    """Read the secondary sources as a run of the interval reads them now, at one moment where the database has one.

    Args:
        read: reads all rows of a source with its reader.

    Raises:
        NoFiles, FilesChanged: files are missing, or changed while they were read.
    """
    names = _others(pipeline)
    with ExitStack() as opening:
        snapshots = _export_snapshots(pipeline, names, connect, opening)
        files = read_file_states(pipeline, names, interval, connect)
        readers = {name: open_source(pipeline, name, _connect_at(snapshots, connect), files) for name in names}
        tables = {name: read(name, reader) for name, reader in readers.items()}
        file_readers = {name: reader for name, reader in readers.items() if isinstance(reader, FilesReader)}
        refused = {name: len(reader.read_refused(interval).rows) for name, reader in file_readers.items()}
    return ExtractedSecondary(tables, refused)


def extract_first(run: ScoringRun, rows: int, connect: Connector) -> ExtractedRows:
    """Read the first rows that the source returns for the interval, as a sample partition."""
    pipeline = run.pipeline
    return ExtractedRows(
        primary=open_source(pipeline, pipeline.primary, connect).read(run.interval, limit=rows),
        others={name: open_source(pipeline, name, connect).read(run.interval) for name in _others(pipeline)},
    )


def source_fingerprint(
    pipeline: Pipeline, interval: DataInterval | None, connect: Connector, masking: MaskingPolicy
) -> str:
    """Return the fingerprint of the primary source's rows of an interval now, to compare with that of a run."""
    return possible_fingerprints(pipeline, interval, connect, masking)[0]


def possible_fingerprints(
    pipeline: Pipeline, interval: DataInterval | None, connect: Connector, masking: MaskingPolicy
) -> tuple[str, ...]:
    """Return the fingerprint of an interval as runs may have stored it: the current form, then earlier ones."""
    found = open_source(pipeline, pipeline.primary, connect).fingerprint(interval)
    variants = masking.variants if masking.hides(pipeline.key) else (masking,)
    return tuple(_masked(pipeline, found, each) for each in variants)


def refuse_changed_rows(
    run: ScoringRun, partitions: int, planned: str | None, connect: Connector, masking: MaskingPolicy
) -> None:
    """Compare the rows with their fingerprint at planning, where the partitions could not read one moment.

    Raises:
        SourceChanged: they differ.
    """
    source = run.pipeline.primary_source
    if partitions < 2 or not isinstance(source, SqlSource):  # one statement reads one moment
        return
    if not connect(source.connection).sql.changes_between_reads:
        return
    if source_fingerprint(run.pipeline, run.interval, connect, masking) != planned:
        raise SourceChanged(run.pipeline.primary, source.connection)


def _masked(pipeline: Pipeline, fingerprint: str, masking: MaskingPolicy) -> str:
    """Hash a fingerprint that contains the smallest and largest value of a private key."""
    return str(masking.hash(fingerprint)) if masking.hides(pipeline.key) else fingerprint


def source_horizon(pipeline: Pipeline, connect: Connect) -> Horizon | None:
    """Return the time up to which the primary source is complete. None without `settle: horizon`.

    Raises:
        HorizonHidden: the database does not show its transactions.
    """
    source = pipeline.primary_source
    if pipeline.interval is None or pipeline.interval.settle != "horizon" or not isinstance(source, SqlSource):
        return None
    return read_horizon(connect(source.connection))


def count_malformed(
    pipeline: Pipeline, interval: DataInterval | None, connect: Connector
) -> dict[str, tuple[int, int]]:
    """Return by log source how many lines of the interval could not be read, and how many lines there are."""
    readers = {name: open_source(pipeline, name, connect) for name in pipeline.sources}
    return {name: r.count_malformed(interval) for name, r in readers.items() if isinstance(r, LogReader)}


def describe_logs(pipeline: Pipeline, interval: DataInterval | None, connect: Connector) -> dict[str, LogNotes]:
    """Return by log source what a person should know of the interval's lines."""
    readers = {name: open_source(pipeline, name, connect) for name in pipeline.sources}
    return {name: r.describe(interval) for name, r in readers.items() if isinstance(r, LogReader)}


def _others(pipeline: Pipeline) -> list[str]:
    """Return the names of the secondary sources."""
    return [name for name in pipeline.sources if name != pipeline.primary]


def _export_snapshots(
    pipeline: Pipeline, sources: Iterable[str], connect: Connect, keep_open: ExitStack
) -> dict[str, str]:
    read = (pipeline.sources[name] for name in sources)
    names = sorted({source.connection for source in read if isinstance(source, SqlSource)})
    snapshots = {name: keep_open.enter_context(exported_snapshot(connect(name))) for name in names}
    return {name: snapshot for name, snapshot in snapshots.items() if snapshot is not None}


def _connect_at(snapshots: Mapping[str, str], connect: Connector) -> Connector:
    return replace(connect, open=lambda name: replace(connect(name), snapshot=snapshots.get(name)))
