"""Log lines are taken apart in bulk; a line that is not of its format has no time, and nothing is guessed."""

import json
import pickle
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from penstock.database.types import TIMESTAMP
from penstock.errors import SpecError
from penstock.sources.logs.formats import compile_format
from penstock.spec.sources import LogSource

SEEN_AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
COMBINED = '1.2.3.4 - eve [17/May/2015:10:05:03 +0200] "GET /a?b=1 HTTP/1.1" 200 203 "http://x/" "Mozilla/5.0 (X)"'


def parser(format_: Any, **columns: str) -> Any:
    return compile_format(LogSource.model_validate({"kind": "log", "path": "x", "format": format_, "columns": columns}))


def times(format_: Any, *lines: str, **columns: str) -> list[str | None]:
    found = parser(format_, **columns).times(pa.array(lines, pa.string()), SEEN_AT).to_pylist()
    return [time and time.replace(tzinfo=None).isoformat() for time in found]


def rows(format_: Any, *lines: str, **columns: str) -> list[dict[str, Any]]:
    used = parser(format_, **columns)
    array = pa.array(lines, pa.string())
    found = used.times(array, SEEN_AT)
    assert found.null_count == 0
    table = used.parse(pa.chunked_array([array]), pa.chunked_array([found]))
    assert table.schema.equals(used.schema)
    assert (table.schema.field("time").type, table.column_names[-1]) == (TIMESTAMP, "line")
    table.validate(full=True)
    return [{k: v for k, v in row.items() if k not in ("time", "line")} for row in table.to_pylist()]


# --- web servers -----------------------------------------------------------------------------------------------------


def test_combined_lines_become_columns() -> None:
    assert times("combined", COMBINED) == ["2015-05-17T08:05:03"]
    assert rows("combined", COMBINED) == [
        {
            "host": "1.2.3.4",
            "identity": None,
            "user": "eve",
            "method": "GET",
            "path": "/a?b=1",
            "protocol": "HTTP/1.1",
            "status": 200,
            "size": 203,
            "referer": "http://x/",
            "agent": "Mozilla/5.0 (X)",
            "extra": None,
        }
    ]


def test_common_lines_end_at_the_size() -> None:
    line = '::1 - john doe [01/Jan/2024:00:00:00 -0030] "HEAD / HTTP/2.0" 304 -'
    (row,) = rows("common", line)
    assert (row["host"], row["user"], row["status"], row["size"]) == ("::1", "john doe", 304, None)
    assert times("common", line, COMBINED) == ["2024-01-01T00:30:00", None]


def test_a_quote_inside_a_field_does_not_disturb_the_lines_around_it() -> None:
    quoted = COMBINED.replace("Mozilla/5.0", 'a \\"b\\" \\\\').replace("/a?b=1", '/\\"')
    plain, odd, last = rows("combined", COMBINED, quoted, COMBINED)
    assert plain == last
    assert (odd["agent"], odd["path"], odd["size"]) == ('a \\"b\\" \\\\ (X)', '/\\"', 203)


@pytest.mark.parametrize(
    ("request_", "parts"),
    [
        ("-", (None, "-", None)),
        ("\\x16\\x03\\x01", (None, "\\x16\\x03\\x01", None)),
        ("GET /old", (None, "GET /old", None)),
        ("GET /with blank HTTP/1.0", ("GET", "/with blank", "HTTP/1.0")),
        ("M-SEARCH * HTTP/1.1", ("M-SEARCH", "*", "HTTP/1.1")),
        ("", (None, "", None)),
    ],
)
def test_a_request_that_is_none_stays_whole(request_: str, parts: tuple[str | None, ...]) -> None:
    _, row = rows("combined", COMBINED, COMBINED.replace("GET /a?b=1 HTTP/1.1", request_))
    assert (row["method"], row["path"], row["protocol"]) == parts


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hello",
        COMBINED[:-1],
        COMBINED + "more",
        COMBINED + ' "open',
        COMBINED + "  two blanks",
        COMBINED.replace("200", "2x0"),
        COMBINED.replace("203", "9" * 19),
        COMBINED.replace("17/May", "31/Jun"),
        COMBINED.replace("May", "Mai"),
        COMBINED.replace("+0200", ""),
        COMBINED.replace("10:05", "25:05"),
        "x" * 256 + "… (2000000 bytes)",
    ],
)
def test_a_line_that_is_not_combined_has_no_time(line: str) -> None:
    assert times("combined", line, COMBINED) == [None, "2015-05-17T08:05:03"]


