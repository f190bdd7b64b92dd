"""Keys and kept columns reach the destination with every digit, or are refused by name."""

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from penstock.database.decimals import to_float
from penstock.errors import SettingsError
from penstock.ledger.quarantine import quarantined_rows
from penstock.models.registry import Registry
from penstock.privacy.key_forms import TypedValue
from penstock.privacy.masking import NO_MASKING
from penstock.privacy.row_key import read_row_key
from penstock.sources.logs.json_lines import JsonParser
from penstock.sources.logs.time_format import TimeFormat
from penstock.spec.pipeline import Pipeline
from penstock.upkeep.erasure import ErasureRequest, erase
from penstock.upkeep.quarantine_release import Choice, release_selected, select_rows
from penstock.wording import write_decimal
from tests.conftest import DIALECTS
from tests.faults.conftest import Tell
from tests.faults.one_table import GOOD, OneTable
from tests.shop import START

IDS = (9007199254740993, 9007199254740992, 2**63 - 1, 2**63, 2**64 - 1, 0)
Tables = Callable[..., OneTable]


@pytest.fixture
def tables(empty_database: Callable[..., str], registry: Registry) -> Tables:
    return lambda shop, warehouse=None: OneTable(empty_database, registry, shop, warehouse or shop)


def number(value: Any) -> Decimal:
    """Read a number as any of the warehouses gives it. A float has lost digits already."""
    assert not isinstance(value, float), value
    return Decimal(value)


def file_source(folder: Path, ids: pa.Array, form: str = "parquet", **more: Any) -> dict[str, Any]:
    """Write a file with an id, and what the model needs; return the source that reads it."""
    count = len(ids)
    columns = {name: [value] * count for name, value in GOOD.items()}
    moment = pa.array([START + timedelta(hours=1)] * count, pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"id": ids, "created_at": moment, **columns, **more}), folder / f"rows.{form}")
    return {"payments": {"kind": "files", "path": str(folder / f"rows.{form}"), "format": form, "key": ["id"]}}


def json_source(folder: Path, *rows: str) -> dict[str, Any]:
    """Write JSON lines, each with what the model needs; return the source that reads them."""
    rest = json.dumps({"created_at": (START + timedelta(hours=1)).isoformat(), **GOOD})[1:]
    (folder / "rows.json").write_text("".join(f"{{{row}, {rest}\n" for row in rows))
    return {"payments": {"kind": "files", "path": str(folder / "rows.json"), "format": "json", "key": ["id"]}}


@pytest.mark.parametrize("warehouse", DIALECTS)
def test_unsigned_ids_of_64_bits_are_keys_with_every_digit(
    tables: Tables, warehouse: str, tmp_path: Path, tell: Tell
) -> None:
    table = tables("sqlite", warehouse)

    outcome = table.score(more_sources=file_source(tmp_path, pa.array(IDS, pa.uint64())))

    outcome.check_accounted(len(IDS))
    assert sorted(number(key) for key in outcome.live) == sorted(IDS)
    tell("uint64 keys beyond 2^53 and 2^63", warehouse, "each once, with every digit")


@pytest.mark.parametrize("warehouse", DIALECTS)
@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        ("numeric(20,0)", ["1801439850948199401", "1801439850948199402", "99999999999999999999", "-5", "0"]),
        ("numeric(10,0)", ["101", "102", "-7"]),
        ("numeric", ["1801439850948199401", "1801439850948199401.5", "1e30", "-3.25", "0.1"]),
        ("numeric(38,10)", ["1234567890123456789012345678.0000000001", "1234567890123456789012345678.0000000002", "1"]),
    ],
)
def test_numeric_keys_of_postgres_that_differ_in_the_last_digit_are_two(
    tables: Tables, kind: str, ids: list[str], warehouse: str, tell: Tell
) -> None:
    table = tables("postgresql", warehouse)
    table.create(f"id {kind}")
    table.insert(*({"id": Decimal(key)} for key in ids))

    outcome = table.score()

    outcome.check_accounted(len(ids))
    assert sorted(number(key) for key in outcome.live) == sorted(Decimal(key) for key in ids)
    tell(f"key: {kind}", f"postgresql, into {warehouse}", "each once, with every digit")


@pytest.mark.parametrize("warehouse", DIALECTS)
def test_whole_numbers_of_ten_digits_stay_whole(tables: Tables, warehouse: str, tell: Tell) -> None:
    table = tables("postgresql", warehouse)
    table.create("id numeric(10,0)")
    table.insert({"id": 101})

    outcome = table.score()

    assert [str(key) for key in outcome.live] == ["101"]
    tell("numeric(10,0) 101", f"postgresql, into {warehouse}", "101")


