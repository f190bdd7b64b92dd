"""Parse web server lines: the common and the combined log format of Apache and nginx."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute

from penstock.database.types import TIMESTAMP
from penstock.sources.logs.times import read_clf
from penstock.sources.logs.values import capture, narrow, read_int, replace_text, select_fields

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

_PLACES = {"caller": 0, "request": 1, "answer": 2, "referer": 3, "agent": 5, "extra": 6}
"""Pieces of a line that is cut at its quotes."""
_PIECE_OF = {
    **dict.fromkeys(("host", "identity", "user"), "caller"),
    **dict.fromkeys(("method", "path", "protocol"), "request"),
    **dict.fromkeys(("status", "size"), "answer"),
    **{name: name for name in ("referer", "agent", "extra")},
}
_INSIDE = {"caller": _CALLER, "answer": _ANSWER}


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

    def parse(
        self, lines: pa.StringArray, times: pa.TimestampArray, columns: Collection[str] | None = None
    ) -> pa.Table:
        schema = select_fields(self.schema, columns)
        found: dict[str, Any] = {"time": times, "line": lines}
        names = {name for name in schema.names if name not in found}
        for piece, text in self._cut(lines, {_PIECE_OF[name] for name in names}).items():
            if piece == "request":
                found |= _split_request(text, names)
            else:
                found |= capture(text, _INSIDE[piece], names) if piece in _INSIDE else {piece: text}
        values = [_READERS[name](found[name]) if name in _READERS else found[name] for name in schema.names]
        return pa.table(values, schema=schema)

    def _cut(self, lines: Any, wanted: set[str]) -> dict[str, Any]:
        """Cut lines at their quotes. Lines with quotes inside a field need the pattern, which is five times as slow.

        Args:
            wanted: names of pieces.
        """
        if not wanted:
            return {}
        quotes = 6 if self.combined else 2
        parts = pc.split_pattern(lines, '"')
        simple = pc.equal(pc.list_value_length(parts), quotes + 1)
        mixed = pc.all(simple).as_py() is False
        if mixed:
            parts = pc.split_pattern(pc.if_else(simple, lines, '"' * quotes), '"')
        nothing = pa.nulls(len(lines), pa.string())
        pieces = {
            name: pc.list_element(parts, i) if i <= quotes else nothing for name, i in _PLACES.items() if name in wanted
        }
        if mixed:
            other = pc.invert(simple)
            rest = lines.filter(other)
            found = {"caller": rest} | (capture(rest, _WHOLE, wanted) if wanted - {"caller"} else {})
            pieces = {name: pc.replace_with_mask(piece, other, found[name]) for name, piece in pieces.items()}
        return pieces


def _split_request(request: Any, wanted: Collection[str]) -> dict[str, Any]:
    plain = pc.extract_regex(request, pattern=narrow(_REQUEST, wanted))
    if plain.null_count:
        rest = pc.if_else(pc.is_null(plain), request, None)
        plain = pc.coalesce(plain, pc.extract_regex(rest, pattern=narrow(_REQUEST_WITH_BLANKS, wanted)))
    found = {plain.type.field(i).name: pc.struct_field(plain, i) for i in range(plain.type.num_fields)}
    return found | ({"path": pc.coalesce(found["path"], request)} if "path" in found else {})


def _absent(*texts: str) -> Callable[[Any], Any]:
    return lambda values: replace_text(values, texts)


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "host": _absent("-"),
    "identity": _absent("-"),
    "user": lambda user: replace_text(pc.utf8_rtrim(user, " "), ("-", "")),
    "status": lambda status: read_int(replace_text(status, ("-",))),
    "size": lambda size: read_int(replace_text(size, ("-",))),
    "referer": _absent("-"),
    "agent": _absent("-"),
    "extra": lambda extra: replace_text(pc.utf8_ltrim(extra, " "), ("",)),
}
"""How a column is read from its text. The others are taken as they are."""
