"""Rows of text files that are refused: broken records, and rows with a value that does not fit its column's type.

A broken record has no event time. It counts at the time of the row before it in the file, or after it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from penstock.database.types import compute
from penstock.interval import DataInterval
from penstock.run_types import BrokenRecord, Misfit, RefusedRow
from penstock.sources.column_types import ColumnType, identifier, quoted
from penstock.sources.text.decoding import ReadableFile, open_text, show_stray_bytes
from penstock.sources.text.raw_rows import FILE, LAST_LINE, LINE, RawRows
from penstock.sources.text.raw_rows import NUMBER as RECORD
from penstock.sources.text.records import MOST_TEXT

_PAGE = 5_000
_COLUMNS: list[tuple[str, pa.DataType]] = [
    (FILE, pa.int32()),
    (RECORD, pa.int64()),
    (LINE, pa.int64()),
    ("text", pa.string()),
    ("column_name", pa.string()),
    ("kind", pa.string()),
    ("value", pa.string()),
    ("own_time", pa.timestamp("us", "UTC")),
]
_MISFITS = pa.schema(_COLUMNS)


@dataclass(frozen=True)
class Checked:
    """A column whose texts must be of a type."""

    kind: ColumnType
    text: str
    """The SQL of its text."""

    @property
    def misfits(self) -> str:
        """The SQL condition that a text is not of the type."""
        return f"({self.text} is not null and not coalesce({self.kind.fits(self.text)}, false))"

    @property
    def is_time(self) -> bool:
        return self.kind.kind in ("date", "timestamp")


def file_of_row(files: Sequence[ReadableFile]) -> str:
    """Return the SQL of the path of a row's file."""
    return f"[{', '.join(quoted(str(file)) for file in files)}][{FILE} + 1]" if files else "cast(null as VARCHAR)"


def write_refused(
    connection: sa.Connection,
    raw: RawRows,
    checked: Mapping[str, Checked],
    time_column: str | None,
    files: Sequence[ReadableFile],
    encoding: str,
    folder: Path,
    *,
    has_misfits: bool,
) -> int:
    """Write the refused rows beside the staged ones, in the order of files and lines. Return their number.

    Args:
        has_misfits: whether a value of a checked column does not fit its type.
    """
    time = checked.get(time_column or "")
    time = time if time and time.is_time else None
    misfits = folder / "misfits.parquet"
    with pq.ParquetWriter(misfits, _MISFITS) as writer:
        for page in _find_misfits(connection, raw, checked, time, files, encoding) if has_misfits else ():
            writer.write_table(page)
    broken = f"select {FILE}, {RECORD}, {LINE}, text, reason from {raw.refused_relation}"  # noqa: S608 # names, quoted
    unfit = f"select * from read_parquet({quoted(str(misfits))})"  # noqa: S608 # a path, quoted
    refused = f"(select *, {file_of_row(files)} as file from ({broken} union all by name {unfit}))"  # noqa: S608 # names, quoted
    joined, near = _near_times(str(time_column), folder) if time else ("", "own_time")
    target = quoted(str(folder / "refused.parquet"))
    connection.exec_driver_sql(
        f"copy (select file, {LINE} as line, text, reason, column_name, value, kind, {near} as near_time "  # noqa: S608 # names, quoted
        f"from {refused} refused{joined} order by {FILE}, {RECORD}) to {target} (format parquet)"
    )
    misfits.unlink()
    return int(connection.exec_driver_sql(f"select count(*) from read_parquet({target})").scalar_one())  # noqa: S608 # a path, quoted


def _near_times(time: str, folder: Path) -> tuple[str, str]:
    """Return the SQL that joins the staged rows before and behind a refused one, and that of the nearest time."""
    rows = quoted(str(folder / "rows.parquet"))
    near = f"(select _file, _row_of_file as n, cast({identifier(time)} as TIMESTAMPTZ) as t from read_parquet({rows}))"  # noqa: S608 # names, quoted
    joined = "".join(
        f" asof left join {near} {side} on {side}._file = refused.file and {side}.n {compared} refused.{RECORD}"
        for side, compared in (("before", "<="), ("behind", ">="))
    )
    return joined, "coalesce(own_time, before.t, behind.t)"


def _find_misfits(
    connection: sa.Connection,
    raw: RawRows,
    checked: Mapping[str, Checked],
    time: Checked | None,
    files: Sequence[ReadableFile],
    encoding: str,
) -> Iterator[pa.Table]:
    """Yield the rows with a value that does not fit: the first such column, its value, and the lines as they are."""
    own = f"case when not {time.misfits} then {time.kind.strict(time.text)} end" if time else "null"
    which = " ".join(f"when {each.misfits} then {place}" for place, each in enumerate(checked.values()))
    value = " ".join(f"when {each.misfits} then {identifier(column)}" for column, each in checked.items())
    condition = " or ".join(each.misfits for each in checked.values())
    found = connection.exec_driver_sql(
        f"select {FILE}, {RECORD}, {LINE}, {LAST_LINE}, case {which} end, case {value} end, "  # noqa: S608 # names, quoted
        f"cast({own} as TIMESTAMPTZ) from {raw.relation} where {condition} order by {FILE}, {RECORD}"
    )
    names = [(column, each.kind.expected) for column, each in checked.items()]
    rows = (row for page in iter(lambda: found.fetchmany(_PAGE), []) for row in page)
    batch: list[tuple[object, ...]] = []
    for position, group in groupby(rows, key=lambda row: int(row[0])):
        for row, text in _with_lines(files[position], encoding, group):
            file, number, line, _, place, misfit, moment = row
            batch.append((file, number, line, text, *names[place], misfit, moment))
            if len(batch) >= _PAGE:
                yield _table(batch)
                batch = []
    if batch:
        yield _table(batch)


def _with_lines(file: ReadableFile, encoding: str, rows: Iterable[Any]) -> Iterator[tuple[Any, str]]:
    """Yield rows with their lines as they are in the file. The rows are in the order of the file."""
    with open_text(file, encoding) as text:
        number, lines = 0, [""]
        for row in rows:
            first, last = int(row[2]), int(row[3])
            lines = lines if number == last else []  # two records of an array may share a line
            while number < last:
                line, number = text.readline(), number + 1
                if number >= first:
                    lines.append(line)
            yield row, show_stray_bytes("".join(lines)[:MOST_TEXT]).rstrip("\r\n")


def _table(rows: Sequence[Sequence[object]]) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, _MISFITS, strict=True)], schema=_MISFITS)


def read_refused(staged: Path, interval: DataInterval | None) -> list[RefusedRow]:
    """Return the refused rows near an interval, in the order of files and lines.

    Args:
        staged: the file that `write_refused` has written.
        interval: None for those of all times. A row of a file without a time counts in every interval.
    """
    found = pq.read_table(staged)
    if interval is not None:
        near = found["near_time"]
        inside = compute.and_(compute.greater_equal(near, interval.start), compute.less(near, interval.end))
        found = found.filter(compute.or_kleene(compute.is_null(near), inside))
    return [_refused_row(row) for row in found.to_pylist()]


def _refused_row(row: Mapping[str, Any]) -> RefusedRow:
    if row["reason"] is not None:
        return RefusedRow(row["file"], row["line"], BrokenRecord(row["reason"]), row["text"])
    why = f"does not fit the type {row['kind']}:"
    return RefusedRow(row["file"], row["line"], Misfit(row["column_name"], why, row["value"]), row["text"])