@pytest.mark.parametrize("warehouse", DIALECTS)
@pytest.mark.parametrize("shop", ["postgresql", "duckdb"])
def test_money_is_kept_to_the_cent(tables: Tables, shop: str, warehouse: str, tell: Tell) -> None:
    table, money = tables(shop, warehouse), ["12345678901234567890.12", "-0.01", "1.50", None]
    table.create("id bigint, price decimal(30,2)")
    table.insert(*({"id": key, "price": None if p is None else Decimal(p)} for key, p in enumerate(money)))

    outcome = table.score(keep=["price"])

    outcome.check_accounted(len(money))
    for key, price in enumerate(money):
        kept = outcome.live[key]["price"]
        assert (kept if kept is None else number(kept)) == (price if price is None else Decimal(price))
    tell("decimal(30,2) in keep", f"{shop}, into {warehouse}", "to the cent")


@pytest.mark.parametrize("warehouse", DIALECTS)
def test_wide_integers_of_duckdb_keep_every_digit(tables: Tables, warehouse: str, tell: Tell) -> None:
    table, ids = tables("duckdb", warehouse), [10**37 + 1, 10**37 + 2, -(10**37) - 1]
    table.create("id hugeint, wide uhugeint, small ubigint")
    table.insert(*({"id": key, "wide": abs(key), "small": 2**64 - 1} for key in ids))

    outcome = table.score(keep=["wide", "small"])

    outcome.check_accounted(len(ids))
    assert sorted(number(key) for key in outcome.live) == sorted(ids)
    assert {number(row["wide"]) for row in outcome.live.values()} == {abs(key) for key in ids}
    assert {number(row["small"]) for row in outcome.live.values()} == {2**64 - 1}
    tell("hugeint, uhugeint, ubigint", f"duckdb, into {warehouse}", "with every digit")


@pytest.mark.parametrize("warehouse", DIALECTS)
@pytest.mark.parametrize(
    ("ids", "keys"),
    [
        (["90071992547409931", "90071992547409932"], ["90071992547409931", "90071992547409932"]),
        (["12345678901234567890", "12345678901234567891"], ["12345678901234567890", "12345678901234567891"]),
        (["9007199254740993", "2.5", "9007199254740992"], ["9007199254740993", "2.5", "9007199254740992"]),
        (["123456789012345678901234567890", "1"], ["123456789012345678901234567890", "1"]),
        (["1", '"2"', '"x y"'], ["1", "2", "x y"]),
        (["1", '"2"', "90071992547409931"], ["1", "2", "90071992547409931"]),
    ],
)
def test_ids_of_json_lines_are_keys_as_they_are_written(
    tables: Tables, ids: list[str], keys: list[str], warehouse: str, tmp_path: Path, tell: Tell
) -> None:
    table = tables("sqlite", warehouse)

    outcome = table.score(more_sources=json_source(tmp_path, *(f'"id": {i}' for i in ids)))

    outcome.check_accounted(len(ids))
    assert not any(isinstance(key, float) for key in outcome.live)
    assert {key if isinstance(key, str) else write_decimal(Decimal(key)) for key in outcome.live} == set(keys)
    tell(f"JSON ids {', '.join(ids)}", warehouse, "as they are written")


def test_fractions_of_json_lines_stay_floats(tables: Tables, tmp_path: Path) -> None:
    table = tables("sqlite")

    outcome = table.score(
        keep=["rate"], more_sources=json_source(tmp_path, '"id": 1, "rate": 0.30000000000000004', '"id": 2, "rate": 1')
    )

    assert {key: row["rate"] for key, row in outcome.live.items()} == {1: 0.30000000000000004, 2: 1.0}


def test_a_csv_column_of_unlike_numbers_keeps_its_digits(tables: Tables, tmp_path: Path) -> None:
    table = tables("sqlite", "postgresql")
    when = (START + timedelta(hours=1)).isoformat()
    lines = [f"{key},{when},1.5,2,DE,true" for key in ("9007199254740993", "9007199254740992", "2.5")]
    (tmp_path / "rows.csv").write_text("\n".join(["id,created_at,amount,items,country,first", *lines, ""]))
    source = {"payments": {"kind": "files", "path": str(tmp_path / "rows.csv"), "format": "csv", "key": ["id"]}}

    outcome = table.score(more_sources=source)

    assert sorted(map(str, outcome.live)) == ["2.5", "9007199254740992", "9007199254740993"]


