"""Stage text files as typed Parquet: once a run, for all of its partitions. See docs/adr/0024.

A value that does not fit the type of its column makes its row a refused one. A staged folder is named by what it was
made from. A partition on another machine that does not find it makes it again, and gets the same rows.
"""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from penstock.database.connections import Database
from penstock.database.driver_errors import translated_errors
from penstock.errors import BrokenFile, FolderColumn
from penstock.object_stores import ENVIRONMENT, StoreAccess, StoredObject, is_remote
from penstock.run_types import FileState
from penstock.sources.column_types import NOTHING, NUMBER, TEXT, ColumnType, declared_types, identifier, quoted
from penstock.sources.file_states import unchanged_files
from penstock.sources.folder_columns import FolderColumns, folder_columns, folder_kind
from penstock.sources.text.dialect import Dialect
from penstock.sources.text.guess import guess_dialect
from penstock.sources.text.guess_types import guess_types, value_text
from penstock.sources.text.json_rows import NESTED
from penstock.sources.text.nested import nested_value
from penstock.sources.text.numbers import choose_storage, plain_number
from penstock.sources.text.raw_rows import FILE as RECORD_FILE
from penstock.sources.text.raw_rows import LINE, RawRows, copy_rows, folder_value
from penstock.sources.text.raw_rows import NUMBER as RECORD
from penstock.sources.text.refused_rows import Checked, file_of_row, write_refused
from penstock.spec.sources import ROW_ID, FilesSource

