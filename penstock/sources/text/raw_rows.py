"""Copy the rows of text files, as they are written, into Parquet files of text, which DuckDB judges and converts."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from penstock.database.types import compute
from penstock.errors import BrokenFile
from penstock.sources.column_types import identifier, quoted
from penstock.sources.text.csv_rows import CsvRows
from penstock.sources.text.decoding import READ_ERRORS, ReadableFile, open_text
from penstock.sources.text.dialect import Dialect
from penstock.sources.text.json_rows import JsonRows
from penstock.sources.text.records import Record, RefusedRecord
from penstock.spec.parts import twin_names

FILE, NUMBER, LINE, LAST_LINE = "_raw_file", "_raw_number", "_raw_line", "_raw_last_line"
"""Columns beside those of the files: the file's position in the list, the record's number in it, and its lines."""
_PLACE: list[tuple[str, pa.DataType]] = [
    (FILE, pa.int32()),
    (NUMBER, pa.int64()),
    (LINE, pa.int64()),
    (LAST_LINE, pa.int64()),
]
_REFUSED = pa.schema([*_PLACE[:3], ("text", pa.string()), ("reason", pa.string())])
_GROUP_ROWS, _GROUP_CHARACTERS = 20_000, 16 << 20
"""What is written at once."""
_CONVERTED_ROWS = 1_000
"""Rows that are Python objects at a time. With more of them Python's garbage collector takes most of the time."""


@dataclass
class RawRows:
    """The rows of a source's text files as Parquet files of text."""

    folder: Path
    parts: list[Path] = field(default_factory=list)
    """The files of rows. Their columns differ, and are matched by name."""
    refusals: list[Path] = field(default_factory=list)
    """The files of records that are no rows: `_REFUSED`."""
    columns: dict[str, set[str]] = field(default_factory=dict)
    """The columns in the order in which they were found. JSON columns with what their values are."""
    folders: dict[str, Sequence[str | None]] = field(default_factory=dict)
    """The columns that only folders give, with the value for each file. They are among `columns`."""
    filled: dict[str, Sequence[str | None]] = field(default_factory=dict)
    """The columns of some files that folders give too. A file without the column has the value of its folder."""
    rows: int = 0
    refused: int = 0

    @property
    def relation(self) -> str:
        """The SQL that reads the rows: each column of the files as text, and the places of the rows."""
        if self.parts:
            parts = f"[{', '.join(quoted(str(p)) for p in self.parts)}]"
            rows = f"read_parquet({parts}, union_by_name=true, hive_partitioning=false)"
            added = "".join(f", {folder_value(v)} as {identifier(c)}" for c, v in self.folders.items())
            filled = ", ".join(
                f"coalesce({identifier(c)}, {folder_value(v)}) as {identifier(c)}" for c, v in self.filled.items()
            )
            replaced = f" replace ({filled})" if filled else ""
            return f"(select *{replaced}{added} from {rows})" if replaced or added else rows  # noqa: S608 # names and paths, quoted
        columns = [f"cast(null as VARCHAR) as {identifier(c)}" for c in self.columns]
        places = [f"cast(null as {'INTEGER' if name == FILE else 'BIGINT'}) as {name}" for name, _ in _PLACE]
        return f"(select {', '.join([*columns, *places])} where false)"

    @property
    def refused_relation(self) -> str:
        """The SQL that reads the refused records: their places, texts and reasons."""
        if self.refusals:
            return f"read_parquet([{', '.join(quoted(str(p)) for p in self.refusals)}])"
        return (
            f"(select 0::INTEGER as {FILE}, 0::BIGINT as {NUMBER}, 0::BIGINT as {LINE}, '' as text, '' as reason "
            "where false)"
        )


def folder_value(values: Sequence[str | None]) -> str:
    """Return the SQL of the value that its folder gives to a row."""
    listed = ", ".join("null" if value is None else quoted(value) for value in values)
    return f"cast(list_extract([{listed}], {FILE} + 1) as VARCHAR)"


def copy_rows(source: str, files: Sequence[ReadableFile], dialect: Dialect, folder: Path) -> RawRows:
    """Copy the rows of text files into a folder.

    Raises:
        BrokenFile: a file is damaged, is another kind of file, or has two columns of one name.
    """
    raw, spelled = RawRows(folder), dict[str, str]()
    for position, file in enumerate(files):
        with _broken_file(source, file), open_text(file, dialect.encoding) as text:
            records = JsonRows(text, dialect.records) if dialect.format == "json" else CsvRows(text, dialect)
            _Copy(raw, records, position, spelled, dialect.null if dialect.format == "csv" else ()).copy()
    return raw


