"""Macros that turn text into features: the same value in training and in scoring, on each machine."""

import hashlib
import time
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from penstock.run.decisions import decide_columns
from penstock.run.features import closed_duckdb
from penstock.spec.yaml_file import parse_pipeline


def value(expression: str, text: str | None = None) -> Any:
    rows = pa.table({"t": pa.array([text], pa.string())})
    with closed_duckdb({"notes": rows}) as connection:
        [found] = connection.execute(f"select {expression} from notes").fetchone() or ()
        return found


@pytest.mark.parametrize(
    ("text", "terms", "expected"),
    [
        ("The patient fell.", "['fell']", True),
        ("A FALL; sepsis?", "['Sepsis']", True),
        ("falling", "['fall']", False),
        ("rainfall", "['fall']", False),
        ("acute heart\n failure", "['heart failure']", True),
        ("heart. Failure", "['heart failure']", True),
        ("heart of failure", "['heart failure']", False),
        ("self-harm", "['self harm']", True),
        ("don't", "['don''t']", True),
        ("it's", "['it\"s']", True),
        ("", "['fall']", False),
        ("...", "['fall']", False),
        ("fall", "[]", False),
        (None, "['fall']", None),
        ("fall", "null", None),
        ("caf\u0065\u0301", "['caf\u00e9']", True),
        ("cafe", "['caf\u00e9']", False),
        ("İSTANBUL", "['istanbul']", True),
        ("Straße, STRASSE", "['strasse']", True),
        ("ΟΔΟΣ", "['οδος']", True),
        ("हिन्दी पाठ", "['पाठ']", True),
        ("T4 lesion", "['t4']", True),
        ("100%", "['100']", True),
    ],
)
def test_contains_any_finds_whole_words_whatever_their_case(text: str | None, terms: str, expected: object) -> None:
    assert value(f"contains_any(t, {terms})", text) is expected


def test_term_counts_counts_each_term_and_is_read_by_it() -> None:
    text = "Fall, fall: a fall. Heart failure, heart failure; no rainfall"
    assert value("term_counts(t, ['fall', 'Heart Failure', 'sepsis'])", text) == {
        "fall": 3,
        "Heart Failure": 2,
        "sepsis": 0,
    }
    assert value("term_counts(t, ['fall'])['fall']", text) == 3
    assert value("term_counts(t, [])", text) == {}
    assert value("term_counts(t, ['fall'])['fall']") is None
    assert value("term_counts(t, ['a'])['a']", "a a a a") == 4


@pytest.mark.parametrize("macro", ["contains_any", "term_counts"])
@pytest.mark.parametrize("terms", ["['']", "['fall', null]", "[' .. ']"])
def test_a_term_without_a_word_is_refused(macro: str, terms: str) -> None:
    with pytest.raises(duckdb.Error, match="needs a letter or a digit"):
        value(f"{macro}(t, {terms})", "some text")


@pytest.mark.parametrize("column", ["t", "term", "number", "penstock_words", "contains_any"])
def test_a_column_of_any_name_is_the_text(column: str) -> None:
    with closed_duckdb({"notes": pa.table({column: ["one fall", "none"]})}) as connection:
        query = f"select contains_any({column}, ['fall']), term_counts({column}, ['fall'])['fall'] from notes"
        assert connection.execute(query).fetchall() == [(True, 1), (False, 0)]


def test_hash_bucket_is_the_md5_of_the_text() -> None:
    for text in ("InternalMedicine", "", "é", "12"):
        assert value("hash_bucket(t, 1000)", text) == int(hashlib.md5(text.encode()).hexdigest()[:15], 16) % 1000
    assert value("hash_bucket(12, 1000)") == value("hash_bucket('12', 1000)")
    assert (value("hash_bucket('a', 16)"), value("hash_bucket(null, 16)")) == (10, None)
    assert value("hash_bucket('a', 1)") == 0


@pytest.mark.parametrize(("call", "why"), [("hash_bucket(0.1::double, 8)", "floating"), ("hash_bucket('a', 0)", "one")])
def test_hash_bucket_refuses_what_has_no_fixed_bucket(call: str, why: str) -> None:
    with pytest.raises(duckdb.Error, match=why):
        value(call)


def test_a_source_and_a_query_part_may_have_the_names_of_macros() -> None:
    with closed_duckdb({"term_counts": pa.table({"t": ["a fall"]})}) as connection:
        query = "with hash_bucket as (select t from term_counts) select contains_any(t, ['fall']) from hash_bucket"
        assert connection.execute(query).fetchall() == [(True,)]


def test_words_are_found_once_for_each_text_and_not_for_each_term() -> None:
    rows = pa.table({"t": ["word " * 2_000] * 200})
    with closed_duckdb({"notes": rows}) as connection:
        took = []
        for terms in (["w0"], [f"w{n}" for n in range(40)]):
            began = time.process_time()
            connection.execute("select sum(contains_any(t, ?)::int) from notes", [terms]).fetchall()
            took.append(time.process_time() - began)
    assert took[1] < 15 * took[0]


def test_the_expressions_of_steps_have_the_macros() -> None:
    rows = pa.table({"note": ["a fall", "nothing"], "id": ["a", "b"]})
    spec = """
name: p
sources: {s: {kind: sql, connection: c, table: t, key: [id]}}
model: m@1
decide:
  fell: contains_any(note, ['fall'])
  arm: hash_bucket(id, 16)
destination: {table: t}
"""
    decided = decide_columns(parse_pipeline(spec.encode(), "x"), rows, 10)
    assert decided.to_pylist() == [{"fell": True, "arm": 10}, {"fell": False, "arm": 14}]
