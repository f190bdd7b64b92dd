"""Read rows of files with an in-memory DuckDB. Columns are merged by name.

CSV and JSON files and documents are staged first (`text.staging`, `documents.staging`), and read as what they were
staged to.
"""

import os
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from penstock.database.bulk import read
from penstock.database.connections import Database
from penstock.database.driver_errors import translated_errors
from penstock.errors import BrokenFile, FolderColumn, InexactColumn, PenstockError, QueryFailed, UnfitValue
from penstock.interval import DataInterval
from penstock.object_stores import ENVIRONMENT, StoreAccess
from penstock.object_urls import is_remote
from penstock.privacy.masking import hide_paths, hide_values
from penstock.run_types import Bound, FileState, Partition
from penstock.sources.column_types import ColumnType, as_text, identifier, quoted
from penstock.sources.documents.staging import DocumentsRequest, stage_documents
from penstock.sources.documents.times import DocumentTimes
from penstock.sources.file_paths import fixed_folder
from penstock.sources.folder_columns import folder_columns
from penstock.sources.parquet import POSITION, read_parquet_files
from penstock.sources.relation import Relation
from penstock.sources.remote_parquet import planned_objects
from penstock.sources.text.malformed import raise_malformed
from penstock.sources.text.staging import Staged, StagingRequest, stage_files
from penstock.spec.sources import ROW_ID, FilesSource


@dataclass(frozen=True)
class FilesRequest:
    """What to read of a source of files, and how."""

    source: str
    spec: FilesSource
    files: tuple[FileState, ...]
    time: str | None = None
    """The event time column, if rows are selected by interval."""
    partition_by: str | None = None
    """The column whose values partitions keep whole."""
    types: Mapping[str, str] = field(default_factory=dict)
    """Types of columns of text files, as earlier runs read them."""
    dialect: Mapping[str, str] = field(default_factory=dict)
    """How text files are written, as earlier runs read them."""
    private: frozenset[str] = frozenset()
    """Columns whose values no error shows, in lower case."""
    exact: Collection[str] = ()
    """Keys and columns to keep, which must not lose a digit."""
    run_folder: Path | None = None
    """Where text files are staged. None: in a temporary folder."""
    access: StoreAccess = ENVIRONMENT
    """The options that an object store is opened with."""
    times: DocumentTimes | None = None
    """The times of documents. None: those that need no interval."""

    @property
    def paths(self) -> list[str]:
        return [state.path for state in self.files]


@dataclass(frozen=True)
class FileRelation(Relation):
    """Rows of files."""

    conversions: Mapping[str, ColumnType] = field(default_factory=dict)
    """The columns of Parquet files that are converted from text."""
    numbered: str = ""
    """SQL of the rows before conversion, with their files and numbers."""
    staged: Staged | None = None
    """The staged rows of text files."""

    def count_outside(self, span: DataInterval) -> int:
        """Count the rows whose event time is outside a span. Rows without a time are not counted."""
        counted = sa.select(sa.func.count()).select_from(self.rows).where(*self._outside(span))
        with self.database.reading() as connection:
            return int(connection.execute(counted).scalar_one())

    def read_outside(self, span: DataInterval) -> pa.Table:
        """Read the rows whose event time is outside a span."""
        self.check_columns()
        return read(
            self.database,
            sa.select(*self.columns).where(*self._outside(span)),
            self._declared(),
            self.exact,
            nested=True,
        )

    def _boundaries(self, interval: DataInterval | None, size: int, rows: int) -> list[Bound]:
        """Return the positions at which partitions begin. Without a gap between them, no sort is needed."""
        position = self._along()
        ends = sa.select(sa.func.min(position), sa.func.max(position)).where(*self._within(interval))
        with self.database.reading() as connection:
            first, last = connection.execute(ends).one()
        if last - first + 1 != rows:
            return super()._boundaries(interval, size, rows)
        return list(range(first + size, last + 1, size))

    def _outside(self, span: DataInterval) -> list[sa.ColumnElement[bool]]:
        assert self.time is not None
        self.check_columns()
        within = self._within(span)
        assert self._time_type is not None
        return [sa.not_(sa.and_(*within)), self._time_type.is_finite(self.rows.c[self.time])]

    def find_misfit(self) -> UnfitValue | None:
        """Return the error for the first value that does not fit the type of its column."""
        for column, kind in self.conversions.items():
            raw = as_text(column)
            strange = f"{raw} is not null and not coalesce({kind.fits(raw)}, false) order by {POSITION} limit 1"
            query = f"select _file, _row_of_file, {raw} from ({self.numbered}) where {strange}"  # noqa: S608 # names, quoted
            with self.database.reading() as connection:
                found = connection.exec_driver_sql(query).first()
            if found is not None:
                return UnfitValue(self.source, str(found[0]), int(found[1]) + 1, column, str(found[2]), str(kind))
        return None


