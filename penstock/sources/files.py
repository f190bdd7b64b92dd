"""Rows of Parquet, CSV and JSON-lines files, read through an in-memory DuckDB; columns are united by name."""

import glob
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from penstock.connections import Database, translated_errors
from penstock.errors import BrokenFile, NoFiles, PenstockError
from penstock.interval import DataInterval
from penstock.sources.relation import Relation
from penstock.sources.roots import check_files, check_pattern
from penstock.spec import ROW_ID, FilesSource

_POSITION = "_position"
_FILE = "_file"
_READERS = {
    "parquet": "read_parquet({files}, union_by_name=true, filename='_file')",
    "csv": "read_csv({files}, union_by_name=true, filename='_file', sample_size=-1{types})",
    "json": "read_json({files}, union_by_name=true, filename='_file', format='newline_delimited')",
}


def matching_files(name: str, source: FilesSource, interval: DataInterval | None) -> list[Path]:
    """Return the files of a source (of an interval, where the path holds it), sorted by name.

    Raises:
        NoFiles: none matches.
        OutsideRoots: the path, or a file's link, leads out of the folders that may be read.
    """
    paths = _paths(source, interval)
    for path in paths:
        check_pattern(name, path)
    found = sorted({Path(p) for path in paths for p in glob.glob(path, recursive=True) if Path(p).is_file()})
    if not found:
        raise NoFiles(name, paths[0] if len(paths) == 1 else f"{paths[0]} to {paths[-1]}")
    check_files(name, source.path, found)
    return found


def _paths(source: FilesSource, interval: DataInterval | None) -> list[str]:
    """Return the path of the interval, or with `every` one of each piece of it, those of `lookback` first."""
    if "{" not in source.path or interval is None:
        return [source.path]
    pieces = [interval]
    if source.every is not None:
        first = interval.start - source.lookback
        count = -((first - interval.end) // source.every)  # rounded up: a last piece may reach beyond the interval
        starts = [first + number * source.every for number in range(count)]
        pieces = [DataInterval(start, start + source.every) for start in starts]
    return [source.path.format(interval_start=piece.start, interval_end=piece.end) for piece in pieces]


@contextmanager
def files_relation(
    name: str, source: FilesSource, time: str | None, interval: DataInterval | None
) -> Iterator[Relation]:
    """Give the rows of the matching files as a relation; partitions follow the order of files and rows.

    Raises:
        NoFiles: nothing matches.
        BrokenFile: DuckDB cannot read what matches.
    """
    files = matching_files(name, source, interval)
    database = Database(name, sa.create_engine("duckdb:///:memory:", poolclass=StaticPool))
    quoted = "[" + ", ".join("'" + str(f).replace("'", "''") + "'" for f in files) + "]"
    folder = str(Path(re.split(r"[*?\[{]", source.path)[0] + "x").parent)
    prefix = 0 if folder == "." else len(folder) + 1
    row_id = f"substr(_file, {prefix + 1}) || ':' || (_position - min(_position) over (partition by _file))"
    readers = [_READERS[source.format].format(files=quoted, types=types) for types in _types(source)]
    numbered = [f"select *, row_number() over () as _position from {reader}" for reader in readers]  # noqa: S608 # paths, quoted
    views = [
        f"create view source_rows as select * exclude (_file), {row_id} as {ROW_ID}, _file from ({rows})"  # noqa: S608 # paths, quoted
        for rows in numbered
    ]
    try:
        names = _create_view(database, views)
    except PenstockError as error:
        raise BrokenFile(name, ", ".join(map(str, files[:3])), str(getattr(error, "reason", error))) from None
    rows = sa.table("source_rows", *(sa.column(sa.quoted_name(n, quote=True)) for n in names))
    try:
        yield Relation(name, database, rows, source.key, _POSITION, time)
    finally:
        database.engine.dispose()


def _types(source: FilesSource) -> Iterator[str]:
    """Say how CSV columns are typed. DuckDB refuses a type for a column that no file has: then all are guessed.

    That such a column is gone is for the contract to find, which knows whether anybody uses it.
    """
    if source.text:
        named = ("'" + column.replace("'", "''") + "': 'VARCHAR'" for column in source.text)
        yield f", types={{{', '.join(named)}}}"
    yield ""


def _create_view(database: Database, views: Sequence[str]) -> list[str]:
    """Create the first view that the files allow, and return its columns."""
    for view in views[:-1]:
        with suppress(PenstockError):
            return _create_view(database, [view])
    with translated_errors(database), database.engine.connect() as connection:
        connection.exec_driver_sql("SET TimeZone='UTC'")
        connection.exec_driver_sql(views[-1])
        names = list(connection.exec_driver_sql("select * from source_rows limit 0").keys())
        connection.commit()
        return names


def file_marks(files: list[Path]) -> str:
    """Return the files' paths, sizes and times, as a fingerprint."""
    return json.dumps([[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in files])