def test_a_decimal_that_the_reader_would_round_is_refused_by_name(tables: Tables, tmp_path: Path) -> None:
    table = tables("sqlite")
    wide = pa.array([Decimal("123456789012345678901234567890123456789012.12")], pa.decimal256(50, 2))

    outcome = table.score(more_sources=file_source(tmp_path, wide))

    assert "column `id`, a key or in `keep`, is a decimal of more than 38 digits" in outcome.said


def test_a_kept_time_with_nanoseconds_is_refused_by_name(tables: Tables, tmp_path: Path) -> None:
    table = tables("sqlite")
    when = pa.array([1_767_258_000_000_000_001], pa.timestamp("ns"))

    outcome = table.score(keep=["at"], more_sources=file_source(tmp_path, pa.array([1]), at=when))

    assert "source `payments`: column `at`, a key or in `keep`, has times with nanoseconds" in outcome.said


@pytest.mark.parametrize("dialect", DIALECTS)
def test_partitions_are_cut_between_keys_that_differ_in_the_last_digit(
    tables: Tables, dialect: str, tell: Tell
) -> None:
    table, first = tables(dialect), 2**53 if dialect == "sqlite" else 2 * 10**18
    ids = [first + step for step in range(9)]
    table.create("id bigint" if dialect == "sqlite" else "id decimal(20,0)")
    table.insert(*({"id": key} for key in ids))

    outcome = table.score()

    outcome.check_accounted(len(ids))
    assert sorted(number(key) for key in outcome.live) == ids
    tell("bounds between neighbours", dialect, "each key in one partition")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_quarantine_has_every_digit(tables: Tables, dialect: str, tell: Tell) -> None:
    table = tables("postgresql", dialect)
    table.create("id numeric(20,0), price numeric(30,2)")
    table.insert(
        {"id": 1801439850948199401, "price": Decimal("12345678901234567890.12"), "country": "XX"},
        {"id": 1801439850948199402},
    )

    outcome = table.score(keep=["price"])

    outcome.check_accounted(2)
    key = '{"id": "1801439850948199401"}'
    assert list(outcome.refused) == [key]
    assert json.loads(outcome.kept[key])["price"] == "12345678901234567890.12"
    tell("numeric in quarantine", f"postgresql, into {dialect}", "with every digit")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_integer_feature_beyond_24_bits_is_noted_once(tables: Tables, dialect: str, tell: Tell) -> None:
    from penstock.ledger.reader import validations_of

    table = tables(dialect)
    table.create("id bigint")
    table.insert(*({"id": key, "items": 2**24 + key} for key in range(5)))

    outcome = table.score()

    found = [v for v in validations_of(table.warehouse, outcome.record.run_id) if "2^24" in v.expectation]
    assert {v.expectation for v in found} == {"`items` beyond 2^24"}
    assert sum(v.unexpected for v in found) == 4
    assert {v.outcome for v in found} == {"noted"}
    tell("an integer feature beyond 2^24", dialect, "noted")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_column_that_was_empty_takes_the_type_that_shows_first(tables: Tables, dialect: str, tell: Tell) -> None:
    """The days' types are declared by the query, as a source's are that has a column without a type."""
    table = tables(dialect)
    table.create("id bigint")
    table.insert({"id": 1})
    seen = []
    for value in ("null", "7", "null", "8"):
        outcome = table.score(
            keep=["late"],
            features=f"select id, amount, items, country, first, {value} as late from payments",
            mode="restate",
        )
        seen.append(outcome.live[1]["late"])

    assert seen == [None, 7, None, 8]
    tell("a column that was empty at first", dialect, "takes the type that shows first")


NEIGHBOURS = tuple(2**53 + step for step in range(4))


def neighbours(tables: Tables, warehouse: str) -> tuple[OneTable, Pipeline]:
    """Score four ids that are two as floats: the first two are refused by a gate."""
    table = tables("postgresql", warehouse)
    table.create("id numeric(20,0), price numeric(30,2)")
    price = Decimal("12345678901234567890.10")
    table.insert(*({"id": key, "price": price, "amount": -5.0 if key < 2**53 + 2 else 5.0} for key in NEIGHBOURS))
    gate = {"type": "expect_column_values_to_be_between", "column": "amount", "min_value": 0, "severity": "warning"}
    changed: dict[str, Any] = {"keep": ["price"], "expectations": {"payments": [gate]}}
    outcome = table.score(**changed)
    outcome.check_accounted(4)
    assert sorted(number(key) for key in outcome.live) == list(NEIGHBOURS[2:])
    return table, table.pipeline(**changed)


