"""Sources: count, partition and read the rows of one data interval."""

from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa

from penstock.database.connections import Connector, Database
from penstock.errors import NoFiles
from penstock.interval import DataInterval
from penstock.ledger.schema_contracts import contract_of
from penstock.privacy.masking import hide_values
from penstock.run_types import Partition, SourcePlan
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


def open_source(pipeline: Pipeline, name: str, connect: Connector) -> SourceReader:
    """Return the reader of one of a pipeline's sources."""
    source = pipeline.sources[name]
    primary = name == pipeline.primary
    time = pipeline.interval.column if primary and pipeline.interval else None
    groups = pipeline.partition_by if primary else None
    private = frozenset(pipeline.private_columns)
    if isinstance(source, SqlSource):
        return _SqlReader(name, source, connect(source.connection), time, groups, private)
    if isinstance(source, LogSource):
        return LogReader(pipeline.name, name, source, connect(pipeline.destination.connection), primary, groups)
    empty_is_normal = primary and pipeline.empty == "publish"

    def read_types() -> dict[str, str]:
        return contract_of(connect(pipeline.destination.connection), pipeline.name, name, source) or {}

    roots, zone = connect.allowed_roots, pipeline.timezone
    return _FilesReader(name, source, time, roots, zone, groups, empty_is_normal, private, read_types)


@dataclass(frozen=True)
class _SqlReader:
    name: str
    source: SqlSource
    database: Database
    time: str | None
    partition_by: str | None
    private: frozenset[str]

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
            yield sql_relation(self.name, self.source, self.database, self.time, interval, self.partition_by)


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
    read_types: Callable[[], dict[str, str]]
    """Returns the types of the columns in the contract."""

    def plan(self, interval: DataInterval | None, partition_rows: int) -> SourcePlan:
        if self._has_none(interval):
            return SourcePlan(0, "[]", ())
        with self._open(interval) as relation:
            source_plan = relation.plan(interval, partition_rows)
        return replace(source_plan, fingerprint=self.fingerprint(interval))

    def fingerprint(self, interval: DataInterval | None) -> str:
        return (
            "[]"
            if self._has_none(interval)
            else file_marks(matching_files(self.name, self.source, interval, self.roots, zone=self.zone))
        )

    def read(
        self, interval: DataInterval | None, partition: Partition | None = None, limit: int | None = None
    ) -> pa.Table:
        with self._open(interval, partition) as relation:
            table = relation.read(interval, partition, limit).drop_columns([POSITION])
        open_ = relation.guessed if partition is None or not table.num_rows else frozenset()
        return _open_types(table, open_)

    def count_without_time(self, interval: DataInterval | None) -> int:
        if self._has_none(interval):
            return 0
        with self._open(interval) as relation:
            return relation.count_without_time()

    def _open(
        self, interval: DataInterval | None, partition: Partition | None = None
    ) -> AbstractContextManager[FileRelation]:
        types = {} if self.source.format == "parquet" else self.read_types()
        return files_relation(
            self.name,
            self.source,
            self.time,
            interval,
            self.roots,
            partition,
            self.partition_by,
            types,
            private=self.private,
            zone=self.zone,
        )

    def _has_none(self, interval: DataInterval | None) -> bool:
        if not (self.empty_is_normal and "{" in self.source.path):
            return False
        try:
            matching_files(self.name, self.source, interval, self.roots, zone=self.zone)
        except NoFiles:
            return True
        return False


def _open_types(table: pa.Table, columns: Container[str]) -> pa.Table:
    """Give those of the columns that have no value the type NULL, which a query can take for any type."""
    for number, name in enumerate(table.column_names):
        if name in columns and table.column(number).null_count == table.num_rows:
            table = table.set_column(number, name, pa.nulls(table.num_rows))
    return table
