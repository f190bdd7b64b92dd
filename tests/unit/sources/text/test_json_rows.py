"""Records of JSON files: every value as it is written, and broken lines refused alone."""

import io
from typing import Any

import pytest

from penstock.sources.text import json_stream
from penstock.sources.text.dialect import ARRAY, LINES
from penstock.sources.text.json_rows import BOOL, NESTED, NUMBER, STRING, JsonRows
from penstock.sources.text.json_stream import BrokenJson
from penstock.sources.text.records import Record, RefusedRecord


def read(text: str, records: str = LINES) -> tuple[JsonRows, list[Any], list[tuple[int, str, str]]]:
    """Return the rows with their lines, and the refusals."""
    rows = JsonRows(io.StringIO(text, newline=""), records)
    found = list(rows)
    kept = [(r.line, *r.values) for r in found if isinstance(r, Record)]
    return rows, kept, [(r.line, r.text, r.reason) for r in found if isinstance(r, RefusedRecord)]


def test_values_are_as_they_are_written_and_their_kinds_are_known() -> None:
    line = '{"id": 12345678901234567890, "x": 1.50, "e": 1E5, "b": true, "s": "7", "n": null, "o": {"a": [1.0, "ü"]}}\n'
    rows, kept, _ = read(line)
    assert kept == [(1, "12345678901234567890", "1.50", "1E5", "true", "7", None, '{"a": [1.0, "ü"]}')]
    kinds = [{NUMBER}, {NUMBER}, {NUMBER}, {BOOL}, {STRING}, set(), {NESTED}]
    assert rows.kinds == dict(zip(["id", "x", "e", "b", "s", "n", "o"], kinds, strict=True))


def test_a_kind_or_a_key_that_is_seen_late_is_seen() -> None:
    rows, kept, _ = read('{"x": 1}\n' * 20_480 + '{"x": 2.75, "late": true}\n')
    assert kept[-1] == (20_481, "2.75", "true")
    assert rows.columns == ("x", "late")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"x": 1', "no JSON"),
        ("[1]", "no JSON object"),
        ('{"x": 1} {"x": 2}', "no JSON: Extra data"),
        ('{"x": 1, "x": 2}', "the key `x` twice"),
        ('{"x": "\\ud800"}', "half of a character"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_a_broken_line_is_refused_alone(line: str, reason: str) -> None:
    _, kept, refused = read(f'{{"x": 1}}\r\n\n{line}\n{{"x": 2}}\n')
    assert kept == [(1, "1"), (4, "2")]
    assert [(number, why.startswith(reason)) for number, _, why in refused] == [(3, True)]


@pytest.mark.parametrize("chunk", [3, 1 << 20])
def test_an_array_and_the_keys_to_it_are_walked_with_right_lines(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    items = '[{"x": 1},\n {"x": 22,\r\n "y": []}\n, 5, {"x": 3}]'
    expected = [(1, "1"), (2, "22", "[]"), (4, "3", None)]
    assert read(items, ARRAY)[1:] == (expected, [(4, "5", "no JSON object")])
    nested = '{"n": 12, "data": {"of": "x", "items": ' + items + "}}"
    assert read(nested, "data.items")[1:] == (expected, [(4, "5", "no JSON object")])


@pytest.mark.parametrize(
    ("text", "records", "reason"),
    [
        ('[{"x": 1}, {"x":', ARRAY, "line 1: "),
        ('{"x": 1}', ARRAY, "the file is no JSON array"),
        ('{"a": {"b": 1}}', "a.c", "no key `c`"),
        ('{"a": {"b": 1}}', "a.b", "`a.b` is no JSON array"),
        ('[{"x": 1}\n {"x": 2}]', ARRAY, "line 2: `,` is expected"),
    ],
)
def test_a_broken_array_names_its_line(text: str, records: str, reason: str) -> None:
    with pytest.raises(BrokenJson, match=reason):
        read(text, records)