def stored_keys(table: OneTable) -> tuple[list[int], list[int]]:
    """Return the ids in the view and those in quarantine."""
    with table.warehouse.reading() as connection:
        live = connection.execute(sa.text("select id from scores")).scalars().all()
    refused = [json.loads(row.key)["id"] for row in quarantined_rows(table.warehouse)]
    return sorted(int(number(key)) for key in live), sorted(int(key) for key in refused)


@pytest.mark.parametrize("warehouse", DIALECTS)
def test_forgetting_a_key_leaves_its_neighbour(tables: Tables, warehouse: str, tell: Tell) -> None:
    table, pipeline = neighbours(tables, warehouse)
    first, second, third, fourth = NEIGHBOURS

    for key in (second, fourth):
        erase(table.warehouse, ErasureRequest(pipeline, read_row_key(str(key), ("id",))), NO_MASKING, b"s" * 16)

    assert stored_keys(table) == ([third], [first])
    asked = ErasureRequest(pipeline, read_row_key(str(10**30), ("id",)))
    assert not any(erase(table.warehouse, asked, NO_MASKING, None).values())
    with pytest.raises(SettingsError, match="not a value of type"):
        erase(table.warehouse, ErasureRequest(pipeline, read_row_key("x", ("id",))), NO_MASKING, None)
    tell("forget one of two neighbours", f"postgresql, into {warehouse}", "the other stays")


@pytest.mark.parametrize("warehouse", DIALECTS)
def test_releasing_a_key_leaves_its_neighbour_and_the_row_is_scored_as_it_was(
    tables: Tables, warehouse: str, tell: Tell
) -> None:
    table, pipeline = neighbours(tables, warehouse)
    second = NEIGHBOURS[1]

    selected = select_rows(table.warehouse, Choice(keys=(read_row_key(str(second), ("id",)),)))
    assert [json.loads(row.key)["id"] for run in selected.runs for row in run.rows] == [str(second)]
    assert release_selected(table.warehouse, selected, "me", "") == 1
    table.score(**{"keep": ["price"], "expectations": pipeline.model_dump(mode="json")["expectations"]})

    assert stored_keys(table)[0] == list(NEIGHBOURS[1:])
    tell("release one of two neighbours", f"postgresql, into {warehouse}", "it is scored, the other stays")


@pytest.mark.parametrize("warehouse", DIALECTS)
def test_a_key_beyond_64_bits_is_none_of_a_column_of_integers(tables: Tables, warehouse: str) -> None:
    table = tables("sqlite", warehouse)
    table.create("id bigint")
    table.insert({"id": -(2**63)})
    table.score()
    counts = [
        erase(table.warehouse, ErasureRequest(table.pipeline(), read_row_key(str(key), ("id",))), NO_MASKING, None)
        for key in (2**63, -(2**63), 10**30)
    ]

    assert [sum(count.values()) for count in counts] == [0, 1, 0]


@pytest.mark.parametrize("warehouse", DIALECTS)
def test_a_key_in_an_old_float_column_is_never_taken_for_its_neighbour(
    tables: Tables, warehouse: str, tell: Tell
) -> None:
    table = tables("sqlite", warehouse)
    table.create("id double precision")
    table.insert({"id": float(2**53)}, {"id": 7.0})
    table.score()
    pipeline = table.pipeline()

    with pytest.raises(SettingsError, match="has `id` as floats, and its row 9007199254740992 may be"):
        erase(table.warehouse, ErasureRequest(pipeline, read_row_key(str(2**53 + 1), ("id",))), NO_MASKING, None)

    counted = erase(table.warehouse, ErasureRequest(pipeline, read_row_key(str(2**53), ("id",))), NO_MASKING, None)
    assert counted["scores__history"] == 1
    tell("forget in a column of floats", warehouse, "refused where a neighbour may be meant")


@pytest.mark.parametrize(
    ("stored", "typed", "same"),
    [
        (2**53 + 1, str(2**53 + 1), True),
        (2**53, str(2**53 + 1), False),
        (float(2**53), str(2**53 + 1), False),
        (101.0, "101", True),
        (0.1, "0.1", True),
        (12, "1_2", False),
        (12, "x", False),
        ("007", "7", False),
        (10**30 + 1, str(10**30 + 1), True),
    ],
)
def test_a_typed_key_is_compared_digit_by_digit(stored: Any, typed: str, same: bool) -> None:
    assert TypedValue(typed).matcher(NO_MASKING)(stored) is same


