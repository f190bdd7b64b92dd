"""Parse lines in a user's own format: a regular expression with named groups."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute

from penstock.database.types import TIMESTAMP
from penstock.sources.logs.time_format import TimeFormat
from penstock.sources.logs.values import ARROW_TYPES, ValueKind, read_values, replace_text, select_fields

pc: Any = pyarrow.compute  # the stubs allow neither strings nor NULL as operands


@dataclass(frozen=True)
class RegexParser:
    """Parses lines that match an expression as a whole. `\\d`, `\\w` and `\\s` match ASCII only.

    A group that is empty or did not match is NULL. So is `-` in a group that is not text. A line is malformed if a
    group is not of its type.
    """

    regex: str
    time: TimeFormat
    groups: tuple[str, ...]
    columns: Mapping[str, ValueKind]
    in_bulk: bool
    """Whether the bulk engine can match the expression. Otherwise Python matches line by line."""
    over_lines: bool = False
    """Whether records have several lines. Then a dot matches a line end too."""

    @property
    def schema(self) -> pa.Schema:
        types = {name: ARROW_TYPES[self.columns.get(name, "string")] for name in self.groups} | {"time": TIMESTAMP}
        return pa.schema([*types.items(), ("line", pa.string())])

    def times(self, lines: pa.StringArray, seen_at: datetime, after: datetime | None = None) -> pa.TimestampArray:
        groups = self._match(lines, ("time", *self.columns))
        times: Any = self.time.read(groups["time"], seen_at, after)
        for name, kind in self.columns.items():
            if name != "time":
                times = pc.if_else(read_values(_filled(groups[name], kind), kind, self.time.local).wrong, None, times)
        good: pa.TimestampArray = times
        return good

    def parse(
        self, lines: pa.StringArray, times: pa.TimestampArray, columns: Collection[str] | None = None
    ) -> pa.Table:
        schema = select_fields(self.schema, columns)
        found: dict[str, Any] = {"time": times, "line": lines}
        for name, texts in self._match(lines, [name for name in schema.names if name not in found]).items():
            kind = self.columns.get(name, "string")
            found[name] = read_values(_filled(texts, kind), kind, self.time.local).values
        return pa.table([found[name] for name in schema.names], schema=schema)

    def _match(self, lines: Any, groups: Collection[str]) -> dict[str, Any]:
        """Return some groups of each line. NULL if the line does not match."""
        if not groups:
            return {}
        if self.in_bulk:
            found = pc.extract_regex(lines, pattern=anchored(self.regex, self.over_lines))
            return {name: pc.struct_field(found, name) for name in groups}
        compiled = re.compile(self.regex, re.ASCII | re.DOTALL if self.over_lines else re.ASCII)
        matches = [compiled.fullmatch(line) if line is not None else None for line in lines.to_pylist()]
        return {name: pa.array([m and m[name] for m in matches], pa.string()) for name in groups}


def compile_regex(
    regex: str, time: TimeFormat, columns: Mapping[str, ValueKind], over_lines: bool = False
) -> RegexParser:
    """Return the parser of an expression that Python accepts. The bulk engine may not support all of it."""
    groups = re.compile(regex).groupindex
    return RegexParser(regex, time, tuple(groups), columns, _matches_in_bulk(regex), over_lines)


def anchored(regex: str, over_lines: bool = False) -> str:
    return rf"\A(?{'s' if over_lines else ''}:{regex})\z"


def _matches_in_bulk(regex: str) -> bool:
    if re.search(r"\{,[0-9]", regex):  # Python reads a count from zero, the bulk engine the characters themselves
        return False
    try:
        pc.extract_regex(pa.array([""]), pattern=anchored(regex))
    except pa.ArrowInvalid:
        return False
    return True


def _filled(texts: Any, kind: ValueKind) -> Any:
    return replace_text(texts, ("",) if kind == "string" else ("", "-"))
