"""Sources: count, partition and read the rows of one data interval."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import pyarrow as pa

from penstock.database.connections import Connector, Database
from penstock.errors import NoFiles
from penstock.interval import DataInterval
from penstock.ledger.schema_contracts import contract_of
from penstock.privacy.masking import hide_values
from penstock.run_types import FileState, Partition, SourcePlan
from penstock.sources.allowed_paths import check_files
from penstock.sources.file_states import read_states, unchanged_files
from penstock.sources.files import POSITION, FileRelation, file_marks, files_relation, matching_files
from penstock.sources.logs.landed import LogReader
from penstock.sources.relation import Relation
from penstock.sources.sql import sql_relation
from penstock.spec.pipeline import FilesSource, LogSource, Pipeline, SqlSource


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
    if isinstance(source, LogSource):
        return LogReader(pipeline.name, name, source, connect(pipeline.destination.connection), primary, groups)
    empty_is_normal = primary and pipeline.empty == "publish"

    def read_types() -> dict[str, str]:
        return contract_of(connect(pipeline.destination.connection), pipeline.name, name, source) or {}

    return _FilesReader(
        name,
        source,
        time,
        connect.allowed_roots,
        pipeline.timezone,
        groups,
        empty_is_normal,
        private,
        exact,
        read_types,
        files.get(name),
    )


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
    return {name: reader.read_states(interval) for name, reader in readers.items() if isinstance(reader, _FilesReader)}


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


@dataclass(frozen=True)
class _FilesReader:
    name: str
    source: FilesSource
    time: str | None
    roots: tuple[str, ...]
    zone: str
    """Time zone of the dates in the path."""
    partition_by: str | None
    empty_is_normal: bool
    """Whether a path with the interval may match nothing, as on a day without a file."""
    private: frozenset[str]
    exact: frozenset[str]
    read_types: Callable[[], dict[str, str]]
    """Returns the types of the columns in the contract."""
    planned: tuple[FileState, ...] | None = None
    """The files that the run was planned with. They are read only if they have not changed."""

    def plan(self, interval: DataInterval | None, partition_rows: int) -> SourcePlan:
        if not (files := self._list(interval)):
            return SourcePlan(0, "[]", ())
        fingerprint = file_marks(files)
        with self._relation(files) as relation:
            source_plan = relation.plan(interval, partition_rows)
        return replace(source_plan, fingerprint=fingerprint)

    def fingerprint(self, interval: DataInterval | None) -> str:
        return file_marks(self._list(interval))

    def read(
        self, interval: DataInterval | None, partition: Partition | None = None, limit: int | None = None
    ) -> pa.Table:
        with self._relation(self._list(interval, may_be_none=False), partition) as relation:
            table = relation.read(interval, partition, limit).drop_columns([POSITION])
        open_ = relation.guessed if partition is None or not table.num_rows else frozenset()
        return _open_types(table, open_)

    def count_without_time(self, interval: DataInterval | None) -> int:
        if not (files := self._list(interval)):
            return 0
        with self._relation(files) as relation:
            return relation.count_without_time()

    def read_states(self, interval: DataInterval | None) -> tuple[FileState, ...]:
        """Return the interval's files as they are now."""
        return read_states(self.name, self._list(interval))

    @contextmanager
    def _relation(self, files: Sequence[Path], partition: Partition | None = None) -> Iterator[FileRelation]:
        types = {} if self.source.format == "parquet" else self.read_types()
        opened = files_relation(
            self.name,
            self.source,
            self.time,
            files,
            partition,
            self.partition_by,
            types,
            self.private,
            self.exact,
        )
        with unchanged_files(self.name, self.planned or ()), opened as relation:
            yield relation

    def _list(self, interval: DataInterval | None, may_be_none: bool = True) -> list[Path]:
        """Return the planned files, or those that match."""
        if self.planned is not None:
            planned = [Path(state.path) for state in self.planned]
            check_files(self.name, self.source.path, planned, self.roots)  # a link may lead elsewhere by now
            return planned
        try:
            return matching_files(self.name, self.source, interval, self.roots, zone=self.zone)
        except NoFiles:
            if may_be_none and self.empty_is_normal and "{" in self.source.path:
                return []
            raise


def _open_types(table: pa.Table, columns: Container[str]) -> pa.Table:
    """Give those of the columns that have no value the type NULL, which a query can take for any type."""
    for number, name in enumerate(table.column_names):
        if name in columns and table.column(number).null_count == table.num_rows:
            table = table.set_column(number, name, pa.nulls(table.num_rows))
    return table
