"""Stage text files as typed Parquet: once a run, for all of its partitions. See docs/adr/0022.

A value that does not fit the type of its column makes its row a refused one. A staged folder is named by what it was
made from. A partition on another machine that does not find it makes it again, and gets the same rows.
"""

import json
import os
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from penstock.database.connections import Database
from penstock.database.driver_errors import translated_errors
from penstock.run_types import FileState
from penstock.sources.column_types import NOTHING, NUMBER, TEXT, ColumnType, identifier, quoted
from penstock.sources.file_states import unchanged_files
from penstock.sources.text.dialect import Dialect
from penstock.sources.text.guess_types import guess_types
from penstock.sources.text.nested import nested_value
from penstock.sources.text.numbers import choose_storage, plain_number
from penstock.sources.text.raw_rows import FILE, RawRows, copy_rows
from penstock.sources.text.raw_rows import NUMBER as RECORD
from penstock.sources.text.refused_rows import Checked, write_refused

_VERSION = 1
"""Goes up when the same files are staged in another way."""
_GROUP_ROWS = 20_480
"""Rows that a slice reads at least. Groups are small, so that a slice costs little more than its own rows."""
_FACTS = "staged.json"


@dataclass(frozen=True)
class Staged:
    """The rows of a source's text files, staged in a folder."""

    folder: Path
    kinds: Mapping[str, str]
    """The type of each column, as a contract stores it."""
    guessed: frozenset[str]
    """Columns of text whose type was guessed. They may be without any value."""
    rows: int
    refused: int

    @property
    def rows_file(self) -> Path:
        """Parquet: the columns, and for each row its file, its number in the file and its position in all files."""
        return self.folder / "rows.parquet"

    @property
    def refused_file(self) -> Path:
        return self.folder / "refused.parquet"


@dataclass(frozen=True)
class StagingRequest:
    """What to stage: everything that the staged rows depend on."""

    source: str
    files: tuple[FileState, ...]
    dialect: Dialect
    known: Mapping[str, ColumnType]
    """The types of columns that are declared or kept by the contract."""
    time: str | None
    """The event time column."""
    exact: Collection[str]
    """Keys and columns to keep, which must not lose a digit."""

    @property
    def digest(self) -> str:
        facts = {
            "version": _VERSION,
            "files": [(f.path, f.size, f.written_ns, f.digest) for f in self.files],
            "dialect": asdict(self.dialect),
            "known": sorted((column, str(kind)) for column, kind in self.known.items()),
            "time": self.time,
            "exact": sorted(self.exact),
        }
        return sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


def stage_files(request: StagingRequest, folder: Path) -> Staged:
    """Return the staged rows, which are made if the folder lacks them.

    Args:
        folder: that of the run. It is made if it does not exist.

    Raises:
        FilesChanged: a file is not as it was when the run was planned.
        BrokenFile: a file cannot be read.
        AmbiguousDate: dates of a column can be read in several ways.
    """
    target = folder / f"{request.source}-{request.digest}"
    if not target.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = folder / f".{request.source}-{uuid.uuid4().hex}"
        part.mkdir(mode=0o700)
        try:
            with unchanged_files(request.source, request.files), _duckdb(request.source, part) as connection:
                _stage(connection, request, part)
            _move(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    facts = json.loads((target / _FACTS).read_text())
    return Staged(target, facts["kinds"], frozenset(facts["guessed"]), facts["rows"], facts["refused"])


def _move(part: Path, target: Path) -> None:
    try:
        os.rename(part, target)
    except OSError:
        if not target.exists():
            raise
        # Another process has staged the same at the same time.


@contextmanager
def _duckdb(source: str, folder: Path) -> Iterator[sa.Connection]:
    database = Database(source, sa.create_engine("duckdb:///:memory:", poolclass=StaticPool))
    try:
        with translated_errors(database), database.engine.connect() as connection:
            connection.exec_driver_sql("SET TimeZone='UTC'")
            connection.exec_driver_sql(f"SET temp_directory={quoted(str(folder / 'spill'))}")
            yield connection
    finally:
        database.engine.dispose()


def _stage(connection: sa.Connection, request: StagingRequest, folder: Path) -> None:
    files = [Path(state.path) for state in request.files]
    filled = [file for file in files if file.stat().st_size]
    raw = copy_rows(request.source, filled, request.dialect, folder)
    types = guess_types(connection, request.source, raw, request.known, request.time)
    checked = {
        column: Checked(kind, plain_number(identifier(column), request.dialect))
        for column, kind in types.items()
        if kind not in (TEXT, ColumnType("json"), ColumnType(NOTHING))
    }
    misfits = " or ".join(each.misfits for each in checked.values()) or "false"
    good = f"(select * from {raw.relation} where not ({misfits}))"
    values = _values(connection, request, raw, types, checked, good)
    paths = f"[{', '.join(quoted(str(file)) for file in filled)}]"
    columns = ", ".join(f"{sql} as {identifier(column)}" for column, sql in values.items())
    place = f"{paths}[{FILE} + 1] as _file, {RECORD} as _row_of_file, row_number() over () as _position"
    staged = f"select {columns}{', ' if columns else ''}{place} from {good}"  # noqa: S608 # names and paths, quoted
    rows_file = quoted(str(folder / "rows.parquet"))
    connection.exec_driver_sql(f"copy ({staged}) to {rows_file} (format parquet, row_group_size {_GROUP_ROWS})")
    rows = int(connection.exec_driver_sql(f"select count(*) from read_parquet({rows_file})").scalar_one())
    refused = write_refused(connection, request, raw, checked, filled, folder)
    for file in (*raw.parts, *raw.refusals):
        file.unlink()
    shutil.rmtree(folder / "spill", ignore_errors=True)
    guessed = [c for c, kind in types.items() if c not in request.known and kind in (TEXT, ColumnType(NOTHING))]
    facts = {"kinds": {c: str(k) for c, k in types.items()}, "guessed": guessed, "rows": rows, "refused": refused}
    (folder / _FACTS).write_text(json.dumps(facts, ensure_ascii=False))


def _values(
    connection: sa.Connection,
    request: StagingRequest,
    raw: RawRows,
    types: Mapping[str, ColumnType],
    checked: Mapping[str, Checked],
    good: str,
) -> dict[str, str]:
    """Return by column the SQL of its typed value."""
    numbers = {c: each.text for c, each in checked.items() if each.kind.kind == NUMBER}
    stored = choose_storage(connection, good, numbers, request.exact) if numbers and raw.rows else {}
    values = {}
    for column, kind in types.items():
        if column in numbers:
            values[column] = f"cast(trim({numbers[column]}) as {stored.get(column, 'DOUBLE')})"
        elif column in checked:
            values[column] = kind.strict(checked[column].text)
        elif kind == ColumnType("json"):
            values[column] = nested_value(connection, raw.relation, identifier(column))
        else:
            values[column] = identifier(column)
    return values
