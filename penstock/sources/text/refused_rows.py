"""Rows of text files that are refused: broken records, and rows with a value that does not fit its column's type.

A broken record has no event time. It counts at the time of the row before it in the file, or after it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from penstock.sources.column_types import ColumnType, identifier, quoted
from penstock.sources.text.decoding import open_text, show_stray_bytes
from penstock.sources.text.dialect import Dialect
from penstock.sources.text.raw_rows import FILE, LAST_LINE, LINE, RawRows
from penstock.sources.text.raw_rows import NUMBER as RECORD
from penstock.sources.text.records import MOST_TEXT

_PAGE = 5_000
_MISFITS = pa.schema(
    [
        (FILE, pa.int32()),
        (RECORD, pa.int64()),
        (LINE, pa.int64()),
        ("text", pa.string()),
        ("column_name", pa.string()),
        ("value", pa.string()),
        ("kind", pa.string()),
        ("own_time", pa.timestamp("us", "UTC")),
    ]
)


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


class _Request(Protocol):
    @property
    def dialect(self) -> Dialect: ...
    @property
    def time(self) -> str | None: ...


def write_refused(
    connection: sa.Connection,
    request: _Request,
    raw: RawRows,
    checked: Mapping[str, Checked],
    files: Sequence[Path],
    folder: Path,
) -> int:
    """Write the refused rows beside the staged ones, in the order of files and lines. Return their number."""
    misfits = _write_misfits(connection, request, raw, checked, files, folder)
    time = checked.get(request.time or "")
    place = f"{FILE}, {RECORD}, {LINE}, text"
    nothing = (
        "null::VARCHAR as column_name, null::VARCHAR as value, null::VARCHAR as kind, null::TIMESTAMPTZ as own_time"
    )
    broken = f"select {place}, reason, {nothing} from {raw.refused_relation}"  # noqa: S608 # names, quoted
    unfit = (
        f"select {place}, null as reason, column_name, value, kind, own_time from read_parquet({quoted(str(misfits))})"  # noqa: S608 # names, quoted
    )
    paths = f"[{', '.join(quoted(str(file)) for file in files)}]"
    path = f"{paths}[{FILE} + 1]" if files else "''"
    times = "own_time"
    joined = ""
    if time is not None and time.is_time:
        rows = quoted(str(folder / "rows.parquet"))
        near = f"(select _file, _row_of_file as n, cast({identifier(str(request.time))} as TIMESTAMPTZ) as t from read_parquet({rows}))"  # noqa: S608 # names, quoted
        joined = (
            f" asof left join {near} before on before._file = refused.file and before.n <= refused.{RECORD}"
            f" asof left join {near} behind on behind._file = refused.file and behind.n >= refused.{RECORD}"
        )
        times = "coalesce(own_time, before.t, behind.t)"
    refused = f"(select *, {path} as file from ({broken} union all {unfit}))"  # noqa: S608 # names, quoted
    chosen = (
        f"select file, {LINE} as line, text, reason, column_name, value, kind, {times} as near_time "  # noqa: S608 # names, quoted
        f"from {refused} refused{joined} order by {FILE}, {RECORD}"
    )
    target = quoted(str(folder / "refused.parquet"))
    connection.exec_driver_sql(f"copy ({chosen}) to {target} (format parquet)")
    misfits.unlink()
    return int(connection.exec_driver_sql(f"select count(*) from read_parquet({target})").scalar_one())  # noqa: S608 # a path, quoted


def _write_misfits(
    connection: sa.Connection,
    request: _Request,
    raw: RawRows,
    checked: Mapping[str, Checked],
    files: Sequence[Path],
    folder: Path,
) -> Path:
    """Write the rows with a value that does not fit: the first such column, its value, and the lines as they are."""
    target = folder / "misfits.parquet"
    with pq.ParquetWriter(target, _MISFITS) as writer:
        if not checked:
            return target
        time = checked.get(request.time or "")
        own = (
            f"case when not {time.misfits} then cast({time.kind.strict(time.text)} as TIMESTAMPTZ) end"
            if time and time.is_time
            else "null::TIMESTAMPTZ"
        )
        cases = " ".join(f"when {each.misfits} then {n}" for n, each in enumerate(checked.values()))
        values = " ".join(f"when {each.misfits} then {identifier(c)}" for c, each in checked.items())
        condition = " or ".join(each.misfits for each in checked.values())
        query = (
            f"select {FILE}, {RECORD}, {LINE}, {LAST_LINE}, case {cases} end, case {values} end, {own} "  # noqa: S608 # names, quoted
            f"from {raw.relation} where {condition} order by {FILE}, {RECORD}"
        )
        found = connection.execution_options(stream_results=True).exec_driver_sql(query)
        names = [(c, str(each.kind)) for c, each in checked.items()]
        rows = (
            (*row[:4], *names[row[4]], row[5], row[6])
            for page in iter(lambda: found.fetchmany(_PAGE), [])
            for row in page
        )
        batch: list[tuple[object, ...]] = []
        for position, group in groupby(rows, key=lambda row: int(row[0])):
            for row, text in _with_lines(files[position], request.dialect.encoding, group):
                batch.append((row[0], row[1], row[2], text, row[4], row[6], row[5], row[7]))
                if len(batch) >= _PAGE:
                    writer.write_table(_table(batch))
                    batch = []
        writer.write_table(_table(batch))
    return target


def _with_lines(
    file: Path, encoding: str, rows: Iterator[tuple[object, ...]]
) -> Iterator[tuple[tuple[object, ...], str]]:
    """Yield rows with their lines as they are in the file. The rows are in the order of the file."""
    with open_text(file, encoding) as text:
        number = 0
        for row in rows:
            first, last = int(str(row[2])), int(str(row[3]))
            lines = []
            while number < last:
                line = text.readline()
                number += 1
                if number >= first:
                    lines.append(line)
            yield row, show_stray_bytes("".join(lines)[:MOST_TEXT]).rstrip("\r\n")


def _table(rows: Sequence[Sequence[object]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(_MISFITS)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, _MISFITS, strict=True)], schema=_MISFITS)