# --- JSON ------------------------------------------------------------------------------------------------------------


def test_json_keys_become_columns_of_their_types() -> None:
    line = json.dumps(
        {"ts": "2024-01-01T00:00:00Z", "n": 9223372036854775807, "x": 1, "ok": True, "at": 1704067200500, "a/b~c": "ü"}
    )
    declared = {"n": "int", "x": "float", "ok": "bool", "at": "timestamp", "a/b~c": "string", "none": "string"}
    assert rows("json", line, '{"ts": "2024-01-01T00:00:00Z", "n": null}', **declared) == [
        {
            "n": 9223372036854775807,
            "x": 1.0,
            "ok": True,
            "at": datetime(2024, 1, 1, microsecond=500_000, tzinfo=UTC),
            "a/b~c": "ü",
            "none": None,
        },
        dict.fromkeys(declared),
    ]


@pytest.mark.parametrize(
    ("line", "time"),
    [
        ('{"time": "2024-01-01T10:00:00+05:30"}', "2024-01-01T04:30:00"),
        ('{"timestamp": "2024-01-01 10:00:00.123456789"}', "2024-01-01T10:00:00.123456"),
        ('{"@timestamp": "2024-01-01T10:00Z"}', "2024-01-01T10:00:00"),
        ('{"ts": 1704067200}', "2024-01-01T00:00:00"),
        ('{"ts": 1704067200.25}', "2024-01-01T00:00:00.250000"),
        ('{"ts": 1704067200250}', "2024-01-01T00:00:00.250000"),
        ('{"ts": 1, "time": "2024-01-01T00:00:00Z"}', "2024-01-01T00:00:00"),
        ('{"time": null, "ts": 0}', "1970-01-01T00:00:00"),
        ('{"time": "soon", "ts": 0}', None),
        ('{"time": "2024-02-30T00:00:00Z"}', None),
        ('{"time": "infinity"}', None),
        ('{"time": true}', None),
        ("{}", None),
        ("[1]", None),
        ("", None),
        ('{"ts": 0', None),
        ('{"ts": 0} {}', None),
        ('{"ts": 1e300}', None),
    ],
)
def test_the_time_of_a_json_line_is_its_first_time_key(line: str, time: str | None) -> None:
    assert times("json", line) == [time]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("int", ["1", "-1", "5.0", "null"], ["1.5", '"1"', "true", "9223372036854775808", "1e30", "[1]"]),
        ("float", ["1", "1.5", "-1e3"], ['"1"', "1e999", "NaN", "{}"]),
        ("string", ['"x"', '""', "[]", '{"a": 1}'], ["1", "true"]),
        ("bool", ["true", "false"], ["1", '"true"']),
        ("timestamp", ['"2024-01-01T00:00:00Z"', "0"], ['"x"', "true", '""']),
    ],
)
def test_a_json_value_that_is_not_of_its_type_makes_the_line_malformed(
    kind: str, good: list[str], bad: list[str]
) -> None:
    found = times("json", *[f'{{"ts": 0, "v": {value}}}' for value in good + bad], v=kind)
    assert [time is not None for time in found] == [True] * len(good) + [False] * len(bad)


def test_nul_in_a_json_string_is_escaped() -> None:
    assert rows("json", '{"ts": 0, "v": "a\\u0000b"}', v="string") == [{"v": "a\\x00b"}]