@contextmanager
def files_relation(request: FilesRequest, partition: Partition | None = None) -> Iterator[FileRelation]:
    """Yield the rows of files as a relation. Partitions follow the order of files and rows.

    Args:
        partition: the only one that will be read; rows of Parquet files outside of it are skipped.

    Raises:
        InexactColumn: one of the exact columns would lose a digit.
        BrokenFile: a file cannot be read.
        FilesChanged: a text file that is not staged yet is not as it was when the run was planned.
        AmbiguousDate: dates of a column can be read in several ways.
        MalformedRows: too many rows of text files cannot be read.
        UnfitValue: a value of a Parquet file does not fit the declared type. Raised where the relation is used.
    """
    is_shared = not any(map(is_remote, request.paths))  # the file system of objects belongs to a whole DuckDB
    with hide_values(request.private), in_memory(request.source, is_shared=is_shared) as database:
        if request.spec.format != "parquet":
            with staged_files(request) as staged:
                raise_malformed(request.source, staged, request.spec.max_malformed, request.private)
                yield _open_staged(request, database, staged)
            return
        with planned_objects(database, request.files, request.access):
            relation = _open_parquet(request, database, partition)
            with naming_misfits(relation):
                yield relation


@contextmanager
def naming_misfits(relation: FileRelation) -> Iterator[None]:
    """Raise an error that names the value, in place of one that a value which does not fit has raised in the block."""
    try:
        yield
    except QueryFailed:
        misfit = relation.find_misfit()
        if misfit is None:
            raise
        raise misfit from None


@contextmanager
def staged_files(request: FilesRequest) -> Iterator[Staged]:
    """Yield the staged rows of text files or documents. Without a folder of a run they are removed afterwards."""
    if request.run_folder is not None:
        yield _stage(request, request.run_folder)
        return
    with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
        yield _stage(request, Path(folder))


def _stage(request: FilesRequest, folder: Path) -> Staged:
    if request.spec.is_documents:
        times = request.times or DocumentTimes(request.spec)
        documents = DocumentsRequest(request.source, request.spec, request.files, times, request.access)
        with hide_paths("path" in request.private):
            return stage_documents(documents, folder)
    staging = StagingRequest(
        request.source,
        request.spec,
        request.files,
        request.dialect,
        request.types,
        request.time,
        request.exact,
        request.access,
        frozenset(request.private),
    )
    return stage_files(staging, folder)


@contextmanager
def in_memory(name: str, *, is_shared: bool = False) -> Iterator[Database]:
    """Yield a connection to an in-memory DuckDB.

    Args:
        is_shared: use the process's own, whose connections have temporary tables and views only. To open one costs
            25 ms of CPU, and its first read as much again.
    """
    url = _shared_url() if is_shared else _IN_MEMORY
    database = Database(name, sa.create_engine(url, poolclass=StaticPool))
    try:
        yield database
    finally:
        database.engine.dispose()


_IN_MEMORY = "duckdb:///:memory:"
_opening = threading.Lock()
_kept: dict[int, Any] = {}
"""By process: the connection that keeps the shared DuckDB. A fork opens its own."""


