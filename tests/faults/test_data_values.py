"""Values at the edges of their types, on every database: scored as XGBoost scores them, or refused with a reason."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from penstock.models.registry import Registry
from tests.conftest import DIALECTS
from tests.faults.conftest import Tell
from tests.faults.one_table import GOOD, OneTable
from tests.histories import predict

soak = pytest.mark.soak

AMOUNTS = (math.nan, math.inf, -math.inf, 1e39, -1e39, 3.4028236e38, -0.0, 5e-324, 1e-45, 2.0**24 + 1, 1e38, None)
ITEMS = (2**24 + 1, 2**53 + 1, 2**54 + 2**30 + 1, 2**63 - 1, -(2**63), 0, None)
KEYS = (2**63 - 1, -(2**63), 0, 2**53 + 1, 2**53)
TEXTS = (
    "",
    None,
    " DE",
    "true",
    "NULL",
    "e\u0301",
    "\u00e9",
    "\u05e9\u05dc\u05d5\u05dd \u202e",
    "\U0001f469\u200d\U0001f680",
    "a\u2028b\u2029c\u0085d\re\nf\tg",
    "'; drop table payments; --",
    '"\\\x01\x7f',
    "\ufeff\ufffd",
    *(chr(plane << 16 | 0xFFFD) for plane in range(17)),
    "\U0010ffff",
    "x" * 2**20,
)
Tables = Callable[..., OneTable]


@pytest.fixture
def tables(empty_database: Callable[..., str], registry: Registry) -> Tables:
    return lambda shop, warehouse=None: OneTable(empty_database, registry, shop, warehouse or shop)


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same, NULL and NaN being one: SQLite has no NaN."""
    missing = [value is None or value != value for value in (one, other)]
    return all(missing) or (not any(missing) and one == other)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_numbers_at_the_edges_are_scored_as_xgboost_does_or_refused(tables: Tables, dialect: str, tell: Tell) -> None:
    table = tables(dialect)
    values = [{"amount": v} for v in AMOUNTS] + [{"items": v} for v in ITEMS] + [{"first": None}, {"country": None}]
    rows = {number: GOOD | value for number, value in enumerate(values)}
    table.create("id bigint")
    table.insert(*({"id": number, **row} for number, row in rows.items()))

    outcome = table.score(keep=["amount", "items"])

    outcome.check_accounted(len(rows))
    infinite = {f'{{"id": {n}}}' for n, row in rows.items() if abs(row["amount"] or 0) > 3.4028235e38}
    assert outcome.refused == dict.fromkeys(infinite, ("`amount`: not finite",))
    for number, row in rows.items():
        if number in outcome.live:
            live = outcome.live[number]
            [expected] = predict(table.registry, [tuple(row.values())])  # by itself: no other row changes its score
            assert live["score"] == expected, row
            assert is_same(live["amount"], row["amount"]), row
            assert is_same(live["items"], row["items"]), row
    tell("numbers at the edges of their types", dialect, "scored as XGBoost does, or `not finite`")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_text_of_every_plane_of_unicode_comes_through_unchanged(tables: Tables, dialect: str, tell: Tell) -> None:
    table = tables(dialect)
    table.create("id bigint, note text")
    table.insert(*({"id": number, "note": text} for number, text in enumerate(TEXTS)))

    outcome = table.score(keep=["note"])

    outcome.check_accounted(len(TEXTS))
    assert [outcome.live[number]["note"] for number in range(len(TEXTS))] == list(TEXTS)
    tell("text: every plane, RTL, separators, 1 MB, empty, NULL", dialect, "as it is; empty stays empty")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_text_that_the_model_has_not_seen_is_refused_and_kept_whole(tables: Tables, dialect: str, tell: Tell) -> None:
    table = tables(dialect)
    table.create("id bigint")
    table.insert(*({"id": number, "country": text} for number, text in enumerate(TEXTS)))

    outcome = table.score()

    outcome.check_accounted(len(TEXTS))
    assert list(outcome.live) == [TEXTS.index(None)]
    for number, text in enumerate(TEXTS):
        if text is not None:
            [reason] = outcome.refused[f'{{"id": {number}}}']
            assert reason.startswith("`country`: unseen category '")
            assert len(reason) < 150
            assert json.loads(outcome.kept[f'{{"id": {number}}}'])["country"] == text
    tell("the same as a category", dialect, "quarantined, kept whole")


