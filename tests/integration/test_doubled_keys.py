"""A key that two partitions have loaded: DuckDB's history table has no primary key, so the audit looks for it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from penstock.database.connections import Database, open_database
from penstock.errors import Halted
from penstock.interval import DataInterval
from penstock.ledger.claims import ClaimRequest, claim
from penstock.run import doubled_keys
from penstock.run.doubled_keys import find_doubled_keys
from penstock.run.load import load_partition
from penstock.run_types import Features, ModelPin, Partition, ScoredRows, ScoringRun
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import load_pipeline, parse_pipeline
from penstock.tasks.process_resources import connect
from tests.conftest import DIALECTS, view_rows
from tests.driver import Driver
from tests.shop import SPEC, START, Place, payments

FILES = """
name: card-risk
interval: {column: created_at, grain: 1d, start: 2026-01-01, lookback: 3}
sources:
  payments: {kind: files, path: "in/*.parquet", format: parquet, key: [payment_id]}
model: card-risk@champion
destination: {connection: warehouse, table: card_risk_scores, keep: [amount, country]}
partition_rows: 10
"""
HISTORY = "card_risk_scores__history"
NAN = float("nan")
DAY = DataInterval(START, START + timedelta(days=1))
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def duckdb(use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(warehouse=database_url("duckdb", "warehouse")), "warehouse")


def pipeline(*key: str) -> Pipeline:
    data = parse_pipeline(SPEC.encode(), "x").model_dump(mode="json", by_alias=True)
    data["sources"]["payments"]["key"] = list(key)
    return Pipeline.model_validate(data)


def take(database: Database, *key: str) -> ScoringRun:
    run = claim(database, ClaimRequest(pipeline(*key), DAY, ModelPin("card-risk", "1", "d" * 64), "due", 60.0))
    assert run is not None
    return run


def load(database: Database, run: ScoringRun, partitions: Sequence[dict[str, list[Any]]]) -> None:
    for index, key in enumerate(partitions):
        rows = len(next(iter(key.values())))
        table = pa.table(key | {"score": [0.5] * rows})
        scored = ScoredRows(table, Features(table, rows, 0, (), ()), (), (), ())
        load_partition(database, run, Partition(index, len(partitions), None, None, rows), scored, {}, 1)


def is_searched(database: Database, run: ScoringRun, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether all rows are searched, as opposed to the ranges of the partitions alone."""
    found = []
    monkeypatch.setattr(doubled_keys, "_shares", lambda *_: found.append(True) or [])
    find_doubled_keys(database, run)
    return bool(found)


@pytest.mark.parametrize("warehouse", DIALECTS)
def test_a_key_in_two_partitions_of_files_halts_by_name(
    make_place: Callable[..., Place], tmp_path: Path, warehouse: str
) -> None:
    place = make_place(warehouse=warehouse, spec=FILES, days=1, a_day=40)
    driver = Driver(load_pipeline(place.spec), connect, place.registry)
    rows, file = payments(days=1, a_day=40), tmp_path / "in" / "a.parquet"
    file.parent.mkdir()
    again = pa.concat_tables([rows, rows.slice(6, 1)])  # the key 7, first in one partition and then in another
    pq.write_table(again, file)

    ended = driver.run(START + timedelta(days=1))[-1]

    assert ended.startswith("halted: `card-risk` ")
    assert "the key `payment_id` of source `payments` is not unique: 7 (2 rows)" in ended
    assert view_rows(place.warehouse) == []
    pq.write_table(rows, file)
    assert driver.run(START + timedelta(days=1))[-1] == "publish"
    assert [row[0] for row in view_rows(place.warehouse)] == list(range(1, 41))


@pytest.mark.parametrize(
    ("key", "partitions"),
    [
        ("id", [[1, 2], [3, 4]]),
        ("id", [[3, 4], [1, 2]]),
        ("id", [["a", "b"], ["ba", "ä"]]),
        ("id", [[MIDNIGHT], [MIDNIGHT + timedelta(microseconds=1)]]),
        ("id", [[-1.5, -0.0], [0.5]]),
    ],
)
def test_partitions_with_ranges_of_their_own_are_not_searched(
    duckdb: Database, monkeypatch: pytest.MonkeyPatch, key: str, partitions: list[list[Any]]
) -> None:
    run = take(duckdb, key)
    load(duckdb, run, [{key: values} for values in partitions])

    assert find_doubled_keys(duckdb, run) is None
    assert not is_searched(duckdb, run, monkeypatch)


