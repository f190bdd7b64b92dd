"""Count, cut and read the rows of a source of files, and those that belong to no run: refused and stray ones."""

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from penstock.database.connections import Connector
from penstock.errors import NoFiles
from penstock.interval import DataInterval
from penstock.object_urls import is_remote
from penstock.privacy.masking import hide_paths
from penstock.run_types import FileState, Partition, RefusedRows, SourcePlan
from penstock.sources.allowed_paths import FoundFile, check_files
from penstock.sources.documents.times import MODIFIED, TIME, DocumentTimes
from penstock.sources.file_paths import (
    covered_span,
    file_marks,
    matching_files,
    may_lack_documents,
    state_marks,
    store_access,
)
from penstock.sources.file_states import read_states, unchanged_files
from penstock.sources.files import FileRelation, FilesRequest, files_relation, staged_files
from penstock.sources.parquet import POSITION
from penstock.sources.text.refused_rows import read_refused
from penstock.spec.sources import FilesSource


@dataclass(frozen=True)
class FilesReader:
    """Reads a source of files."""

    name: str
    source: FilesSource
    time: str | None
    connect: Connector
    zone: str
    """Time zone of the dates in the path."""
    partition_by: str | None
    empty_is_normal: bool
    """Whether a path with the interval may match nothing, as on a day without a file."""
    private: frozenset[str]
    exact: frozenset[str]
    read_types: Callable[[], dict[str, str]]
    """Returns the types of the columns in the contract."""
    read_dialect: Callable[[], dict[str, str]]
    """Returns how text files are written, as the contract has it. Empty: it has none."""
    planned: tuple[FileState, ...] | None = None
    """The files that the run was planned with. They are read only if they have not changed."""

    def plan(self, interval: DataInterval | None, partition_rows: int) -> SourcePlan:
        if not (files := self._states(interval)):
            return SourcePlan(0, "[]", ())
        span = covered_span(self.source, interval, self.zone) if interval and self.time else None
        with self._relation(files, interval) as relation:
            source_plan = relation.plan(interval, partition_rows)
            stray = relation.count_outside(span) if span else 0
        kept = len(self.read_refused(interval).rows) + (stray if self.source.stray == "quarantine" else 0)
        return replace(_add_to_first(source_plan, kept, stray), fingerprint=self._shorten(state_marks(files)))

    def fingerprint(self, interval: DataInterval | None) -> str:
        return self._shorten(file_marks(self._list(interval)))

    def _shorten(self, marks: str) -> str:
        """Return the digest of marks of documents, of which there may be very many."""
        return sha256(marks.encode()).hexdigest() if self.source.is_documents and marks != "[]" else marks

    def read(
        self, interval: DataInterval | None, partition: Partition | None = None, limit: int | None = None
    ) -> pa.Table:
        with self._relation(self._states(interval, may_be_none=False), interval, partition) as relation:
            table = relation.read(interval, partition, limit).drop_columns([POSITION])
            staged = relation.staged
        may_be_open = staged is not None and (partition is None or not table.num_rows)
        return _open_types(table, staged.guessed if staged and may_be_open else frozenset())

    def count_without_time(self, interval: DataInterval | None) -> int:
        if not (files := self._states(interval)):
            return 0
        with self._relation(files, interval) as relation:
            return relation.count_without_time()

    def read_stray(self, interval: DataInterval | None) -> pa.Table | None:
        """Read the rows whose event time is outside the interval that their file is named by."""
        span = covered_span(self.source, interval, self.zone) if interval and self.time else None
        if span is None or not (files := self._states(interval)):
            return None
        with self._relation(files, interval) as relation:
            return relation.read_outside(span).drop_columns([POSITION])

    def read_refused(self, interval: DataInterval | None) -> RefusedRows:
        """Read the rows of text files that cannot be read. They have the time of their neighbours in the file.

        All rows of a file that is named by the interval are rows of the interval.
        """
        if self.source.format == "parquet" or not (files := self._states(interval)):
            return RefusedRows()
        # Documents are chosen by their time before they are read.
        near = (
            None if self.time is None or self.source.is_one_file_an_interval or self.source.is_documents else interval
        )
        with staged_files(self._request(files, interval)) as staged:
            rows = read_refused(staged.refused_file, near)
            columns, without_text = {column.casefold() for column in staged.kinds}, staged.without_text
        if self.source.private or columns & self.private:
            rows = [replace(row, text=None) for row in rows]
        return RefusedRows(tuple(rows), staged.rows + staged.refused, self.source.max_malformed, without_text)

    def read_states(self, interval: DataInterval | None) -> tuple[FileState, ...]:
        """Return the interval's files as they are now."""
        return read_states(self.name, self._list(interval))

    @contextmanager
    def open(self, interval: DataInterval | None) -> Iterator[FileRelation]:
        """Open the interval's files."""
        with self._relation(self._states(interval, may_be_none=False), interval) as relation:
            yield relation

    @contextmanager
    def _relation(
        self, files: tuple[FileState, ...], interval: DataInterval | None, partition: Partition | None = None
    ) -> Iterator[FileRelation]:
        request = self._request(files, interval)
        if self.source.format != "parquet":
            with files_relation(request, partition) as relation:
                yield relation
            return
        with unchanged_files(self.name, self.planned or ()), files_relation(request, partition) as relation:
            yield relation

    def _request(self, files: tuple[FileState, ...], interval: DataInterval | None) -> FilesRequest:
        return FilesRequest(
            self.name,
            self.source,
            files,
            self.time,
            self.partition_by,
            self.read_types() if self.source.is_guessed else {},
            self.read_dialect() if self.source.is_guessed else {},
            self.private,
            self.exact,
            self.connect.run_folder,
            store_access(self.source, self.connect),
            DocumentTimes.of_interval(self.source, interval, self.zone) if self.source.is_documents else None,
        )

    def _states(self, interval: DataInterval | None, may_be_none: bool = True) -> tuple[FileState, ...]:
        """Return the planned files, or those that match."""
        files = self._list(interval, may_be_none)
        if self.planned is not None:
            return self.planned
        with hide_paths(self.source.is_documents and "path" in self.private):
            return read_states(self.name, files)

    def _list(self, interval: DataInterval | None, may_be_none: bool = True) -> list[FoundFile]:
        roots = self.connect.allowed_roots
        if self.planned is not None:
            planned = [state if is_remote(state.path) else Path(state.path) for state in self.planned]
            check_files(self.name, self.source.path, planned, roots)  # a link may lead elsewhere by now
            return planned
        try:
            found = matching_files(
                self.name, self.source, interval, roots, zone=self.zone, access=store_access(self.source, self.connect)
            )
        except NoFiles:
            if may_be_none and self.empty_is_normal and "{" in self.source.path:
                return []
            if self._may_lack_documents(interval):
                return []
            raise
        return self._select_documents(found, interval) if self.source.is_documents and interval else found

    def _may_lack_documents(self, interval: DataInterval | None) -> bool:
        """Whether an interval may have none: documents beside the primary source, in a folder that exists."""
        return interval is not None and self.time is None and may_lack_documents(self.source)

    def _select_documents(self, files: list[FoundFile], interval: DataInterval) -> list[FoundFile]:
        """Return the documents of an interval by their time. Those of another source end where the interval ends."""
        times = DocumentTimes.of_interval(self.source, interval, self.zone)
        if self.time is None:
            reach = self.source.lookback if not self.source.is_named_by_interval else timedelta(0)
            return times.select(files, TIME, interval.start - reach if reach else None, interval.end)
        if self.source.is_named_by_interval or self.time.casefold() not in (TIME, MODIFIED):
            return files
        return times.select(files, self.time.casefold(), interval.start, interval.end)


def _add_to_first(source_plan: SourcePlan, kept: int, stray: int) -> SourcePlan:
    """Count rows for the quarantine to the first partition, which writes them."""
    if not kept and not (stray and source_plan.partitions):
        return replace(source_plan, stray=stray)
    first, *others = source_plan.partitions or (Partition(0, 1, None, None, 0),)
    partitions = (replace(first, rows=first.rows + kept, stray=stray), *others)
    return replace(source_plan, rows=source_plan.rows + kept, partitions=partitions, stray=stray)


def _open_types(table: pa.Table, columns: Container[str]) -> pa.Table:
    """Give those of the columns that have no value the type NULL, which a query can take for any type."""
    for number, name in enumerate(table.column_names):
        if name in columns and table.column(number).null_count == table.num_rows:
            table = table.set_column(number, name, pa.nulls(table.num_rows))
    return table
