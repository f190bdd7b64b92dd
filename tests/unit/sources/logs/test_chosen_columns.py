"""Lines that are parsed into some of their columns have in them what they have among all columns."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.database.types import TIMESTAMP
from penstock.sources.logs.formats import FormatParser, compile_format
from penstock.spec.sources import LogSource

ACCESS = (
    '1.2.3.4 - eve [17/May/2015:10:05:03 +0200] "GET /a?b=1 HTTP/1.1" 200 203 "http://x/" "Mozilla/5.0 (X)" 1 "2"',
    '- frank - [17/May/2015:10:05:03 +0200] "GET /a b HTTP/1.1" 404 - "-" "-"',
    r'h - jo \"e [17/May/2015:10:05:03 +0200] "say \"hi\" to /x HTTP/1.0" - 7 "a\"b" "c\"d" "e\"f"',
    '::1 i u  [17/May/2015:10:05:03 +0200] "-" 500 012 "" ""',
    'h - u [17/May/2015:10:05:03 +0200] "GET / HTTP/1.1" 200 99999999999999999999',
    'h - u [17/May/2015:10:05:03 +0200] "GET / HTTP/1.1" x y "r" "a"',
)
SYSLOG = (
    "<34>1 2003-10-11T22:14:15.003Z host.example su 77 ID47 - \ufeff'su root' failed",
    '<165>1 2003-08-24T05:14:15+02:00 192.0.2.1 myproc - - [a b="\\"]"]',
    "<13>Oct 11 22:14:15 mymachine su[x1]: failed for lonvick",
    "Oct  1 02:14:15 mymachine kernel: ",
    "2026-01-01T00:00:00+00:00 - no tag at all",
)
JSON = (
    '{"time": "2026-01-01T00:00:00Z", "user": "a", "n": 5, "f": 1.5, "b": true, "at": 1767225600, "o": {"x": "in"}}',
    '{"time": "2026-01-01T00:00:00Z", "user": null, "n": "5", "f": "x", "b": 1, "at": "2026-01-01", "o.x": "flat"}',
    '{"time": "2026-01-01T00:00:00Z", "user": {"a": [1]}, "n": 9007199254740993.0, "o": "\\u0000"}',
    "[1, 2]",
)
W3C = (
    "#Fields: date time user n f b at o.x\n2026-01-01 00:00:00 a 5 1.5 true 2026-01-01T00:00:00Z -",
    "#Fields: time date n user\n00:00:00 2026-01-01 x -",
    "#Fields: date time user\n2026-01-01 00:00:00 a b",
)
REGEX = (
    "2026-01-01T00:00Z a 5 1.5 true 1767225600 x",
    "2026-01-01T00:00Z - - - - - -",
    "2026-01-01T00:00Z b nine .. no then ",
)
OTHERS = ("", "nothing", '"', '"""""" ""', "[]", "{}", "\x00", "#Fields: \n", None)
COLUMNS = {"user": "string", "n": "int", "f": "float", "b": "bool", "at": "timestamp", "o.x": "string"}
_GROUPS = r"(?P<time>\S+) (?P<user>\S+) (?P<n>\S+) (?P<f>\S+) (?P<b>\S+) (?P<at>\S+) (?P<o>\S*)"
_LOOKS_AHEAD = _GROUPS.replace("(?P<user>", "(?=.)(?P<user>")  # so that Python matches, line by line
FORMATS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "combined": ({"format": "combined"}, ACCESS),
    "common": ({"format": "common"}, ACCESS),
    "syslog": ({"format": "syslog"}, SYSLOG),
    "json": ({"format": "json", "columns": COLUMNS, "timezone": "Europe/Berlin"}, JSON),
    "w3c": ({"format": "w3c", "columns": COLUMNS}, W3C),
    "regex": ({"format": {"regex": _GROUPS}, "columns": {k: v for k, v in COLUMNS.items() if k != "o.x"}}, REGEX),
    "regex in Python": ({"format": {"regex": _LOOKS_AHEAD}, "columns": {"n": "int"}}, REGEX),
}
TIME = datetime(2026, 1, 1, tzinfo=UTC)


def parser(kind: str) -> FormatParser:
    return compile_format(LogSource.model_validate({"kind": "log", "path": "x", **FORMATS[kind][0]}))


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=40)
@given(data=st.data())
def test_some_columns_are_what_they_are_among_all(kind: str, data: st.DataObject) -> None:
    used, own = parser(kind), FORMATS[kind][1]
    names = used.schema.names
    chosen = {"time", *data.draw(st.sets(st.sampled_from(names)))}
    texts = st.one_of(
        st.sampled_from(own), st.sampled_from(OTHERS), st.sampled_from([o for _, f in FORMATS.values() for o in f])
    )
    lines = pa.array(data.draw(st.lists(texts, max_size=8)), pa.string())
    times = pa.array([TIME] * len(lines), TIMESTAMP)
    some = used.parse(lines, times, chosen)
    assert some.column_names == [name for name in names if name in chosen]
    assert some.equals(used.parse(lines, times).select(some.column_names))


@pytest.mark.parametrize("kind", FORMATS)
def test_each_column_alone_is_what_it_is_among_all(kind: str) -> None:
    used = parser(kind)
    lines = pa.array([*FORMATS[kind][1], *OTHERS], pa.string())
    times = pa.array([TIME] * len(lines), TIMESTAMP)
    whole = used.parse(lines, times)
    assert all(used.parse(lines, times, {name}).equals(whole.select([name])) for name in whole.column_names)
    assert used.parse(lines[:0], times[:0], {"time"}).equals(whole.select(["time"]).slice(0, 0))


def test_whether_a_line_is_malformed_does_not_depend_on_the_columns_that_are_read() -> None:
    lines = pa.array(['{"time": "2026-01-01T00:00:00Z", "n": "x", "user": "a"}'])
    assert parser("json").times(lines, TIME).null_count == 1
