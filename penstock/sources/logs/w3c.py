"""Parse lines of the W3C extended format, as IIS writes it."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute

from penstock.sources.logs.records import FIELDS
from penstock.sources.logs.time_format import TimeFormat
from penstock.sources.logs.values import ValueKind, declared_schema, read_values, select_fields

pc: Any = pyarrow.compute  # the stubs allow neither strings nor NULL as operands

_VALUE = re.compile(r'"(?:[^"]|"")*"|\S+')


@dataclass(frozen=True)
class W3cParser:
    """Reads the declared fields of lines, each below its `#Fields:` line. `-`, and a field that is missing, is NULL.

    The event time is that of the fields `date` and `time`. A line is malformed if it has no event time, another number
    of values than fields, or a value that is not of its column's type.
    """

    columns: Mapping[str, ValueKind]
    time: TimeFormat

    @property
    def schema(self) -> pa.Schema:
        return declared_schema(self.columns)

    def times(self, lines: pa.StringArray, seen_at: datetime, after: datetime | None = None) -> pa.TimestampArray:
        rows = _split(lines)
        both = [f"{row['date']} {row['time']}" if row and {"date", "time"} <= row.keys() else None for row in rows]
        times: Any = self.time.read(pa.array(both, pa.string()), seen_at, after)
        for name, kind in self.columns.items():
            times = pc.if_else(read_values(_texts(rows, name), kind, self.time.local).wrong, None, times)
        good: pa.TimestampArray = times
        return good

    def parse(
        self, lines: pa.StringArray, times: pa.TimestampArray, columns: Collection[str] | None = None
    ) -> pa.Table:
        schema = select_fields(self.schema, columns)
        found: dict[str, Any] = {"time": times}
        names = [name for name in schema.names if name in self.columns]
        rows = _split(lines) if names else []
        for name in names:
            found[name] = read_values(_texts(rows, name), self.columns[name], self.time.local).values
        if "line" in schema.names:
            found["line"] = pa.array([text and text.rpartition("\n")[2] for text in lines.to_pylist()], pa.string())
        return pa.table([found[name] for name in schema.names], schema=schema)

    def find_columns(self, lines: pa.StringArray) -> frozenset[str]:
        """Return the declared columns that some `#Fields:` line names."""
        headers = {text.partition("\n")[0] for text in lines.to_pylist() if text and text.startswith(FIELDS)}
        named = {field for header in headers for field in header.removeprefix(FIELDS).split()}
        return frozenset(self.columns) & named


def _split(lines: pa.StringArray) -> list[dict[str, str] | None]:
    """Return the values of each line by field. None for a line without fields or with another number of values."""
    known: dict[str, list[str]] = {}
    rows: list[dict[str, str] | None] = []
    for text in lines.to_pylist():
        header, _, line = (text or "").rpartition("\n")
        if header not in known:
            known[header] = header.removeprefix(FIELDS).split()
        fields, values = known[header], _values(line)
        rows.append(dict(zip(fields, values, strict=True)) if fields and len(fields) == len(values) else None)
    return rows


def _values(line: str) -> list[str]:
    if "\t" in line:
        return line.split("\t")
    if '"' not in line:
        return line.split()
    return [v[1:-1].replace('""', '"') if v[0] == '"' else v for v in _VALUE.findall(line)]


def _texts(rows: list[dict[str, str] | None], name: str) -> Any:
    found = [row.get(name) if row else None for row in rows]
    return pa.array([None if value in ("-", "") else value for value in found], pa.string())
