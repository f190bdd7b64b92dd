"""A row has the same seal before and after each database: every type of value, and its extremes."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from penstock.database.connections import Database, open_database
from penstock.interval import DataInterval
from penstock.ledger.claims import ClaimRequest, claim
from penstock.ledger.reader import find_run
from penstock.ledger.writer import Totals, publish
from penstock.privacy.secret_keys import KeyRing, SecretKey
from penstock.run.history_table import history_name
from penstock.run.load import load_partition
from penstock.run_types import Features, ModelPin, Partition, ScoredRows
from penstock.seals.stored import record_root
from penstock.spec.yaml_file import parse_pipeline
from penstock.upkeep.sealed_rows import PartitionFault, describe_rows, find_faults
from tests.conftest import DIALECTS
from tests.shop import SPEC

PIPELINE = parse_pipeline(SPEC.replace("[payment_id]", "[name, at, code, number]").encode(), "x")
DAYS = [DataInterval(datetime(2026, 1, d, tzinfo=UTC), datetime(2026, 1, d + 1, tzinfo=UTC)) for d in (1, 2)]
MODEL = ModelPin("card-risk", "1", "d" * 64)
KEYS = KeyRing(SecretKey(b"the key of the seals"))
NAN, INF = float("nan"), float("inf")
ROWS = 200
TEXTS = [
    "",
    " ",
    "é",
    "e\u0301",
    "Köln",
    "名前",
    "🙂",
    "a\nb",
    "'",
    '"',
    "\\",
    "1",
    "1.0",
    "NULL",
    "12:a=3:xyz",
    "\x1f",
]
FLOATS = [0.0, -0.0, NAN, INF, -INF, 5e-324, 1.7976931348623157e308, 0.1, 1 / 3, 1e-7, 1e16, 1e22, 2.0**53 + 2, -5.0]
DECIMALS = ["0", "-0.00", "1.10", "99999999999999999999999999.123456789", "-0.000000001", "5", "12345678901234567890"]
TIMES = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
]


@pytest.fixture(params=DIALECTS)
def warehouse(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(warehouse=database_url(request.param, "warehouse")), "warehouse")


def draw(rng: Random, extremes: list[Any], other: Callable[[], Any]) -> list[Any]:
    """Return the extremes, NULLs and random values, as many as there are rows."""
    some = [*extremes, None, *(other() for _ in range(ROWS - len(extremes) - 1))]
    return rng.sample(some, ROWS)


def make_rows(seed: int) -> pa.Table:
    rng = Random(seed)  # values of a test

    def moment() -> datetime:
        return datetime.fromtimestamp(rng.randrange(-(2**33), 2**33) + rng.randrange(10**6) / 1e6, UTC)

    def text() -> str:
        return "".join(
            chr(rng.choice([rng.randrange(32, 127), rng.randrange(160, 0xD7FF)])) for _ in range(rng.randrange(9))
        )

    def amount() -> Decimal:
        return Decimal(rng.randrange(-(10**20), 10**20)).scaleb(-9)

    key = {
        "name": pa.array([f"{text()}{n}" for n in range(ROWS)]),
        "at": pa.array([moment() for _ in range(ROWS)], pa.timestamp("us", "UTC")),
        "code": pa.array([amount() for _ in range(ROWS)], pa.decimal128(38, 9)),
        "number": pa.array([rng.randrange(-(2**63), 2**63) for _ in range(ROWS)], pa.int64()),
    }
    values = {
        "score": pa.array(
            draw(rng, FLOATS, lambda: rng.choice([rng.random(), rng.gauss(0, 1e9), rng.random() * 1e-9]))
        ),
        "flag": pa.array(draw(rng, [True, False], lambda: rng.random() < 0.5), pa.bool_()),
        "Whole Number": pa.array(draw(rng, [-(2**63), 2**63 - 1, 0], lambda: rng.randrange(-9, 9)), pa.int64()),
        "exact": pa.array(draw(rng, [Decimal(d) for d in DECIMALS], amount), pa.decimal128(38, 9)),
        "wide": pa.array(draw(rng, [10**37, -(10**37)], lambda: rng.randrange(10**30)), pa.decimal128(38, 0)),
        "day": pa.array(draw(rng, [date(1, 1, 1), date(9999, 12, 31)], lambda: moment().date()), pa.date32()),
        "moment": pa.array(draw(rng, TIMES, moment), pa.timestamp("us", "UTC")),
        "text": pa.array(draw(rng, TEXTS, text), pa.string()),
        "empty": pa.nulls(ROWS, pa.string()),
    }
    return pa.table(key | values)


def load(database: Database, day: int, rows: pa.Table) -> str:
    """Load and publish sealed rows."""
    run = claim(database, ClaimRequest(PIPELINE, DAYS[day], MODEL, "due", 60.0))
    assert run is not None
    features = Features(rows, rows.num_rows, 0, (), ())
    load_partition(
        database, run, Partition(0, 1, None, None, ROWS), ScoredRows(rows, features, (), (), ()), {}, 1, seal_keys=KEYS
    )
    record_root(database, run, KEYS)
    publish(database, run, Totals(rows.num_rows, rows.num_rows, 0, 0), [])
    return run.run_id


def faults(database: Database, run_id: str) -> list[PartitionFault]:
    run = find_run(database, run_id)
    rows = describe_rows(database, history_name(PIPELINE.destination.table, None))
    return list(find_faults(database, run, rows, KEYS))


@pytest.mark.parametrize("seed", range(2))
def test_a_row_has_its_seal_after_every_database(warehouse: Database, seed: int) -> None:
    assert faults(warehouse, load(warehouse, 0, make_rows(seed))) == []


def test_seals_hold_after_columns_were_added_and_got_wider_types(warehouse: Database) -> None:
    key = make_rows(1).select(["name", "at", "code", "number"]).slice(0, 2)
    first = load(
        warehouse,
        0,
        key.append_column("score", pa.array([0.25, -0.0])).append_column("units", pa.array([5, 2**53 - 1], pa.int64())),
    )
    wider = key.append_column("score", pa.array([Decimal("0.125"), None], pa.decimal128(38, 6)))
    wider = wider.append_column("units", pa.array([Decimal("5.5"), None], pa.decimal128(38, 2)))
    second = load(warehouse, 1, wider.append_column("region", pa.array(["north", None])))

    assert faults(warehouse, first) == faults(warehouse, second) == []


def test_each_kind_of_value_is_under_the_seal(warehouse: Database) -> None:
    run_id = load(warehouse, 0, make_rows(3))
    changes = {
        "score": "coalesce(score, 0) + 0.5",
        "flag": "case when flag then null else flag end",
        '"Whole Number"': "1234567",
        "day": "'2020-02-02'",
        "moment": "'2020-02-02 02:02:02'",
        "text": "'other'",
        "empty": "'something'",
    }
    with warehouse.engine.connect() as connection:
        [first] = connection.execute(
            sa.text("select name from card_risk_scores__history where flag order by name limit 1")
        )
    for column, value in changes.items():
        with warehouse.writing() as connection:
            connection.execute(
                sa.text("create table kept as select * from card_risk_scores__history where name = :name"),
                {"name": first[0]},
            )
            statement = f"update card_risk_scores__history set {column} = {value} where name = :name"
            connection.execute(sa.text(statement), {"name": first[0]})
        [fault] = faults(warehouse, run_id)
        assert (fault.fault, fault.rows) == ("altered", 1), column
        with warehouse.writing() as connection:
            connection.execute(sa.text("delete from card_risk_scores__history where name = :name"), {"name": first[0]})
            connection.execute(sa.text("insert into card_risk_scores__history select * from kept"))
            connection.execute(sa.text("drop table kept"))
    assert faults(warehouse, run_id) == []
