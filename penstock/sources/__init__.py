"""Sources: count, partition and read the rows of one data interval."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

import pyarrow as pa

from penstock.database.connections import Connector, Database
from penstock.interval import DataInterval
from penstock.ledger.schema_contracts import contract_of, dialect_of
from penstock.privacy.masking import hide_values
from penstock.run_types import FileState, Partition, SourcePlan
from penstock.sources.files_reader import FilesReader
from penstock.sources.lake.reader import LakeReader
from penstock.sources.logs.landed import LogReader
from penstock.sources.relation import Relation
from penstock.sources.sql import sql_relation
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import DeltaSource, FilesSource, IcebergSource, LogSource, SqlSource


class SourceReader(Protocol):
    """The interface of a source."""

    def plan(self, interval: DataInterval | None, partition_rows: int) -> SourcePlan:
        """Count the interval's rows, take their fingerprint and cut them into partitions."""

    def fingerprint(self, interval: DataInterval | None) -> str:
        """Return a text that changes when rows of the interval come, go or (if visible) change."""

    def read(
        self, interval: DataInterval | None, partition: Partition | None = None, limit: int | None = None
    ) -> pa.Table:
        """Read the interval's rows, or one partition of them. Read at most `limit` rows, in any order."""

    def count_without_time(self, interval: DataInterval | None) -> int:
        """Count the rows whose event time is NULL. No interval contains them."""


LABELS = "labels"
"""The name of the source of labels in messages."""
PlannedFiles = Mapping[str, tuple[FileState, ...]]
"""By source of files: those of a run."""


def open_source(
    pipeline: Pipeline, name: str, connect: Connector, files: PlannedFiles = MappingProxyType({})
) -> SourceReader:
    """Return the reader of one of a pipeline's sources.

    Args:
        files: the files that a run was planned with. A source of files without an entry reads those that match.
    """
    source = pipeline.sources[name]
    primary = name == pipeline.primary
    time = pipeline.interval.column if primary and pipeline.interval else None
    groups = pipeline.partition_by if primary else None
    private, exact = frozenset(pipeline.private_columns), exact_columns(pipeline)
    if isinstance(source, SqlSource):
        return _SqlReader(name, source, connect(source.connection), time, groups, private, exact)
    if isinstance(source, DeltaSource | IcebergSource):
        return open_lake(pipeline, name, source, connect)
    if isinstance(source, LogSource):
        # A row that expectations refuse is kept in quarantine as it was read, and so is one of the primary source.
        features = None if primary or pipeline.expectations_of(name) else pipeline.features
        warehouse = connect(pipeline.destination.connection)
        return LogReader(pipeline.name, name, source, warehouse, primary, groups, features)
    return replace(open_files(pipeline, name, source, connect), planned=files.get(name))


def open_labels(pipeline: Pipeline, source: SqlSource | FilesSource, seen_at: str, connect: Connector) -> SourceReader:
    """Return the reader of a pipeline's labels. It reads those that were seen in an interval."""
    private = frozenset(pipeline.private_columns)
    if isinstance(source, SqlSource):
        return _SqlReader(LABELS, source, connect(source.connection), seen_at, None, private, frozenset(pipeline.key))
    none: dict[str, str] = {}
    exact = frozenset(pipeline.key)
    return FilesReader(LABELS, source, seen_at, connect, "UTC", None, True, private, exact, lambda: none, lambda: none)


def open_files(pipeline: Pipeline, name: str, source: FilesSource, connect: Connector) -> FilesReader:
    """Return the reader of a source of files."""
    primary = name == pipeline.primary

    def read_types() -> dict[str, str]:
        return contract_of(connect(pipeline.destination.connection), pipeline.name, name, source) or {}

    def read_dialect() -> dict[str, str]:
        return dialect_of(connect(pipeline.destination.connection), pipeline.name, name, source) or {}

    return FilesReader(
        name,
        source,
        pipeline.interval.column if primary and pipeline.interval else None,
        connect,
        pipeline.timezone,
        pipeline.partition_by if primary else None,
        primary and pipeline.empty == "publish",
        frozenset(pipeline.private_columns),
        exact_columns(pipeline),
        read_types,
        read_dialect,
    )


def open_lake(pipeline: Pipeline, name: str, source: DeltaSource | IcebergSource, connect: Connector) -> LakeReader:
    """Return the reader of a table in a lake, at the version that the connector names for it, or at the newest."""
    primary = name == pipeline.primary
    return LakeReader(
        name,
        source,
        pipeline.interval.column if primary and pipeline.interval else None,
        connect,
        pipeline.partition_by if primary else None,
        frozenset(pipeline.private_columns),
        exact_columns(pipeline),
    )


def fix_versions(pipeline: Pipeline, connect: Connector, sources: Iterable[str] | None = None) -> Connector:
    """Return a connector that reads each table in a lake at the version which is the newest now.

    Args:
        sources: those that are read. Default: all.
    """
    named = pipeline.sources if sources is None else sources
    readers = {name: open_source(pipeline, name, connect) for name in named}
    versions = {name: reader.read_version() for name, reader in readers.items() if isinstance(reader, LakeReader)}
    return replace(connect, versions=versions)


def exact_columns(pipeline: Pipeline) -> frozenset[str]:
    """Return the key and the columns to keep, whose values must reach the destination exactly."""
    return frozenset((*pipeline.key, *pipeline.destination.keep))


def read_file_states(
    pipeline: Pipeline, names: Iterable[str], interval: DataInterval | None, connect: Connector
) -> PlannedFiles:
    """Return the present files of those of the sources that read files.

    Raises:
        NoFiles: no file matches.
        FilesChanged: a file was removed while its folder was listed.
    """
    readers = {name: open_source(pipeline, name, connect) for name in names}
    return {name: reader.read_states(interval) for name, reader in readers.items() if isinstance(reader, FilesReader)}


@dataclass(frozen=True)
class _SqlReader:
    name: str
    source: SqlSource
    database: Database
    time: str | None
    partition_by: str | None
    private: frozenset[str]
    exact: frozenset[str]

    def plan(self, interval: DataInterval | None, partition_rows: int) -> SourcePlan:
        with self._open(interval) as relation:
            return relation.plan(interval, partition_rows)

    def fingerprint(self, interval: DataInterval | None) -> str:
        with self._open(interval) as relation:
            return relation.count_and_fingerprint(interval)[1]

    def read(
        self, interval: DataInterval | None, partition: Partition | None = None, limit: int | None = None
    ) -> pa.Table:
        with self._open(interval) as relation:
            return relation.read(interval, partition, limit)

    def count_without_time(self, interval: DataInterval | None) -> int:
        with self._open(interval) as relation:
            return relation.count_without_time()

    @contextmanager
    def _open(self, interval: DataInterval | None) -> Iterator[Relation]:
        with hide_values(self.private):
            relation = sql_relation(self.name, self.source, self.database, self.time, interval, self.partition_by)
            yield replace(relation, exact=self.exact)
