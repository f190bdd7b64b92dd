"""Read rows of Parquet, CSV and JSON-lines files with an in-memory DuckDB. Columns are merged by name.

`text_files` decides by which types text files are read. A value that does not fit is an error with its file and row.
"""

import glob
import json
import re
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from penstock.database.connections import Database
from penstock.database.driver_errors import translated_errors
from penstock.errors import AmbiguousDate, BrokenFile, InexactColumn, NoFiles, PenstockError, QueryFailed, UnfitValue
from penstock.interval import DataInterval, Grid, calendar_boundaries, is_fixed
from penstock.privacy.masking import hide_values
from penstock.run_types import Partition
from penstock.sources.allowed_paths import check_files, check_pattern
from penstock.sources.column_types import NUMBER, ColumnType, as_text, declared_types, family, identifier, quoted
from penstock.sources.guessed_numbers import exact_reader
from penstock.sources.relation import Relation
from penstock.sources.text_files import TypedFiles, no_rows, read_text_files
from penstock.spec.pipeline import ROW_ID, FilesSource

POSITION = "_position"
"""The position of a row among the rows of all files, in the order of the files' names."""
_PARQUET = "read_parquet({files}, union_by_name=true, filename='_file')"


@dataclass(frozen=True)
class FileRelation(Relation):
    """Rows of files."""

    conversions: Mapping[str, ColumnType] = field(default_factory=dict)
    """The columns that are converted from text."""
    kinds: Mapping[str, str] | None = None
    """The type of each column of text files, as a contract stores it. None for Parquet files."""
    guessed: frozenset[str] = frozenset()
    """Columns of text whose type was guessed. They may be without any value."""
    numbered: str = ""
    """SQL of the rows before conversion, with their files and numbers."""

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


def matching_files(
    name: str, source: FilesSource, interval: DataInterval | None, roots: tuple[str, ...], *, zone: str
) -> list[Path]:
    """Return the files of a source (of an interval, if the path contains it), sorted by name.

    Args:
        roots: the folders that may be read; empty: no limit.
        zone: the time zone of the dates in the path.

    Raises:
        NoFiles: no file matches.
        OutsideRoots: the path, or a file's link, points outside the allowed folders.
    """
    paths = _paths(source, interval, zone)
    for path in paths:
        check_pattern(name, path, roots)
    found = sorted({Path(p) for path in paths for p in glob.glob(path, recursive=True) if Path(p).is_file()})
    if not found:
        raise NoFiles(name, paths[0] if len(paths) == 1 else f"{paths[0]} to {paths[-1]}")
    check_files(name, source.path, found, roots)
    return found


def _paths(source: FilesSource, interval: DataInterval | None, zone: str) -> list[str]:
    """Return the path of the interval. With `every`, one path per piece, beginning with those of `lookback`."""
    if "{" not in source.path or interval is None:
        return [source.path]
    pieces = [interval] if source.every is None else _pieces(source.every, source.lookback, interval, zone)
    bounds = ((piece.start.astimezone(ZoneInfo(zone)), piece.end.astimezone(ZoneInfo(zone))) for piece in pieces)
    return [source.path.format(interval_start=start, interval_end=end) for start, end in bounds]