@pytest.mark.parametrize(
    ("shop", "warehouse"),
    [("sqlite", "postgresql"), pytest.param("duckdb", "postgresql", marks=soak), pytest.param("sqlite", "sqlite")],
)
def test_text_with_a_nul_refuses_its_row_and_no_other(tables: Tables, shop: str, warehouse: str, tell: Tell) -> None:
    table = tables(shop, warehouse)
    table.create("id text, note text")
    table.insert({"id": "a", "note": "x\0y"}, {"id": "b\0", "note": "x"}, {"id": "c", "note": "z"}, {"id": "d"})

    outcome = table.score(keep=["note"])

    outcome.check_accounted(4)
    assert sorted(outcome.live) == ["c", "d"]
    nul = "text with a NUL, which not every database can hold"
    assert outcome.refused == {'{"id": "a"}': (f"`note`: {nul}",), '{"id": "b\\u0000"}': (f"`id`: {nul}",)}
    assert json.loads(outcome.kept['{"id": "a"}'])["note"] == "x\0y"
    tell("text with a NUL", f"{shop}, into {warehouse}", "quarantined")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_whole_numbers_at_the_edges_are_keys_like_any_other(tables: Tables, dialect: str, tell: Tell) -> None:
    table = tables(dialect)
    table.create("id bigint")
    table.insert(*({"id": key} for key in (*KEYS, None)))

    outcome = table.score()

    outcome.check_accounted(len(KEYS) + 1)
    assert sorted(outcome.live) == sorted(KEYS)
    assert outcome.refused == {'{"id": null}': ("the key is NULL",)}
    tell("keys at the edges of 64 bits; a NULL key", dialect, "each once; NULL quarantined")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_columns_of_nothing_but_null_are_missing_values(tables: Tables, dialect: str, tell: Tell) -> None:
    table = tables(dialect)
    table.create("id bigint, note text")
    nothing = dict.fromkeys(GOOD)
    table.insert(*({"id": key, **nothing} for key in range(5)))

    outcome = table.score(keep=["amount", "country", "first", "note"])

    outcome.check_accounted(5)
    [expected] = predict(table.registry, [(math.nan, math.nan, None, math.nan)])
    assert {row["score"] for row in outcome.live.values()} == {expected}
    tell("columns with only NULL", dialect, "scored as missing")


NO_TIME = "`until`: a time outside the years 1 to 9999"


@pytest.mark.parametrize(
    ("dialect", "kind", "values"),
    [
        ("postgresql", "timestamptz", ["infinity", "-infinity", "0044-03-15 BC", "20000-01-01", "294276-01-01"]),
        ("postgresql", "timestamp", ["infinity", "-infinity", "4713-01-01 BC"]),
        ("postgresql", "date", ["infinity", "-infinity", "0044-03-15 BC", "5874897-12-31"]),
        ("duckdb", "timestamptz", ["infinity", "-infinity", "0044-03-15 (BC)", "20000-01-01"]),
        ("duckdb", "date", ["infinity", "-infinity", "20000-01-01"]),
    ],
)
def test_a_time_that_no_calendar_has_refuses_its_row_and_no_other(
    tables: Tables, dialect: str, kind: str, values: list[str], tell: Tell
) -> None:
    table = tables(dialect)
    table.create(f"id bigint, until {kind}, unused {kind}")
    table.insert(*({"id": number, "until": value} for number, value in enumerate(values)))
    table.insert({"id": 100, "until": "0001-01-02", "unused": "infinity"}, {"id": 101, "until": "9999-12-30"})

    outcome = table.score(keep=["until"])

    outcome.check_accounted(len(values) + 2)
    assert sorted(outcome.live) == [100, 101]
    assert set(outcome.refused.values()) == {(NO_TIME,)}
    assert json.loads(outcome.kept['{"id": 0}'])["until"] == "infinity"
    assert json.loads(outcome.kept['{"id": 1}'])["until"] == "-infinity"
    tell(f"{kind}: infinity, BC, beyond 9999", dialect, "quarantined; where nothing uses it, scored")


