"""Sources: count, partition and read the rows of one data interval."""

from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa

from penstock.database.connections import Connector, Database
from penstock.errors import NoFiles
from penstock.interval import DataInterval
from penstock.run_types import Partition, SourcePlan
from penstock.sources.files import POSITION, file_marks, files_relation, matching_files
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
    if isinstance(source, SqlSource):
        return _SqlReader(name, source, connect(source.connection), time, groups)
    if isinstance(source, LogSource):
        return LogReader(pipeline.name, name, source, connect(pipeline.destination.connection), primary, groups)
    empty_is_normal = primary and pipeline.empty == "publish"
    zone = pipeline.timezone
    return _FilesReader(name, source, time, connect.allowed_roots, zone, groups, empty_is_normal=empty_is_normal)


@dataclass(frozen=True)
class _SqlReader:
    name: str
    source: SqlSource
    database: Database
    time: str | None
    partition_by: str | None

    def plan(self, interval: DataInterval | None, partition_rows: int) -> SourcePlan:
        return self._relation(interval).plan(interval, partition_rows)

    def fingerprint(self, interval: DataInterval | None) -> str:
        return self._relation(interval).count_and_fingerprint(interval)[1]

    def read(
        self, interval: DataInterval | None, partition: Partition | None = None, limit: int | None = None
    ) -> pa.Table:
        return self._relation(interval).read(interval, partition, limit)

    def count_without_time(self, interval: DataInterval | None) -> int:
        return self._relation(interval).count_without_time()

    def _relation(self, interval: DataInterval | None) -> Relation:
        return sql_relation(self.name, self.source, self.database, self.time, interval, self.partition_by)


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

    def plan(self, interval: DataInterval | None, partition_rows: int) -> SourcePlan:
        if self._has_none(interval):
            return SourcePlan(0, "[]", ())
        with files_relation(
            self.name, self.source, self.time, interval, self.roots, None, self.partition_by, zone=self.zone
        ) as relation:
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
        with files_relation(
            self.name, self.source, self.time, interval, self.roots, partition, self.partition_by, zone=self.zone
        ) as relation:
            return relation.read(interval, partition, limit).drop_columns([POSITION])

    def count_without_time(self, interval: DataInterval | None) -> int:
        if self._has_none(interval):
            return 0
        with files_relation(self.name, self.source, self.time, interval, self.roots, zone=self.zone) as relation:
            return relation.count_without_time()

    def _has_none(self, interval: DataInterval | None) -> bool:
        if not (self.empty_is_normal and "{" in self.source.path):
            return False
        try:
            matching_files(self.name, self.source, interval, self.roots, zone=self.zone)
        except NoFiles:
            return True
        return False