@contextmanager
def _broken_file(source: str, file: ReadableFile) -> Iterator[None]:
    try:
        yield
    except READ_ERRORS as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BrokenFile(source, str(file), reason) from None


class _Copy:
    """The copying of one file: batches of rows, and a new Parquet file whenever a column is new."""

    def __init__(
        self, raw: RawRows, records: CsvRows | JsonRows, position: int, spelled: dict[str, str], null: Sequence[str]
    ) -> None:
        self._raw, self._records, self._position, self._spelled, self._null = raw, records, position, spelled, null
        self._rows: list[Record] = []
        self._converted: list[pa.Table] = []
        """Rows that are not written yet. Their columns are the same."""
        self._refused: list[RefusedRecord] = []
        self._writers: dict[str, tuple[pa.Schema, pq.ParquetWriter]] = {}

    def copy(self) -> None:
        try:
            size = 0
            for record in self._records:
                if isinstance(record, Record):
                    self._rows.append(record)
                    size += len(record.text)
                    if len(self._rows) >= _CONVERTED_ROWS or size >= _GROUP_CHARACTERS:
                        self._convert_rows()
                        if size >= _GROUP_CHARACTERS or len(self._converted) >= _GROUP_ROWS // _CONVERTED_ROWS:
                            self._write_rows()
                            size = 0
                else:
                    self._refused.append(record)
                    if len(self._refused) >= _GROUP_ROWS:
                        self._write_refused()
            self._convert_rows()
            self._write_rows()
            self._write_refused()
        finally:
            for _, writer in self._writers.values():
                writer.close()

    def _convert_rows(self) -> None:
        names = self._name_columns()
        rows, self._rows = self._rows, []
        if not rows and not names:
            return
        width = len(names)
        padded = [row.values if len(row.values) == width else _pad(row.values, width) for row in rows]
        values: Iterable[Sequence[str | None]] = zip(*padded, strict=True) if rows else [()] * width
        columns = [self._without_nulls(pa.array(column, pa.string())) for column in values]
        places: list[Any] = [
            pa.repeat(pa.scalar(self._position, pa.int32()), len(rows)),
            pa.array([row.number for row in rows], pa.int64()),
            pa.array([row.line for row in rows], pa.int64()),
            pa.array([row.last_line for row in rows], pa.int64()),
        ]
        table = pa.table([*columns, *places], names=[*names, *(name for name, _ in _PLACE)])
        if self._converted and self._converted[0].schema != table.schema:
            self._write_rows()
        self._converted.append(table)
        self._raw.rows += len(rows)

    def _write_rows(self) -> None:
        if self._converted:
            self._append("rows", pa.concat_tables(self._converted), self._raw.parts)
            self._converted = []

    def _name_columns(self) -> list[str]:
        """Return the columns' names as they are first spelled in the files."""
        found = self._records.columns
        if twins := twin_names(found):
            named = " and ".join(f"`{name}`" for name in twins[:2]) if len(twins) > 1 else f"`{twins[0]}` twice"
            raise ValueError(f"it has the columns {named}, which differ at most in upper and lower case")
        names = [self._spelled.setdefault(name.casefold(), name) for name in found]
        kinds = self._records.kinds if isinstance(self._records, JsonRows) else {}
        for column, name in zip(found, names, strict=True):
            self._raw.columns.setdefault(name, set()).update(kinds.get(column, ()))
        return names

    def _without_nulls(self, column: "pa.Array[Any]") -> "pa.Array[Any]":
        if not self._null:
            return column
        null = compute.is_in(compute.utf8_trim_whitespace(column), value_set=pa.array(self._null, pa.string()))
        kept: pa.Array[Any] = compute.if_else(null, pa.scalar(None, pa.string()), column)
        return kept

    def _write_refused(self) -> None:
        refused, self._refused = self._refused, []
        if not refused:
            return
        columns = [pa.array([getattr(r, name) for r in refused]) for name in ("number", "line", "text", "reason")]
        position = pa.repeat(pa.scalar(self._position, pa.int32()), len(refused))
        table = pa.table([position, *columns], schema=_REFUSED)
        self._append("refused", table, self._raw.refusals)
        self._raw.refused += len(refused)

    def _append(self, kind: str, table: pa.Table, files: list[Path]) -> None:
        schema, writer = self._writers.get(kind, (None, None))
        if writer is None or schema != table.schema:
            if writer is not None:
                writer.close()
            files.append(self._raw.folder / f"{kind}-{len(files)}.parquet")
            writer = pq.ParquetWriter(files[-1], table.schema)
            self._writers[kind] = table.schema, writer
        writer.write_table(table)


def _pad(values: Sequence[str | None], width: int) -> list[str | None]:
    return [*values, *[None] * (width - len(values))]