@pytest.mark.parametrize("dialect", ["postgresql", "duckdb"])
def test_an_infinite_time_of_another_source_is_later_than_any(tables: Tables, dialect: str, tell: Tell) -> None:
    table = tables(dialect)
    table.create("id bigint")
    table.insert({"id": 1}, {"id": 2, "country": "FR"}, {"id": 3, "country": "IT"})
    table.say("create table rates (country text, amount double precision, since date, until timestamptz)")
    for country, since, until in (("DE", "-infinity", "infinity"), ("FR", "2020-01-01", "-infinity")):
        table.say(f"insert into rates values ('{country}', 30, '{since}', '{until}')")
    more = {"rates": {"kind": "sql", "connection": "shop", "table": "rates"}}
    query = """
        select p.id, coalesce(r.amount, p.amount) as amount, p.items, p.country, p.first
        from payments p left join rates r
          on r.country = p.country and p.created_at >= r.since and p.created_at < r.until
    """

    outcome = table.score(keep=["amount"], features=query, more_sources=more)

    outcome.check_accounted(3)
    assert {key: row["amount"] for key, row in outcome.live.items()} == {1: 30.0, 2: 12.5, 3: 12.5}
    tell("another source's time is infinite", dialect, "later, or earlier, than any")


@pytest.mark.parametrize("by", ["table", "query"])
def test_every_type_of_postgres_is_read_as_what_it_is(tables: Tables, by: str, tell: Tell) -> None:
    table = tables("postgresql", "sqlite")
    columns = {
        "mood": ("mood", "'sad'", "sad"),
        "one": ("uuid", "'6c84fb90-12c4-11e1-840d-7b25c5ee775a'", "6c84fb90-12c4-11e1-840d-7b25c5ee775a"),
        "plain": ("json", """'{"a": [1, null]}'""", '{"a": [1, null]}'),
        "packed": ("jsonb", "'[1,2]'", "[1, 2]"),
        "bytes": ("bytea", r"'\xdeadbeef'", r"\xdeadbeef"),
        "text_bytes": ("bytea", "'abc'", r"\x616263"),
        "flat": ("int[]", "'{1,null}'", "{1,NULL}"),
        "deep": ("int[]", "'{{1,2},{3,4}}'", "{{1,2},{3,4}}"),
        "moods": ("mood[]", "'{sad}'", "{sad}"),
        "money": ("money", "12.34", "12.34"),
        "address": ("inet", "'10.0.0.1/8'", "10.0.0.1/8"),
        "card": ("macaddr", "'08:00:2b:01:02:03'", "08:00:2b:01:02:03"),
        "span": ("int4range", "'[1,5)'", "[1,5)"),
        "words": ("tsvector", "'a b'", "'a' 'b'"),
        "long": ("interval", "'1 mon 2 days'", "1 mon 2 days"),
        "clock": ("time", "'24:00'", "24:00:00"),
        "zoned": ("timetz", "'12:00+02'", "12:00:00+02"),
        "spot": ("point", "'(1,2)'", "(1,2)"),
        "flags": ("bit(3)", "B'101'", "101"),
        "number": ("oid", "4294967295", 4294967295),
        "pair": ("pair_of", "row(1, 'a')", "(1,a)"),
        "domain": ("positive", "1.25", "1.25"),
        "exact": ("numeric(12,2)", "1.25", "1.25"),
        "none": ("numeric", "'NaN'", None),
        "padded": ("char(4)", "'ab'", "ab  "),
        "short": ("real", "0.5", 0.5),
    }
    table.say(
        "create type mood as enum ('sad', 'ok')",
        "create type pair_of as (a int, b text)",
        "create domain positive as numeric check (value > 0)",
    )
    table.create(", ".join(["id bigint", *(f'"{name}" {kind}' for name, (kind, *_) in columns.items())]))
    table.insert({"id": 1}, {"id": 2})
    values = ", ".join(f'"{name}" = {literal}' for name, (_, literal, _) in columns.items())
    table.say(f"update payments set {values} where id = 1")
    source = {"table": "payments"} if by == "table" else {"query": "select * from payments"}

    outcome = table.score(keep=list(columns), source=source)

    outcome.check_accounted(2)
    assert {name: outcome.live[1][name] for name in columns} == {name: value[2] for name, value in columns.items()}
    assert {outcome.live[2][name] for name in columns} == {None}
    tell(f"{len(columns)} types of Postgres, by {by}", "postgresql", "as they are, or as text as Postgres writes it")