# --- syslog ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ("<34>Oct 11 22:14:15 mymachine su: 'su root' failed", ("mymachine", "su", None, 34, "'su root' failed")),
        ("Jun 14 15:16:01 combo sshd(pam_unix)[19939]: x: y", ("combo", "sshd(pam_unix)", 19939, None, "x: y")),
        ("Oct  1 00:00:00 h -- MARK --", ("h", None, None, None, "-- MARK --")),
        ("Oct  1 00:00:00 h app[abc]:", ("h", "app", None, None, None)),
        ("2024-05-01T10:00:00.123456+02:00 h cron[7]: go", ("h", "cron", 7, None, "go")),
        (
            '<165>1 2003-10-11T22:14:15.003Z host evntslog - ID47 [e@1 a="x \\" ]"][f@2] \ufeffAn event',
            ("host", "evntslog", None, 165, "An event"),
        ),
        ("<0>1 2003-10-11T22:14:15Z - app 12 - -", (None, "app", 12, 0, None)),
    ],
)
def test_syslog_lines_become_columns(line: str, row: tuple[Any, ...]) -> None:
    assert [tuple(found.values()) for found in rows("syslog", line)] == [row]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("Jan  2 11:59:59", "2026-01-02T11:59:59"),
        ("Jan  2 12:00:00", "2026-01-02T12:00:00"),
        ("Jan  2 12:00:01", "2025-01-02T12:00:01"),
        ("Dec 31 23:59:59", "2025-12-31T23:59:59"),
        ("Feb 29 00:00:00", "2024-02-29T00:00:00"),
        ("Feb 30 00:00:00", None),
        ("Jam  1 00:00:00", None),
    ],
)
def test_a_syslog_time_without_year_is_the_latest_that_is_not_in_the_future(text: str, time: str | None) -> None:
    assert times("syslog", f"{text} h app: m") == [time]


@pytest.mark.parametrize(
    "line",
    ["", "hello", "<192>Oct 11 22:14:15 h m", "<34>1 - h app - - -", "<34>1 2003-10-11T22:14:15Z h app - - [open"],
)
def test_a_line_that_is_not_syslog_has_no_time(line: str) -> None:
    assert times("syslog", line) == [None]


# --- web servers with more fields, nested JSON, W3C ------------------------------------------------------------------


@pytest.mark.parametrize("extra", ["0.123", '"10.1.1.1" 0.5 -', '"a \\" b"'])
def test_fields_after_the_combined_format_are_together(extra: str) -> None:
    read = rows("combined", f"{COMBINED} {extra}", COMBINED)
    assert [row["extra"] for row in read] == [extra, None]
    assert {row["agent"] for row in read} == {"Mozilla/5.0 (X)"}


def test_a_dot_in_a_json_key_leads_into_an_object() -> None:
    lines = (
        '{"ts": 0, "process": {"pid": 7, "args": ["a", "b"]}, "tags": ["x", "y"]}',
        '{"ts": 0, "process.pid": 8, "process": {"pid": 9}}',
        '{"ts": 0, "process": 1}',
    )
    columns = {"process.pid": "int", "process.args": "string", "tags.1": "string"}
    assert [list(row.values()) for row in rows("json", *lines, **columns)] == [
        [7, '["a","b"]', "y"],
        [8, None, None],
        [None, None, None],
    ]


def test_objects_and_arrays_are_their_json_text() -> None:
    [row] = rows("json", '{"ts": 0, "user": {"id": 1, "name": "Zoë"}}', user="string")
    assert json.loads(row["user"]) == {"id": 1, "name": "Zoë"}


def test_the_time_of_a_json_line_is_at_the_key_given() -> None:
    spec = {"key": "log.time_local", "format": "%d/%b/%Y:%H:%M:%S %z"}
    source = LogSource.model_validate({"kind": "log", "path": "x", "format": "json", "time": spec})
    lines = pa.array(
        [
            '{"time": 0, "log": {"time_local": "17/May/2015:10:05:03 +0200"}}',
            '{"time": 0}',
            '{"log": {"time_local": 5}}',
        ]
    )
    found = [t and t.isoformat() for t in compile_format(source).times(lines, SEEN_AT).to_pylist()]
    assert found == ["2015-05-17T08:05:03+00:00", None, None]