def test_a_typed_key_of_several_columns_keeps_its_digits() -> None:
    key = read_row_key('{"a": 9007199254740993.0, "b": 123456789012345678901234567890}', ("a", "b"))

    assert dict(key.values) == {"a": "9007199254740993.0", "b": "123456789012345678901234567890"}


@pytest.mark.parametrize("warehouse", DIALECTS)
def test_keys_of_two_columns_and_of_odd_types_are_exact(
    tables: Tables, warehouse: str, tmp_path: Path, tell: Tell
) -> None:
    table = tables("sqlite", warehouse)
    raw = pa.array([b"\xff", b"\\xff", b"abc"], pa.binary())
    source = file_source(tmp_path, pa.array([2**64 - 1, 2**64 - 1, 2**64 - 2], pa.uint64()), raw=raw)
    source["payments"]["key"] = ["id", "raw"]

    outcome = table.score(key="raw", more_sources=source)

    assert outcome.record.rows_scored == 3, outcome.said
    found = {raw: number(row["id"]) for raw, row in outcome.live.items()}
    assert found == {"\\xff": 2**64 - 1, "\\x5c786666": 2**64 - 1, "abc": 2**64 - 2}
    tell("a key of uint64 and bytes", warehouse, "each once")


def test_a_whole_number_with_a_point_in_a_log_is_malformed_if_it_was_rounded() -> None:
    lines = pa.array([f'{{"time": 1767225600, "id": {i}}}' for i in ("9007199254740993.0", "9007199254740993", "5.0")])
    parser = JsonParser({"id": "int"}, None, TimeFormat())
    times = parser.times(lines, START)

    assert times.is_valid().to_pylist() == [False, True, True]
    assert parser.parse(lines, times)["id"].to_pylist()[1:] == [9007199254740993, 5]


def test_features_are_the_nearest_floats_of_decimals() -> None:
    values = [Decimal(n * 7919 % 10**12).scaleb(-2) for n in range(5000)]

    assert to_float(pa.array(values, pa.decimal128(30, 2))).to_pylist() == [float(value) for value in values]


def test_a_type_that_a_file_shows_later_becomes_the_contract(tables: Tables, tmp_path: Path) -> None:
    table, when = tables("sqlite"), (START + timedelta(hours=1)).isoformat()
    source = {"payments": {"kind": "files", "path": str(tmp_path / "rows.csv"), "format": "csv", "key": ["id"]}}
    said = []
    for note in ("", "7", "x"):
        lines = f"id,created_at,amount,items,country,first,note\n1,{when},1.5,2,DE,true,{note}\n"
        (tmp_path / "rows.csv").write_text(lines)
        said.append(table.score(keep=["note"], more_sources=source, mode="restate").said)

    assert said[:2] == ["publish", "publish"]
    assert said[2].startswith("halted")
    assert "`note` was number" in said[2]


def test_a_contract_that_called_decimals_floats_still_holds(tables: Tables) -> None:
    table = tables("postgresql", "sqlite")
    table.create("id numeric(20,0), price numeric(30,2)")
    table.insert({"id": 1, "price": Decimal("1.50")})
    table.score(keep=["price"])
    for old, new in (('"decimal"', '"float"'), ("", "")):
        with table.warehouse.writing() as connection:
            connection.exec_driver_sql(
                f"update penstock_source_columns set columns = replace(columns, '{old}', '{new}') where '{old}' <> ''"
            )
        assert table.score(keep=["price"], mode="restate").said == "publish"

    table.say("alter table payments alter column price type double precision")
    assert "`price` was decimal and is float now" in table.score(keep=["price"], mode="restate").said


@pytest.mark.parametrize("warehouse", DIALECTS)
@pytest.mark.parametrize("by", ["table", "query"])
def test_decimals_without_a_fraction_are_whole_in_sqlite_too(tables: Tables, by: str, warehouse: str) -> None:
    table = tables("sqlite", warehouse)
    table.create("id numeric(10,0), price decimal(12,2)")
    table.insert({"id": 101, "price": 12.34}, {"id": 102, "price": 12})
    source = {"table": "payments"} if by == "table" else {"query": "select * from payments"}

    outcome = table.score(keep=["price"], source=source)

    assert {str(key): row["price"] for key, row in outcome.live.items()} == {"101": 12.34, "102": 12.0}