@pytest.mark.parametrize("by", ["table", pytest.param("query", marks=soak)])
@pytest.mark.parametrize(
    ("kind", "keys", "refused"),
    [
        ("numeric", ["1.5", "2", "-3.25", "1e30", "0", "NaN"], 1),
        ("date", ["2026-01-01", "2026-01-02", "2025-01-01", "infinity"], 1),
        ("timestamptz", ["2026-01-01", "2026-01-02", "2025-01-01"], 0),
        ("mood", ["sad", "ok", "x", "y"], 0),
        ("float8", ["1.5", "NaN", "-Infinity", "0.1", "2"], 1),
        pytest.param("inet", ["10.0.0.1", "10.0.0.2", "9.0.0.1", "10.0.0.10"], 0, marks=soak),
        pytest.param("bytea", ["\\x00", "\\xff", "\\x61"], 0, marks=soak),
        pytest.param("time", ["10:00", "11:00", "09:00"], 0, marks=soak),
        pytest.param("interval", ["1 day", "1 hour", "25 hours"], 0, marks=soak),
        pytest.param("int[]", ["{1}", "{2}", "{10}"], 0, marks=soak),
        pytest.param("jsonb", ["1", "2", '"a"'], 0, marks=soak),
        pytest.param("boolean", ["true", "false"], 0, marks=soak),
    ],
)
def test_a_key_of_any_type_of_postgres_falls_into_one_partition(
    tables: Tables, kind: str, keys: list[str], refused: int, by: str, tell: Tell
) -> None:
    table = tables("postgresql", "sqlite")
    table.say("create type mood as enum ('sad', 'ok', 'x', 'y')")
    table.create(f"id {kind}")
    for key in keys:
        table.insert({})
        table.say(f"update payments set id = '{key}' where id is null")
    source = {"table": "payments"} if by == "table" else {"query": "select * from payments"}

    outcome = table.score(source=source)

    outcome.check_accounted(len(keys))
    assert len(outcome.refused) == refused
    tell(f"key: {kind}, by {by}", "postgresql", f"{len(keys)} of {len(keys)} rows accounted for")


@pytest.mark.parametrize(
    ("kind", "values", "reasons"),
    [
        ("items bigint", ["1", "2.5", "3"], {2: "`items`: not a whole number"}),
        ("first boolean", ["1", "0", "2"], {3: "`first`: not a boolean"}),
        ("amount double precision", ["1e999", "x'ff'", "'abc'"], {2: "string where", 3: "string where"}),
    ],
)
def test_sqlite_values_of_another_type_than_declared_are_refused_not_bent(
    tables: Tables, kind: str, values: list[str], reasons: dict[int, str], tell: Tell
) -> None:
    table = tables("sqlite")
    table.create("id bigint")
    table.insert(*({"id": number} for number in range(1, len(values) + 1)))
    column = kind.split(maxsplit=1)[0]
    for number, value in enumerate(values, 1):
        table.say(f'update payments set "{column}" = {value} where id = {number}')

    outcome = table.score(partition_rows=10)

    outcome.check_accounted(len(values))
    for number, reason in reasons.items():
        assert reason in outcome.refused[f'{{"id": {number}}}'][0]
    assert not [key for key in outcome.live if key in reasons]
    tell(f"values that are no {kind.split()[1]}", "sqlite", "quarantined")


def test_sqlite_text_that_is_no_utf8_fails_by_the_columns_name_and_tells_no_value(tables: Tables, tell: Tell) -> None:
    table = tables("sqlite")
    table.create("id bigint, note text")
    table.insert({"id": 1}, {"id": 2})
    table.say("update payments set note = cast(x'ff736563726574' as text) where id = 1")

    outcome = table.score(keep=["note"])

    assert outcome.record.state == "failed"
    assert "column 'note'" in outcome.said
    assert "secret" not in outcome.said
    tell("text that is no UTF-8", "sqlite", "fails and names the column")