IIS = "#Fields: date time cs-method cs(User-Agent) sc-status"


def test_w3c_fields_become_columns() -> None:
    lines = (
        f"{IIS}\n2026-01-01 10:00:00 GET Mozilla/5.0+(X) 200",
        "#Fields: time date sc-status\n10:00:01\t2026-01-01\t-",
        '#Fields: date time cs(User-Agent)\n2026-01-01 10:00:02 "a ""b"" c"',
    )
    columns = {"cs-method": "string", "cs(User-Agent)": "string", "sc-status": "int"}
    assert times("w3c", *lines, **columns) == [f"2026-01-01T10:00:0{second}" for second in range(3)]
    assert [list(row.values()) for row in rows("w3c", *lines, **columns)] == [
        ["GET", "Mozilla/5.0+(X)", 200],
        [None, None, None],
        [None, 'a "b" c', None],
    ]


@pytest.mark.parametrize(
    "line",
    [
        "2026-01-01 10:00:00 GET a 200",  # no fields before it
        f"{IIS}\n2026-01-01 10:00:00 GET a",
        f"{IIS}\n2026-01-01 10:00:00 GET a 200 more",
        f"{IIS}\n2026-01-01 25:00:00 GET a 200",
        f"{IIS}\n2026-01-01 10:00:00 GET a OK",
        "#Fields: time sc-status\n10:00:00 200",  # no date
    ],
)
def test_a_w3c_line_that_does_not_fit_its_fields_has_no_time(line: str) -> None:
    assert times("w3c", line, **{"sc-status": "int"}) == [None]


# --- regular expressions ---------------------------------------------------------------------------------------------

SIMPLE = r"(?P<time>\S+) (?P<level>\w+)(?: (?P<ms>\S+)ms)?"
PYTHON_ONLY = r"(?P<time>\S+) (?!DEBUG)(?P<level>\w+)(?: (?P<ms>\S+)ms)?"


@pytest.mark.parametrize("regex", [SIMPLE, PYTHON_ONLY])
def test_groups_become_columns_in_the_bulk_engine_and_in_python(regex: str) -> None:
    lines = ("2024-01-01T00:00:00Z INFO 12ms", "2024-01-01T00:00:00Z WARN", "2024-01-01T00:00:00Z WARN -ms")
    found = rows({"regex": regex}, *lines, ms="int")
    assert found == [{"level": "INFO", "ms": 12}, {"level": "WARN", "ms": None}, {"level": "WARN", "ms": None}]


@pytest.mark.parametrize("regex", [SIMPLE, PYTHON_ONLY])
def test_a_line_must_match_as_a_whole_and_its_groups_be_of_their_types(regex: str) -> None:
    lines = ("2024-01-01T00:00:00Z INFO 12ms!", "x INFO", "2024-01-01T00:00:00Z INFO 1.5ms", "nothing", "")
    assert times({"regex": regex}, *lines, ms="int") == [None] * 5


@pytest.mark.parametrize(
    ("time_format", "text", "time"),
    [
        ("%Y-%m-%d %H:%M:%S,%f", "2024-01-01 10:00:00,123", "2024-01-01T10:00:00.123000"),
        ("%d/%b/%Y %H:%M:%S %z", "01/Jan/2024 10:00:00 +0230", "2024-01-01T07:30:00"),
        ("%Y-%m-%dT%H:%M:%S%z", "2024-01-01T10:00:00Z", "2024-01-01T10:00:00"),
        ("%c", "Mon Jan  1 10:00:00 2024", "2024-01-01T10:00:00"),
        ("%Y-%m-%d", "2024-02-30", None),
    ],
)
def test_times_are_read_in_the_format_given(time_format: str, text: str, time: str | None) -> None:
    assert times({"regex": r"(?P<time>[^|]+)\|.*", "time_format": time_format}, f"{text}|x") == [time]