_VERSION = 2
"""Goes up when the same files are staged in another way."""
_GROUP_ROWS = 20_480
"""Rows that a slice reads at least. Groups are small, so that a slice costs little more than its own rows."""
FACTS, ROWS, REFUSED, _SPILL = "staged.json", "rows.parquet", "refused.parquet", "spill"
_NUMBERS = (NUMBER, "int", "float")


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
    dialect: Dialect
    """With what only all rows show: the texts that mean NULL, and the marks in numbers."""
    nested: frozenset[str] = frozenset()
    """Columns of JSON objects and arrays."""
    unclear: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Texts that may mean a missing value, by the columns of text that have them."""
    without_text: int = 0
    """Number of documents that have pages and no text."""

    @property
    def rows_file(self) -> Path:
        """Parquet: the columns, and for each row its file, its number in the file and its position in all files."""
        return self.folder / ROWS

    @property
    def refused_file(self) -> Path:
        return self.folder / REFUSED


@dataclass(frozen=True)
class StagingRequest:
    """What to stage: everything that the staged rows depend on."""

    source: str
    spec: FilesSource
    files: tuple[FileState, ...]
    dialect: Mapping[str, str]
    """How the files are written, as the contract has it. Empty: it is guessed."""
    types: Mapping[str, str]
    """The types of columns, as the contract has them."""
    time: str | None
    """The event time column."""
    exact: Collection[str]
    """Keys and columns to keep, which must not lose a digit."""
    access: StoreAccess = ENVIRONMENT
    """The options that an object store is opened with."""
    private: frozenset[str] = frozenset()
    """Private columns, in lower case."""

    @property
    def known(self) -> dict[str, ColumnType]:
        """The types of columns that are declared or kept by the contract."""
        parsed = {column: ColumnType.parse(text) for column, text in self.types.items()}
        kept = {column: kind for column, kind in parsed.items() if kind.is_known}
        return kept | declared_types(
            self.spec.declared_columns, self.spec.csv.date_format, self.spec.csv.timestamp_format
        )

    @property
    def digest(self) -> str:
        facts = {
            "version": _VERSION,
            "files": [(f.path, f.size, f.written_ns, f.digest) for f in self.files],
            "spec": self.spec.model_dump(mode="json", include={"csv", "json_", "timezone", "columns", "text"}),
            "dialect": dict(self.dialect),
            "types": dict(self.types),
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

    def write(part: Path) -> None:
        with _duckdb(request.source, part) as connection:
            _stage(connection, request, part)

    return stage_once(request.source, request.digest, request.files, folder, write)


def stage_once(
    source: str, digest: str, files: Sequence[FileState], folder: Path, write: Callable[[Path], None]
) -> Staged:
    """Return the rows that are staged under a digest. They are written if the folder lacks them.

    Args:
        write: writes them into a folder that is not seen under its name until it is complete.

    Raises:
        FilesChanged: a file is not as it was when the run was planned.
    """
    target = folder / f"{source}-{digest}"
    if not target.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = folder / f".{source}-{uuid.uuid4().hex}"
        part.mkdir(mode=0o700)
        try:
            with unchanged_files(source, files):
                write(part)
            _move(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return _read_staged(target)


def _read_staged(folder: Path) -> Staged:
    facts = json.loads((folder / FACTS).read_text())
    written: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in facts["dialect"].items()}
    return Staged(
        folder,
        facts["kinds"],
        frozenset(facts["guessed"]),
        facts["rows"],
        facts["refused"],
        Dialect(**written),
        frozenset(facts["nested"]),
        facts["unclear"],
        facts.get("without_text", 0),
    )


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
            connection.exec_driver_sql(f"SET temp_directory={quoted(str(folder / _SPILL))}")
            yield connection
    finally:
        database.engine.dispose()


def _stage(connection: sa.Connection, request: StagingRequest, folder: Path) -> None:
    files: list[Path | StoredObject] = [
        StoredObject(state, request.access) if is_remote(state.path) else Path(state.path)
        for state in request.files
        if state.size
    ]
    expected = (*request.types, *request.exact, *([request.time] if request.time else []))
    dialect = guess_dialect(request.source, request.spec, files, request.dialect or None, expected)
    known = request.known
    raw = copy_rows(request.source, files, dialect, folder)
    folders = folder_columns(request.source, [state.path for state in request.files if state.size], request.private)
    _add_folders(connection, request.source, raw, folders, files)
    given = {column: folder_kind(values, column) for column, values in (raw.folders | raw.filled).items()}
    known = {c: kind for c, kind in given.items() if c in raw.folders or kind != TEXT} | known
    if not raw.columns and dialect.format == "csv":
        raise BrokenFile(request.source, ", ".join(f.path for f in request.files[:3]), "it is empty and has no header")
    if not raw.rows and not raw.columns:  # JSON files without a record: no row, of the columns that are needed
        needed = (*known, *request.spec.key, *([request.time] if request.time else []))
        raw.columns |= {column: set() for column in needed if column != ROW_ID}
    guess = guess_types(connection, request.source, raw, dialect, known)
    dialect = guess.dialect
    texts = {c: identifier(c) if c in raw.folders else value_text(c, dialect) for c in raw.columns}
    checked = {
        column: Checked(kind, plain_number(texts[column], dialect) if kind.kind in _NUMBERS else texts[column])
        for column, kind in guess.types.items()
        if kind.kind not in (TEXT.kind, NOTHING)
    }
    misfits = " or ".join(each.misfits for each in checked.values()) or "false"
    counted = f"select count(*) from {raw.relation} where {misfits}"  # noqa: S608 # names, quoted
    has_misfits = bool(connection.exec_driver_sql(counted).scalar())
    good = f"(select * from {raw.relation} where not ({misfits}))" if has_misfits else raw.relation  # noqa: S608 # names, quoted
    unseen = {column for column, kind in guess.types.items() if kind.kind == NOTHING}
    values = _values(connection, request, raw, texts, checked, good, unseen)
    columns = "".join(f"{sql} as {identifier(column)}, " for column, sql in values.items())
    place = f"{file_of_row(files)} as _file, {RECORD} as _row_of_file, row_number() over () as _position"
    rows_file = quoted(str(folder / ROWS))
    connection.exec_driver_sql(
        f"copy (select {columns}{place} from {good}) to {rows_file} (format parquet, row_group_size {_GROUP_ROWS})"  # noqa: S608 # names and paths, quoted
    )
    refused = write_refused(
        connection, raw, checked, request.time, files, dialect.encoding, folder, has_misfits=has_misfits
    )
    for file in (*raw.parts, *raw.refusals):
        file.unlink()
    shutil.rmtree(folder / _SPILL, ignore_errors=True)
    fixed = {*request.spec.declared_columns, *raw.folders, request.time}
    facts = {
        "kinds": {column: str(kind) for column, kind in guess.types.items()},
        "guessed": [c for c, kind in guess.types.items() if kind.kind in (TEXT.kind, NOTHING) and c not in fixed],
        "rows": raw.rows - (refused - raw.refused),
        "refused": refused,
        "dialect": asdict(dialect),
        "nested": sorted(guess.nested),
        "unclear": dict(guess.unclear),
    }
    (folder / FACTS).write_text(json.dumps(facts, ensure_ascii=False))


def _add_folders(
    connection: sa.Connection, source: str, raw: RawRows, folders: FolderColumns, files: Sequence[object]
) -> None:
    """Add the columns of folders to raw rows. A column that files have too must have the same values, and stays.

    Raises:
        FolderColumn: a file has another value than its folder.
    """
    spelled = {column.casefold(): column for column in raw.columns}
    for column, values in folders.values.items():
        written = spelled.get(column.casefold())
        if written is None:
            raw.folders[column] = values
            raw.columns[column] = {"string"}
            continue
        own, given = f"trim({identifier(written)})", folder_value(values)
        same = f"{own} = {given} or try_cast({own} as DOUBLE) = try_cast({given} as DOUBLE)"
        differing = f"{own} <> '' and not coalesce({same}, false) order by all limit 1"
        query = f"select {RECORD_FILE}, {LINE} from {raw.relation} where {differing}"  # noqa: S608 # names, quoted
        if (row := connection.exec_driver_sql(query).first()) is not None:
            place = f"line {int(row[1]):,} of {files[int(row[0])]}"
            reason = f"is in the files too, and {place} has another value than its folder"
            raise FolderColumn(source, written, f"{reason}. Correct the file or the folder")
        raw.filled[written] = values


def _values(
    connection: sa.Connection,
    request: StagingRequest,
    raw: RawRows,
    texts: Mapping[str, str],
    checked: Mapping[str, Checked],
    good: str,
    unseen: Collection[str],
) -> dict[str, str]:
    """Return by column the SQL of its typed value."""
    numbers = {c: each.text for c, each in checked.items() if each.kind.kind == NUMBER}
    stored = choose_storage(connection, good, numbers, request.exact) if numbers else {}
    values = {}
    for column, text in texts.items():
        if column in numbers:
            values[column] = f"cast(trim({numbers[column]}) as {stored[column]})"
        elif column in checked:
            values[column] = checked[column].kind.strict(checked[column].text)
        elif raw.columns[column] == {NESTED} and column not in request.spec.declared_columns:
            values[column] = nested_value(connection, raw.relation, text)
        else:
            is_empty_time = column == request.time and column in unseen
            values[column] = "cast(null as TIMESTAMPTZ)" if is_empty_time else text
    return values
