"""Find the types by which CSV and JSON files are read: declared, kept by the contract, or guessed once."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from penstock.errors import AmbiguousDate
from penstock.sources.column_types import (
    ISO,
    NOTHING,
    NUMBER,
    TEXT,
    ColumnType,
    as_text,
    date_formats,
    family,
    identifier,
    quoted,
)

_READERS = {
    "csv": "read_csv({files}, union_by_name=true, filename='_file', sample_size=-1{options})",
    "json": "read_json({files}, filename='_file', format='newline_delimited', sample_size=-1{options})",
}
UNSEEN = ColumnType("timestamp")
"""The event time of files that have no value of it."""
_UNTITLED = re.compile(r"column\d+")
"""A column's name in a CSV file without a header."""


@dataclass(frozen=True)
class TypedFiles:
    """How text files are read."""

    reader: str
    """SQL that reads the files: columns that are converted come as text."""
    conversions: Mapping[str, ColumnType]
    kinds: Mapping[str, str]
    """The type of each column, as a contract stores it."""
    guessed: frozenset[str] = frozenset()
    """Columns of text whose type was guessed. They may be without any value."""


@dataclass(frozen=True)
class _Files:
    """Text files of one source, and what is known of their columns."""

    connection: sa.Connection
    source: str
    format: str
    files: str
    found: Mapping[str, str]
    """The types that DuckDB finds in all rows."""

    def reader(self, stored: Mapping[str, str]) -> str:
        """Return the SQL that reads the files with these types of columns."""
        listed = ", ".join(f"{quoted(name)}: {quoted(kind)}" for name, kind in stored.items())
        if self.format == "json":
            return _READERS["json"].format(files=self.files, options=f", columns={{{listed}}}")
        untitled = [_UNTITLED.fullmatch(name) is not None for name in self.found]
        header = "" if any(untitled) and not all(untitled) else f", header={'false' if all(untitled) else 'true'}"
        return _READERS["csv"].format(files=self.files, options=f"{header}, types={{{listed}}}")


def read_text_files(
    connection: sa.Connection,
    source: str,
    format_: str,
    files: str,
    known: Mapping[str, ColumnType],
    time: str | None,
) -> TypedFiles:
    """Decide how each column is read.

    Args:
        files: SQL list of the files.
        known: types that are declared or kept by the contract.
        time: the event time column, which is read as a time if all of its texts are written alike.

    Raises:
        AmbiguousDate: all dates of a column can be read day first and month first.
    """
    options = ", union_by_name=true" if format_ == "json" else ""
    everything = _READERS[format_].format(files=files, options=options)
    described = connection.exec_driver_sql(f"describe from {everything}")
    found = {str(row[0]): str(row[1]) for row in described.all() if row[0] != "_file"}
    these = _Files(connection, source, format_, files, found)
    conversions = {c: known[c] for c, stored in found.items() if c in known and _needs_conversion(known[c], stored)}
    open_ = {c: family(stored) for c, stored in found.items() if c not in known}
    times = [c for c, kind in open_.items() if kind == "time" or (c == time and kind == "text")]
    conversions |= _guess_times(these, times)
    native = {c for c, stored in found.items() if c not in conversions and family(stored) in (NUMBER, "bool")}
    stored = {c: kind if c in native else "VARCHAR" for c, kind in found.items()}
    kinds = {c: str(known.get(c) or conversions.get(c) or open_[c]) for c in found}
    kinds |= {c: NOTHING for c, kind in conversions.items() if kind == UNSEEN}
    return TypedFiles(
        these.reader(stored),
        {c: kind for c, kind in conversions.items() if kind != TEXT},
        kinds,
        frozenset(c for c in open_ if kinds[c] == "text"),
    )


def no_rows(known: Mapping[str, ColumnType], needed: Sequence[str], time: str | None) -> TypedFiles:
    """Return the columns of files without a single line."""
    types = dict.fromkeys(needed, TEXT) | ({time: ColumnType("timestamp", ISO)} if time else {}) | dict(known)
    columns = ", ".join(f"cast(null as VARCHAR) as {identifier(c)}" for c in types)
    reader = f"(select {columns}, '' as _file where false)"  # names, quoted
    kinds = {c: str(known.get(c, NOTHING)) for c in types}
    return TypedFiles(reader, {c: kind for c, kind in types.items() if kind != TEXT}, kinds, frozenset())


def _needs_conversion(wanted: ColumnType, stored: str) -> bool:
    """Whether DuckDB's own value is not the wanted one. For whole numbers it also takes `0x1F`."""
    return wanted.kind not in (NUMBER, "bool") or family(stored) != wanted.kind


def _guess_times(these: _Files, columns: Sequence[str]) -> dict[str, ColumnType]:
    """Find how the times of columns are written. A column of several formats stays text."""
    if not columns:
        return {}
    iso = {c: ColumnType("date" if these.found[c] == "DATE" else "timestamp", ISO) for c in columns}
    reader = these.reader({c: "VARCHAR" if c in columns else kind for c, kind in these.found.items()})
    samples = _select(
        these, reader, [f"max(trim({as_text(c)}))" for c in columns] + [_misfits(c, iso[c]) for c in columns]
    )
    guessed: dict[str, ColumnType] = {}
    for column, sample, misfits in zip(columns, samples[: len(columns)], samples[len(columns) :], strict=True):
        if sample is None:
            guessed[column] = UNSEEN
        else:
            guessed[column] = _guess_format(these, reader, column, str(sample)) if misfits else iso[column]
    return guessed


def _guess_format(these: _Files, reader: str, column: str, sample: str) -> ColumnType:
    """Return the only format that reads all texts of a column, or text if there is none."""
    candidates = list(date_formats(sample))
    counts = _select(these, reader, [_misfits(column, c) for c in candidates]) if candidates else ()
    fitting = [c for c, misfits in zip(candidates, counts, strict=True) if not misfits]
    if len(fitting) > 1:
        raise AmbiguousDate(these.source, column, sample, fitting[0].kind, tuple(c.format for c in fitting))
    return fitting[0] if fitting else TEXT


def _misfits(column: str, kind: ColumnType) -> str:
    raw = as_text(column)
    return f"count(*) filter ({raw} is not null and not coalesce({kind.fits(raw)}, false))"


def _select(these: _Files, reader: str, expressions: Sequence[str]) -> tuple[Any, ...]:
    query = f"select {', '.join(expressions)} from {reader}"  # noqa: S608 # paths and names, quoted
    return tuple(these.connection.exec_driver_sql(query).one())