def test_a_group_of_another_type_takes_only_its_values() -> None:
    regex = r"(?P<time>\S+) (?P<i>\S*) (?P<f>\S*) (?P<b>\S*) (?P<t>\S*)"
    kinds = {"i": "int", "f": "float", "b": "bool", "t": "timestamp"}
    lines = ["2024-01-01T00:00:00Z +7 -.5e1 TRUE 0", "2024-01-01T00:00:00Z  - 0 -"]
    assert rows({"regex": regex}, *lines, **kinds) == [
        {"i": 7, "f": -5.0, "b": True, "t": datetime(1970, 1, 1, tzinfo=UTC)},
        {"i": None, "f": None, "b": False, "t": None},
    ]
    wrong = ["x 1 true 0", "1 nan true 0", "1 1 yes 0", "1 1 true x", "9223372036854775808 1 1 0", "0x1 1 1 0"]
    assert times({"regex": regex}, *[f"2024-01-01T00:00:00Z {line}" for line in wrong], **kinds) == [None] * 6


@pytest.mark.parametrize(
    ("format_", "columns", "problem"),
    [
        ("json", {"time": "timestamp"}, "Penstock adds `time` itself"),
        ("combined", {"host": "string"}, "leave `columns` out"),
        ({"regex": SIMPLE}, {"levle": "int"}, "Did you mean `level`"),
        ({"regex": r"(?P<time>\S+) (?P<line>.*)"}, {}, "cannot be named `line`"),
        ({"regex": SIMPLE, "time_format": "%Q"}, {}, "strptime does not know"),
    ],
)
def test_a_format_that_cannot_work_is_refused(format_: Any, columns: dict[str, str], problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        parser(format_, **columns)


# --- all -------------------------------------------------------------------------------------------------------------

FORMATS: list[tuple[Any, dict[str, str]]] = [
    ("combined", {}),
    ("common", {}),
    ("syslog", {}),
    ("json", {"a": "int", "b": "string", "c.d": "float"}),
    ("w3c", {"sc-status": "int"}),
    ({"regex": SIMPLE, "time_format": "%Y"}, {"ms": "float"}),
    ({"regex": PYTHON_ONLY}, {}),
]


@pytest.mark.parametrize(("format_", "columns"), FORMATS)
def test_no_lines_give_an_empty_table(format_: Any, columns: dict[str, str]) -> None:
    assert times(format_, **columns) == []
    assert rows(format_, **columns) == []
    used = parser(format_, **columns)
    assert used.parse(pa.chunked_array([], pa.string()), pa.chunked_array([], TIMESTAMP)).schema.equals(used.schema)


@pytest.mark.parametrize(("format_", "columns"), FORMATS)
def test_a_parser_survives_pickling(format_: Any, columns: dict[str, str]) -> None:
    used = parser(format_, **columns)
    assert pickle.loads(pickle.dumps(used)) == used


@given(st.lists(st.text(st.characters(exclude_characters="\n", codec="utf-8")), max_size=5))
@settings(max_examples=20, deadline=None, phases=[Phase.explicit, Phase.generate])
def test_no_text_breaks_a_parser(lines: list[str]) -> None:
    for format_, columns in FORMATS:
        assert len(times(format_, *lines, **columns)) == len(lines)


@given(st.lists(st.sampled_from(['"', "\\", "a", " ", "-", "[", "]", "1"]), max_size=12).map("".join))
@settings(max_examples=200, deadline=None)
def test_a_combined_line_is_taken_apart_alike_with_and_without_quotes_around(agent: str) -> None:
    odd = COMBINED.replace("Mozilla/5.0 (X)", agent)
    if times("combined", odd) != [None]:
        alone, together = rows("combined", odd), rows("combined", COMBINED, odd)
        assert alone[0] == together[1]
        read, extra = alone[0]["agent"], alone[0]["extra"]
        written = "-" if read is None else read
        assert (written if extra is None else f'{written}" {extra[:-1]}') == agent
        assert alone[0]["status"] == 200