@pytest.mark.parametrize("at_once", [2, 4_000_000])
@pytest.mark.parametrize(
    ("partitions", "found"),
    [
        ([[1, 2], [2, 3]], "2 (2 rows)"),
        ([[1, 9], [2, 3], [5, 9]], "9 (2 rows)"),
        ([[1, 9], [3], [4, 3]], "3 (2 rows)"),
        ([[5], [5], [5]], "5 (3 rows)"),
        ([[0.0, 1.0], [-1.0, -0.0]], "0.0 (2 rows)"),
        ([[NAN], [1.0, NAN]], "nan (2 rows)"),
        ([["ä", "a"], ["b", "ä"]], "ä (2 rows)"),
        ([[1, 9], [2, 8]], None),
    ],
)
def test_a_key_of_two_partitions_is_found(
    duckdb: Database,
    monkeypatch: pytest.MonkeyPatch,
    partitions: list[list[Any]],
    found: str | None,
    at_once: int,
) -> None:
    monkeypatch.setattr(doubled_keys, "SHARE_ROWS", at_once)
    run = take(duckdb, "id")
    load(duckdb, run, [{"id": values} for values in partitions])

    described = find_doubled_keys(duckdb, run)

    assert described == (found and f"the key `id` of source `payments` is not unique: {found}")


def test_keys_of_two_columns_are_compared_whole(duckdb: Database) -> None:
    run = take(duckdb, "shop", "number")
    load(duckdb, run, [{"shop": ["a", "b"], "number": [1, 1]}, {"shop": ["a", "b"], "number": [2, 1]}])

    assert find_doubled_keys(duckdb, run) == (
        "the key `shop`, `number` of source `payments` is not unique: b / 1 (2 rows)"
    )


@pytest.mark.parametrize("change", ["insert into {} select * from {} where id = 1", "delete from {} where id = 2"])
def test_a_partition_with_other_rows_than_it_loaded_is_searched(
    duckdb: Database, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    run = take(duckdb, "id")
    load(duckdb, run, [{"id": [1, 2]}, {"id": [3, 4]}])
    with duckdb.writing() as connection:
        connection.exec_driver_sql(change.format(HISTORY, HISTORY))

    assert ("1 (2 rows)" in (find_doubled_keys(duckdb, run) or "")) == change.startswith("insert")
    assert is_searched(duckdb, run, monkeypatch)


def test_rows_of_other_runs_do_not_count(duckdb: Database) -> None:
    first = take(duckdb, "id")
    load(duckdb, first, [{"id": [1, 2]}])
    other = claim(
        duckdb,
        ClaimRequest(pipeline("id"), DataInterval(DAY.end, DAY.end + timedelta(days=1)), first.model, "due", 60.0),
    )
    assert other is not None
    load(duckdb, other, [{"id": [2, 5]}, {"id": [1, 4]}])

    assert find_doubled_keys(duckdb, other) is None


def test_a_history_table_of_an_older_version_keeps_its_key(duckdb: Database) -> None:
    run = take(duckdb, "id")
    with duckdb.writing() as connection:
        columns = "run_id text not null, partition integer not null, id bigint not null, score double"
        connection.exec_driver_sql(f"create table {HISTORY} ({columns}, primary key (run_id, id))")

    with pytest.raises(Halted, match=r"key `id` of source `payments` is not unique: 2 \(2 rows\)"):
        load(duckdb, run, [{"id": [1, 2]}, {"id": [2, 3]}])

    assert find_doubled_keys(duckdb, run) is None


@pytest.mark.parametrize("warehouse", DIALECTS)
def test_only_duckdbs_history_table_has_no_key(make_place: Callable[..., Place], warehouse: str) -> None:
    place = make_place("sqlite", warehouse, days=1)
    driver = Driver(load_pipeline(place.spec), connect, place.registry)
    assert driver.run(START + timedelta(days=1))[-1] == "publish"

    with place.warehouse.reading() as connection:
        facts = place.warehouse.sql.read_table_facts(connection, sa.table(HISTORY), "")
    assert facts is not None
    assert facts.unique == (() if warehouse == "duckdb" else (frozenset({"run_id", "payment_id"}),))
