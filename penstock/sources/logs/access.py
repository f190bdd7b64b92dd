"""Parse web server lines: the common and the combined log format of Apache and nginx."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute

from penstock.database.types import TIMESTAMP
from penstock.sources.logs.times import read_clf
from penstock.sources.logs.values import read_int, replace_text

pc: Any = pyarrow.compute  # the stubs allow neither strings nor NULL as operands

_QUOTED = r'(?:[^"\\]|\\.)*'
_COMMON = rf'^\S+ \S+ [^\[]* \[[^\]]*\] "{_QUOTED}" (?:[0-9]{{3}}|-) (?:[0-9]{{1,18}}|-)'
_COMBINED = rf'{_COMMON} "{_QUOTED}" "{_QUOTED}"'
_EXTRA = rf'(?: (?:"{_QUOTED}"|[^"\s]+))*'
_TIME = r"^\S+ \S+ [^\[]*\[(?P<time>[^\]]*)\]"
# These match without backtracking, which is ten times as fast as one pattern with ten groups.
_CALLER = r"^(?P<host>\S+) (?P<identity>\S+) (?P<user>[^\[]*)\["
_ANSWER = r" (?P<status>\S+) (?P<size>[^ ]+)"
_REQUEST = r"^(?P<method>[A-Za-z][A-Za-z_-]*) (?P<path>\S+) (?P<protocol>[A-Za-z]+/[0-9.]+)$"
_REQUEST_WITH_BLANKS = r"^(?P<method>[A-Za-z][A-Za-z_-]*) (?P<path>.+) (?P<protocol>[A-Za-z]+/[0-9.]+)$"
_WHOLE = (
    rf'^\S+ \S+ [^\[]*\[[^\]]*\] "(?P<request>{_QUOTED})"(?P<answer>[^"]*)'
    rf'(?:"(?P<referer>{_QUOTED})" "(?P<agent>{_QUOTED})"(?: (?P<extra>.*))?)?$'
)


@dataclass(frozen=True)
class AccessParser:
    """Parses web server lines. `-` is NULL; escapes such as `\\"` stay as the server wrote them.

    If a request is not `METHOD path PROTOCOL`, its whole text is the path. Fields that a server appends to the combined
    format are together in `extra`.
    """

    combined: bool

    @property
    def schema(self) -> pa.Schema:
        text = pa.string()
        fields: list[tuple[str, pa.DataType]] = [
            ("host", text),
            ("identity", text),
            ("user", text),
            ("time", TIMESTAMP),
        ]
        fields += [("method", text), ("path", text), ("protocol", text), ("status", pa.int64()), ("size", pa.int64())]
        fields += [("referer", text), ("agent", text), ("extra", text)] if self.combined else []
        return pa.schema([*fields, ("line", text)])

    def times(self, lines: pa.StringArray, seen_at: datetime, after: datetime | None = None) -> pa.TimestampArray:
        del seen_at, after
        shaped = pc.match_substring_regex(lines, f"{_COMBINED}{_EXTRA}$" if self.combined else f"{_COMMON}$")
        text = pc.struct_field(pc.extract_regex(pc.if_else(shaped, lines, None), pattern=_TIME), 0)
        return read_clf(text)

    def parse(self, lines: pa.StringArray, times: pa.TimestampArray) -> pa.Table:
        front, request, answer, referer, agent, extra = self._cut(lines)
        caller = _groups(front, _CALLER)
        method, path, protocol = _split_request(request)
        status, size = _groups(answer, _ANSWER)
        columns = {
            "host": replace_text(caller[0], ("-",)),
            "identity": replace_text(caller[1], ("-",)),
            "user": replace_text(pc.utf8_rtrim(caller[2], " "), ("-", "")),
            "time": times,
            "method": method,
            "path": path,
            "protocol": protocol,
            "status": read_int(replace_text(status, ("-",))),
            "size": read_int(replace_text(size, ("-",))),
            "referer": replace_text(referer, ("-",)),
            "agent": replace_text(agent, ("-",)),
            "extra": replace_text(pc.utf8_ltrim(extra, " "), ("",)),
            "line": lines,
        }
        schema = self.schema
        return pa.table([columns[name] for name in schema.names], schema=schema)

    def _cut(self, lines: Any) -> list[Any]:
        """Cut lines at their quotes. Lines with quotes inside a field need the pattern, which is five times as slow."""
        quotes = 6 if self.combined else 2
        parts = pc.split_pattern(lines, '"')
        simple = pc.equal(pc.list_value_length(parts), quotes + 1)
        mixed = pc.all(simple).as_py() is False
        if mixed:
            parts = pc.split_pattern(pc.if_else(simple, lines, '"' * quotes), '"')
        nothing = pa.nulls(len(lines), pa.string())
        pieces = [pc.list_element(parts, i) if i <= quotes else nothing for i in (0, 1, 2, 3, 5, 6)]
        if mixed:
            rest = lines.filter(pc.invert(simple))
            found = [rest, *_groups(rest, _WHOLE)]
            pieces = [pc.replace_with_mask(a, pc.invert(simple), b) for a, b in zip(pieces, found, strict=True)]
        return pieces


def _split_request(request: Any) -> list[Any]:
    plain = pc.extract_regex(request, pattern=_REQUEST)
    if plain.null_count:
        rest = pc.if_else(pc.is_null(plain), request, None)
        plain = pc.coalesce(plain, pc.extract_regex(rest, pattern=_REQUEST_WITH_BLANKS))
    method, path, protocol = (pc.struct_field(plain, i) for i in range(3))
    return [method, pc.coalesce(path, request), protocol]


def _groups(texts: Any, pattern: str) -> list[Any]:
    found = pc.extract_regex(texts, pattern=pattern)
    return [pc.struct_field(found, i) for i in range(found.type.num_fields)]