def _shared_url() -> str:
    process = os.getpid()
    url = f"{_IN_MEMORY}penstock-files-{process}"
    with _opening:
        if process not in _kept:
            engine = sa.create_engine(url)
            arguments, options = engine.dialect.create_connect_args(engine.url)
            _kept[process] = engine.dialect.connect(*arguments, **options)  # a pool would roll back while Python ends
    return url


def _open_staged(request: FilesRequest, database: Database, staged: Staged) -> FileRelation:
    with translated_errors(database), database.engine.connect() as connection:
        connection.exec_driver_sql("SET TimeZone='UTC'")
        rows = f"select * from read_parquet({quoted(str(staged.rows_file))}, hive_partitioning=false)"  # noqa: S608 # a path, quoted
        return replace(_relation(request, database, connection, rows, {}), staged=staged)


def _open_parquet(request: FilesRequest, database: Database, partition: Partition | None) -> FileRelation:
    try:
        with translated_errors(database), database.engine.connect() as connection:
            connection.exec_driver_sql("SET TimeZone='UTC'")
            folders = folder_columns(request.source, request.paths, request.private)
            slice_ = None if request.partition_by else partition
            read = read_parquet_files(connection, request.spec, request.paths, request.exact, folders, slice_)
            return _relation(request, database, connection, read.numbered, read.conversions)
    except (InexactColumn, FolderColumn) as error:
        raise replace(error, source=request.source) from None
    except PenstockError as error:
        shown = ", ".join(request.paths[:3])
        raise BrokenFile(request.source, shown, str(getattr(error, "reason", error))) from None


def _relation(
    request: FilesRequest,
    database: Database,
    connection: sa.Connection,
    numbered: str,
    conversions: Mapping[str, ColumnType],
) -> FileRelation:
    row_id = _row_id(request.spec) if ROW_ID in request.spec.key else ""
    time, partition_by, exact = request.time, request.partition_by, frozenset(request.exact)
    wanted = RowsRequest(request.source, request.spec.key, time, partition_by, exact, row_id)
    return rows_relation(wanted, database, connection, numbered, conversions)


@dataclass(frozen=True)
class RowsRequest:
    """What a relation of numbered rows is used for."""

    source: str
    key: tuple[str, ...]
    time: str | None
    partition_by: str | None
    exact: frozenset[str]
    row_id: str = ""
    """SQL of a row's id. Empty: the rows have a key of their own."""


def rows_relation(
    request: RowsRequest,
    database: Database,
    connection: sa.Connection,
    numbered: str,
    conversions: Mapping[str, ColumnType],
) -> FileRelation:
    """Return rows with a place in their file and a position as a relation."""
    connection.exec_driver_sql(f"create temp view numbered_rows as {numbered}")
    row_id = f", {request.row_id} as {ROW_ID}" if request.row_id else ""
    converted = ", ".join(f"{k.strict(as_text(c))} as {identifier(c)}" for c, k in conversions.items())
    replaced = f" replace ({converted})" if converted else ""
    columns = f"* exclude (_file, _row_of_file){replaced}{row_id}"
    connection.exec_driver_sql(f"create temp view source_rows as select {columns} from numbered_rows")  # noqa: S608 # names, quoted
    names = list(connection.exec_driver_sql("select * from source_rows limit 0").keys())
    connection.commit()
    rows = sa.table("source_rows", *(sa.column(sa.quoted_name(n, quote=True)) for n in names))
    return FileRelation(
        request.source,
        database,
        rows,
        request.key,
        request.partition_by or POSITION,
        request.time,
        whole_groups=request.partition_by is not None,
        in_order=True,
        exact=request.exact,
        declares_columns=True,
        nested=True,
        conversions=conversions,
        numbered=numbered,
    )


def _row_id(source: FilesSource) -> str:
    """Return the SQL of a row's id: its file below the pattern's fixed folder, and its number in the file."""
    folder = fixed_folder(source.path)
    prefix = len(folder) + 1 if folder else 0
    return f"substr(_file, {prefix + 1}) || ':' || _row_of_file"