def _pieces(every: timedelta, lookback: timedelta, interval: DataInterval, zone: str) -> list[DataInterval]:
    """Return the span of each file. The last one may extend beyond the interval."""
    if is_fixed(every, zone):
        first = interval.start - lookback
    else:
        day, _ = calendar_boundaries(interval.start, every, zone)
        first = Grid(day, every, zone).previous(day, -(-lookback // every))
    return Grid(first, every, zone).covering(first, interval.end)


@contextmanager
def files_relation(
    name: str,
    source: FilesSource,
    time: str | None,
    files: Sequence[Path],
    partition: Partition | None = None,
    partition_by: str | None = None,
    contract: Mapping[str, str] | None = None,
    private: Container[str] = (),
    exact: Collection[str] = (),
) -> Iterator[FileRelation]:
    """Yield the rows of files as a relation. Partitions follow the order of files and rows.

    Args:
        partition: the only one that will be read; rows of Parquet files outside of it are skipped.
        partition_by: the column whose values partitions keep whole.
        contract: types of columns of text files, as earlier runs read them.
        private: columns whose values no error shows, in lower case.
        exact: keys and columns to keep, which must not lose a digit.

    Raises:
        InexactColumn: one of them would.
        BrokenFile: DuckDB cannot read the files.
        AmbiguousDate: dates of a column can be read in several ways.
        UnfitValue: a value does not fit the type of its column. Raised where the relation is used.
    """
    database = Database(name, sa.create_engine("duckdb:///:memory:", poolclass=StaticPool))
    try:
        with hide_values(private):
            relation = _open_relation(
                name, source, time, files, database, partition, partition_by, contract or {}, exact
            )
            try:
                yield relation
            except QueryFailed:
                misfit = relation.find_misfit()
                if misfit is None:
                    raise
                raise misfit from None
    finally:
        database.engine.dispose()


def _open_relation(
    name: str,
    source: FilesSource,
    time: str | None,
    files: Sequence[Path],
    database: Database,
    partition: Partition | None,
    partition_by: str | None,
    contract: Mapping[str, str],
    exact: Collection[str],
) -> FileRelation:
    try:
        with translated_errors(database), database.engine.connect() as connection:
            connection.exec_driver_sql("SET TimeZone='UTC'")
            typed = _open_reader(connection, name, source, time, files, contract)
            listed = _listed(files)
            reader, digits = exact_reader(connection, source, listed, typed.reader, {*exact} - {*typed.conversions})
            if source.format == "parquet" and not _has_column(connection, listed, "file_row_number"):
                numbered = _number_by_footer(connection, reader, listed, None if partition_by else partition)
            else:
                numbered = _number_by_reading(reader)
            connection.exec_driver_sql(f"create view numbered_rows as {numbered}")
            row_id = f", {_row_id(source)} as {ROW_ID}" if ROW_ID in source.key else ""
            expressions = {c: k.strict(as_text(c)) for c, k in typed.conversions.items()} | digits
            converted = ", ".join(f"{sql} as {identifier(c)}" for c, sql in expressions.items())
            replaced = f" replace ({converted})" if converted else ""
            columns = f"* exclude (_file, _row_of_file){replaced}{row_id}"
            connection.exec_driver_sql(f"create view source_rows as select {columns} from numbered_rows")  # noqa: S608 # names, quoted
            names = list(connection.exec_driver_sql("select * from source_rows limit 0").keys())
            connection.commit()
    except AmbiguousDate:
        raise
    except InexactColumn as error:
        raise replace(error, source=name) from None
    except PenstockError as error:
        raise BrokenFile(name, ", ".join(map(str, files[:3])), str(getattr(error, "reason", error))) from None
    rows = sa.table("source_rows", *(sa.column(sa.quoted_name(n, quote=True)) for n in names))
    return FileRelation(
        name,
        database,
        rows,
        source.key,
        partition_by or POSITION,
        time,
        whole_groups=partition_by is not None,
        exact=frozenset(exact),
        declares_columns=True,
        conversions=typed.conversions,
        kinds=None if source.format == "parquet" else typed.kinds,
        guessed=typed.guessed,
        numbered=numbered,
    )


def _open_reader(
    connection: sa.Connection,
    name: str,
    source: FilesSource,
    time: str | None,
    files: Sequence[Path],
    contract: Mapping[str, str],
) -> TypedFiles:
    """Decide how the columns of the files are read."""
    declared = declared_types(source.declared_columns)
    if source.format == "parquet":
        return _type_parquet(connection, _listed(files), declared)
    parsed = {column: ColumnType.parse(text) for column, text in contract.items()}
    known = {column: kind for column, kind in parsed.items() if kind.is_known} | declared
    filled = [file for file in files if file.stat().st_size]  # DuckDB would find a column `column0` in an empty file
    if filled:
        return read_text_files(connection, name, source.format, _listed(filled), known, time)
    if source.format == "csv":
        raise BrokenFile(name, ", ".join(map(str, files[:3])), "it is empty and has no header")
    return no_rows(known, [c for c in source.key if c != ROW_ID], time)


def _type_parquet(connection: sa.Connection, files: str, declared: Mapping[str, ColumnType]) -> TypedFiles:
    """Convert declared columns of Parquet files whose own type is another one."""
    reader = _PARQUET.format(files=files)
    if not declared:
        return TypedFiles(reader, {}, {})
    described = connection.exec_driver_sql(f"describe from {reader}").all()
    found = {str(row[0]): str(row[1]) for row in described}
    conversions = {c: kind for c, kind in declared.items() if c in found and _differs(kind, found[c])}
    return TypedFiles(reader, conversions, {})


def _differs(declared: ColumnType, stored: str) -> bool:
    wanted = {"int": NUMBER, "float": NUMBER, "date": "time", "timestamp": "time"}.get(declared.kind, declared.kind)
    return family(stored) != wanted


def _listed(files: Sequence[Path]) -> str:
    return "[" + ", ".join(quoted(str(f)) for f in files) + "]"


def _row_id(source: FilesSource) -> str:
    """Return the SQL of a row's id: its file below the pattern's fixed folder, and its number in the file."""
    folder = str(Path(re.split(r"[*?\[{]", source.path)[0] + "x").parent)
    prefix = 0 if folder == "." else len(folder) + 1
    return f"substr(_file, {prefix + 1}) || ':' || _row_of_file"


def _number_by_reading(reader: str) -> str:
    positions = f"select *, row_number() over () as {POSITION} from {reader}"  # noqa: S608 # paths, quoted
    number = f"{POSITION} - min({POSITION}) over (partition by _file)"
    return f"select *, {number} as _row_of_file from ({positions})"  # noqa: S608 # paths, quoted


def _number_by_footer(connection: sa.Connection, reader: str, files: str, partition: Partition | None) -> str:
    """Number the rows with the row counts in the footers, so that a slice is read without the rows before it."""
    footers = f"select file_name, num_rows from parquet_file_metadata({files}) order by file_name"  # noqa: S608 # paths, quoted
    firsts, first = {}, 1
    for file, rows in connection.exec_driver_sql(footers).all():
        firsts[str(file)] = range(first, first + rows)
        first += rows
    values = ", ".join(f"({quoted(file)}, {positions.start})" for file, positions in firsts.items())
    connection.exec_driver_sql(
        f"create table source_files as select * from (values {values}) as t(_file, _first_of_file)"  # noqa: S608 # paths, quoted
    )
    slice_ = _footer_slice(firsts, partition) if partition else ""
    numbered = reader.removesuffix(")") + ", file_row_number=true)"
    return (
        f"select * exclude (_first_of_file, file_row_number), _first_of_file + file_row_number as {POSITION}, "  # noqa: S608 # paths, quoted
        f"file_row_number as _row_of_file from (select * from {numbered}{slice_}) join source_files using (_file)"
    )


def _has_column(connection: sa.Connection, files: str, name: str) -> bool:
    """Whether a Parquet file has a column with the name of DuckDB's own row number column."""
    asked = f"select count(*) from parquet_schema({files}) where name ilike '{name}'"  # noqa: S608 # paths, quoted
    return bool(connection.exec_driver_sql(asked).scalar())


def _footer_slice(files: Mapping[str, range], partition: Partition) -> str:
    """Return the SQL filter for the files of a partition, and for the rows if it is one file."""
    everything = sum(map(len, files.values())) + 1
    low, high = (
        bound if isinstance(bound, int) else default
        for bound, default in ((partition.lower, 1), (partition.upper, everything))
    )
    touched = {file: rows for file, rows in files.items() if rows.start < high and rows.stop > low}
    if len(touched) != 1:
        return f" where _file in ({', '.join(map(quoted, touched))})" if touched else ""
    [(file, rows)] = touched.items()
    return f" where _file = {quoted(file)} and file_row_number between {low - rows.start} and {high - 1 - rows.start}"


def file_marks(files: list[Path]) -> str:
    """Return a fingerprint of the files: their paths, sizes and times."""
    return json.dumps([_mark(file) for file in files])


def _mark(file: Path) -> tuple[str, int | None, int | None]:
    try:
        status = file.stat()
    except FileNotFoundError:  # removed since the folder was listed
        return str(file), None, None
    return str(file), status.st_size, status.st_mtime_ns
