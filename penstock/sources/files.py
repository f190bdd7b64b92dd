"""Read rows of Parquet, CSV and JSON-lines files with an in-memory DuckDB. Columns are merged by name."""

import glob
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from penstock.database.connections import Database
from penstock.database.driver_errors import translated_errors
from penstock.errors import BrokenFile, NoFiles, PenstockError
from penstock.interval import DataInterval, Grid, calendar_boundaries, is_fixed
from penstock.run_types import Partition
from penstock.sources.allowed_paths import check_files, check_pattern
from penstock.sources.relation import Relation
from penstock.spec.pipeline import ROW_ID, FilesSource

POSITION = "_position"
"""The position of a row among the rows of all files, in the order of the files' names."""
_READERS = {
    "parquet": "read_parquet({files}, union_by_name=true, filename='_file')",
    "csv": "read_csv({files}, union_by_name=true, filename='_file', sample_size=-1{types})",
    "json": "read_json({files}, union_by_name=true, filename='_file', format='newline_delimited')",
}


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
    interval: DataInterval | None,
    roots: tuple[str, ...],
    partition: Partition | None = None,
    partition_by: str | None = None,
    *,
    zone: str,
) -> Iterator[Relation]:
    """Yield the rows of the matching files as a relation. Partitions follow the order of files and rows.

    Args:
        roots: the folders that may be read; empty: no limit.
        partition: the only one that will be read; rows of Parquet files outside of it are skipped.
        partition_by: the column whose values partitions keep whole.
        zone: the time zone of the dates in the path.

    Raises:
        NoFiles: nothing matches.
        OutsideRoots: the path, or a file's link, leads out of the folders that may be read.
        BrokenFile: DuckDB cannot read what matches.
    """
    files = matching_files(name, source, interval, roots, zone=zone)
    database = Database(name, sa.create_engine("duckdb:///:memory:", poolclass=StaticPool))
    listed = "[" + ", ".join(_quoted(str(f)) for f in files) + "]"
    try:
        reader = _open_reader(database, source, listed)
        with translated_errors(database), database.engine.connect() as connection:
            connection.exec_driver_sql("SET TimeZone='UTC'")
            if source.format == "parquet" and not _has_column(connection, listed, "file_row_number"):
                numbered = _number_by_footer(connection, reader, listed, None if partition_by else partition)
            else:
                numbered = _number_by_reading(reader)
            row_id = f", {_row_id(source)} as {ROW_ID}" if ROW_ID in source.key else ""
            connection.exec_driver_sql(
                f"create view source_rows as select * exclude (_file, _row_of_file){row_id} from ({numbered})"  # noqa: S608 # paths, quoted
            )
            names = list(connection.exec_driver_sql("select * from source_rows limit 0").keys())
            connection.commit()
    except PenstockError as error:
        raise BrokenFile(name, ", ".join(map(str, files[:3])), str(getattr(error, "reason", error))) from None
    rows = sa.table("source_rows", *(sa.column(sa.quoted_name(n, quote=True)) for n in names))
    try:
        along = partition_by or POSITION
        yield Relation(name, database, rows, source.key, along, time, whole_groups=partition_by is not None)
    finally:
        database.engine.dispose()


def _open_reader(database: Database, source: FilesSource, files: str) -> str:
    """Return the SQL expression that reads the files."""
    readers = [_READERS[source.format].format(files=files, types=types) for types in _types(source)]
    for reader in readers[:-1]:
        with suppress(PenstockError), translated_errors(database), database.engine.connect() as connection:
            connection.exec_driver_sql(f"select * from {reader} limit 0")  # noqa: S608 # paths, quoted
            return reader
    return readers[-1]


def _types(source: FilesSource) -> Iterator[str]:
    """Yield the types of CSV columns to try. If DuckDB refuses them, because no file has such a column, guess all.

    The source's contract finds the missing column, because it knows whether the column is used.
    """
    if source.text:
        named = (f"{_quoted(column)}: 'VARCHAR'" for column in source.text)
        yield f", types={{{', '.join(named)}}}"
    yield ""


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
    values = ", ".join(f"({_quoted(file)}, {positions.start})" for file, positions in firsts.items())
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
        return f" where _file in ({', '.join(map(_quoted, touched))})" if touched else ""
    [(file, rows)] = touched.items()
    return f" where _file = {_quoted(file)} and file_row_number between {low - rows.start} and {high - 1 - rows.start}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def file_marks(files: list[Path]) -> str:
    """Return a fingerprint of the files: their paths, sizes and times."""
    return json.dumps([[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in files])
