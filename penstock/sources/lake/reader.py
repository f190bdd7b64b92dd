"""Count, cut and read the rows of a table in a lake, at the version that the run was planned with."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from penstock.database.connections import Connector
from penstock.database.driver_errors import translated_errors
from penstock.errors import UnreadableTable, VersionGone
from penstock.interval import DataInterval
from penstock.privacy.masking import HIDDEN, hide_values
from penstock.run_types import Partition, SourcePlan, TableVersion
from penstock.sources.column_types import declared_types, quoted
from penstock.sources.files import FileRelation, RowsRequest, in_memory, naming_misfits, rows_relation
from penstock.sources.lake.delta import open_delta
from penstock.sources.lake.iceberg import open_iceberg
from penstock.sources.lake.staging import StagingRequest, stage_table
from penstock.sources.lake.table import LakeTable, TimeRange, check_places, time_range
from penstock.sources.parquet import POSITION, find_conversions
from penstock.spec.sources import DeltaSource, IcebergSource


@dataclass(frozen=True)
class LakeReader:
    """Reads a source that is a table in a lake."""

    name: str
    source: DeltaSource | IcebergSource
    time: str | None
    connect: Connector
    partition_by: str | None
    private: frozenset[str]
    exact: frozenset[str]

    def plan(self, interval: DataInterval | None, partition_rows: int) -> SourcePlan:
        with self.open(interval) as relation:
            source_plan = relation.plan(interval, partition_rows)
        return replace(source_plan, fingerprint=self.fingerprint(interval))

    def fingerprint(self, interval: DataInterval | None) -> str:
        """Return the data files that may have rows of the interval. A commit to other files does not change it."""
        with self._hidden():
            return json.dumps(sorted(self._table.list_files(self._range(interval))))

    def read(
        self, interval: DataInterval | None, partition: Partition | None = None, limit: int | None = None
    ) -> pa.Table:
        with self.open(interval, limit) as relation:
            return relation.read(interval, partition, limit).drop_columns([POSITION])

    def count_without_time(self, interval: DataInterval | None) -> int:
        with self._hidden():
            has_time = self.time is not None and self.time in self._table.schema.names
            return self._table.count_nulls(str(self.time)) if has_time else 0

    def read_version(self) -> TableVersion:
        """Return the version that is read: that of the run, or the newest."""
        with self._hidden():
            return self._table.version

    @contextmanager
    def open(self, interval: DataInterval | None, limit: int | None = None) -> Iterator[FileRelation]:
        """Open the rows of an interval as a relation.

        Args:
            limit: open any so many rows.

        Raises:
            VersionGone: a file of the version does not exist any more.
            UnreadableTable: the table has a feature that is not read.
            UnfitValue: a value does not fit the declared type. Raised where the relation is used.
        """
        with self._hidden(), ExitStack() as opened:
            rows_file = self._stage(interval, limit, opened)
            database = opened.enter_context(in_memory(self.name))
            with translated_errors(database), database.engine.connect() as connection:
                connection.exec_driver_sql("SET TimeZone='UTC'")
                reader = f"read_parquet({quoted(str(rows_file))}, hive_partitioning=false)"
                conversions = find_conversions(connection, reader, declared_types(self.source.declared_columns))
                request = RowsRequest(self.name, self.source.key, self.time, self.partition_by, self.exact)
                rows = f"select * from {reader}"  # noqa: S608 # a path, quoted
                relation = rows_relation(request, database, connection, rows, conversions)
            opened.enter_context(naming_misfits(relation))
            yield relation

    def _stage(self, interval: DataInterval | None, limit: int | None, opened: ExitStack) -> Path:
        version = self.connect.versions.get(self.name) or self._table.version
        request = StagingRequest(self.name, version, self.source.key, self.time, interval)
        folder = self.connect.run_folder
        if folder is not None and request.target(folder).exists():
            return request.target(folder)
        if folder is not None and limit is None:
            return stage_table(request, self._table, folder)
        temporary = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="penstock-")))
        is_sampled = self.time is None or interval is None or self._range(interval) is not None
        return stage_table(request, self._table, temporary, limit if is_sampled else None)

    def _range(self, interval: DataInterval | None) -> TimeRange | None:
        return time_range(self._table.schema, self.time, interval)

    @cached_property
    def _table(self) -> LakeTable:
        planned, source = self.connect.versions.get(self.name), self.source
        roots = self.connect.allowed_roots
        table: LakeTable
        if isinstance(source, DeltaSource):
            check_places(self.name, source.path, [source.path], roots)
            table = open_delta(self.name, source.path, planned)
        else:
            table = open_iceberg(self.name, source, self.connect, planned)
        if roots:
            place = source.path if isinstance(source, DeltaSource) else source.table
            check_places(self.name, place, table.list_places(), roots)
        return table

    @contextmanager
    def _hidden(self) -> Iterator[None]:
        """Take private values out of errors. Paths of data files contain values of the table's partition columns."""
        try:
            with hide_values(self.private):
                yield
        except (UnreadableTable, VersionGone) as error:
            if not self.private:
                raise
            raise replace(error, reason=HIDDEN) from None
