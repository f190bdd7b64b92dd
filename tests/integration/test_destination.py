"""The history table and its views on real databases: a partition is there once, invisible until published."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from threading import Barrier
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from penstock.database.connections import Database, open_database
from penstock.errors import Halted, PartitionMoved, QueryFailed, TakenOver, TransientError
from penstock.interval import DataInterval
from penstock.ledger.claims import ClaimRequest, claim
from penstock.ledger.quarantine import quarantined_rows
from penstock.ledger.reader import partitions_of, validations_of
from penstock.ledger.writer import Totals, end_run, publish
from penstock.run import history_table as history
from penstock.run.doubled_keys import find_doubled_keys
from penstock.run.history_table import prepare
from penstock.run.load import count_rows, load_partition
from penstock.run_types import (
    FailedExpectation,
    Features,
    ModelPin,
    Partition,
    Refusal,
    ScoredRows,
    ScoringRun,
    Validation,
)
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import parse_pipeline
from tests.conftest import DIALECTS
from tests.shop import SPEC

PIPELINE = parse_pipeline(SPEC.encode(), "x")
DAYS = [DataInterval(datetime(2026, 1, d, tzinfo=UTC), datetime(2026, 1, d + 1, tzinfo=UTC)) for d in (1, 2)]
MODEL = ModelPin("card-risk", "1", "d" * 64)
ONLY = Partition(0, 1, None, None, 3)


@pytest.fixture(params=DIALECTS)
def warehouse(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(warehouse=database_url(request.param, "warehouse")), "warehouse")


def take(database: Database, day: int = 0, pipeline: Pipeline = PIPELINE, again: bool = False) -> ScoringRun:
    run = claim(database, ClaimRequest(pipeline, DAYS[day], MODEL, "due", 60.0, again=again))
    assert run is not None
    return run


def scored(keys: list[int], score: float = 0.5, halts: tuple[str, ...] = (), **more: list[Any]) -> ScoredRows:
    table = pa.table(
        {"payment_id": pa.array(keys, pa.int64()), "score": pa.array([score] * len(keys), pa.float64())} | more
    )
    refusals = (Refusal("payments", "payments", '{"payment_id": 99}', (FailedExpectation("too bad"),), "{}", "digest"),)
    validations = (Validation("payments", "amount", "warning", 4, 1, "quarantined", "1 of 4", 0),)
    return ScoredRows(table, Features(table, len(keys) + 1, 0, refusals, validations), refusals, validations, halts)


def visible(database: Database, view: str = "card_risk_scores") -> list[tuple[Any, ...]]:
    with database.reading() as connection:
        return [
            tuple(r) for r in connection.execute(sa.text(f"select payment_id, score from {view} order by payment_id"))
        ]


def test_loaded_rows_are_invisible_until_their_run_is_published(warehouse: Database) -> None:
    run = take(warehouse)
    receipt = load_partition(warehouse, run, ONLY, scored([1, 2, 3]), {"extract": 0.1}, 1)

    assert (receipt.extracted, receipt.scored, receipt.quarantined, receipt.refused_at_source) == (4, 3, 1, 1)
    assert visible(warehouse) == []
    publish(warehouse, run, Totals(4, 3, 1, 0), [])
    assert visible(warehouse) == [(1, 0.5), (2, 0.5), (3, 0.5)]


def test_a_partition_that_is_loaded_stays_as_it_is(warehouse: Database) -> None:
    run = take(warehouse)
    receipts = [
        load_partition(warehouse, run, ONLY, scored([1, 2, 3], score), {"extract": 0.1}, 1) for score in (0.5, 0.7)
    ]

    assert [(r.extracted, r.scored, r.quarantined, r.excluded) for r in receipts] == [(4, 3, 1, 0)] * 2
    [part] = partitions_of(warehouse, run.run_id)
    assert (part.rows_scored, set(part.seconds)) == (3, {"extract", "load"})
    assert len(quarantined_rows(warehouse)) == len(validations_of(warehouse, run.run_id)) == 1
    publish(warehouse, run, Totals(4, 3, 1, 0), [])
    assert visible(warehouse) == [(1, 0.5), (2, 0.5), (3, 0.5)]


def test_a_copy_that_saw_other_rows_is_refused_and_changes_nothing(warehouse: Database) -> None:
    run = take(warehouse)
    load_partition(warehouse, run, ONLY, scored([1, 2, 3]), {}, 1)

    with pytest.raises(PartitionMoved, match="partition 1/1 of `card-risk 2026-01-01 → 01-02` was loaded before"):
        load_partition(warehouse, run, ONLY, scored([2, 3]), {}, 2)

    assert count_rows(warehouse, run) == 3
    assert partitions_of(warehouse, run.run_id)[0].rows_scored == 3


def test_two_copies_of_a_partition_at_once_leave_one(warehouse: Database) -> None:
    """As a cluster makes them: the later meets the earlier at the primary key, is told to try again, and yields."""
    run, keys, barrier = take(warehouse), list(range(2000)), Barrier(2)
    prepare(warehouse, PIPELINE.destination, PIPELINE.key, scored(keys).table)

    def load_as_a_task(score: float) -> int:
        barrier.wait(60)
        for _ in range(5):
            try:
                return load_partition(warehouse, run, ONLY, scored(keys, score), {}, 1).scored
            except TransientError:
                continue
        raise AssertionError("five tries were not enough")

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(load_as_a_task, (0.5, 0.7))) == [2000, 2000]

    publish(warehouse, run, Totals(2001, 2000, 1, 0), [])
    rows = visible(warehouse)
    assert (len(rows), len({score for _, score in rows})) == (2000, 1)
    assert len(quarantined_rows(warehouse)) == 1


def test_a_halted_partition_leaves_its_findings_and_no_rows(warehouse: Database) -> None:
    run = take(warehouse)
    receipt = load_partition(warehouse, run, ONLY, scored([1, 2], halts=("no",)), {}, 1)

    assert (receipt.scored, count_rows(warehouse, run)) == (0, 0)
    assert len(validations_of(warehouse, run.run_id)) == 1


def test_a_run_that_has_ended_loads_nothing(warehouse: Database) -> None:
    run = take(warehouse)
    load_partition(warehouse, run, ONLY, scored([1]), {}, 1)
    end_run(warehouse, run, "failed", "killed")

    with pytest.raises(TakenOver):
        load_partition(warehouse, run, ONLY, scored([1, 2]), {}, 2)

    assert count_rows(warehouse, run) == 1


def test_the_latest_view_holds_one_row_a_key_from_the_newest_interval(warehouse: Database) -> None:
    for day, value in ((1, 0.9), (0, 0.1)):
        run = take(warehouse, day)
        load_partition(warehouse, run, ONLY, scored([1, 2 + day], value), {}, 1)
        publish(warehouse, run, Totals(2, 2, 0, 0), [])

    assert visible(warehouse, "card_risk_scores_latest") == [(1, 0.9), (2, 0.1), (3, 0.9)]


def test_a_new_column_is_added_and_an_old_one_is_never_dropped(warehouse: Database) -> None:
    first = take(warehouse)
    load_partition(warehouse, first, ONLY, scored([1], amount=[3.5]), {}, 1)
    publish(warehouse, first, Totals(2, 1, 1, 0), [])
    history._ready.clear()  # as a new process would
    second = take(warehouse, day=1)
    load_partition(warehouse, second, ONLY, scored([2], country=["DE"]), {}, 1)
    publish(warehouse, second, Totals(2, 1, 1, 0), [])

    with warehouse.reading() as connection:
        query = sa.text("select payment_id, amount, country from card_risk_scores order by payment_id")
        assert [tuple(r) for r in connection.execute(query)] == [(1, 3.5, None), (2, None, "DE")]


def test_a_table_that_bears_the_views_name_is_not_touched(warehouse: Database) -> None:
    with warehouse.writing() as connection:
        connection.execute(sa.text("create table card_risk_scores(a integer)"))
    with pytest.raises(QueryFailed, match="is a table, and the view"):
        prepare(warehouse, PIPELINE.destination, PIPELINE.key, scored([1]).table)


def test_names_that_need_quotes_work_as_keys_and_kept_columns(warehouse: Database) -> None:
    data = PIPELINE.model_dump(mode="json", by_alias=True)
    data["sources"]["payments"]["key"] = ["Order", "select"]
    data["destination"]["table"] = "Group"
    pipeline = Pipeline.model_validate(data)
    table = pa.table(
        {"Order": [1, 1], "select": ["a", "b"], "score": [0.1, 0.2], "at": [1, 2], "Mixed Case": ["x", None]}
    )
    run = take(warehouse, pipeline=pipeline)
    load_partition(warehouse, run, ONLY, ScoredRows(table, Features(table, 2, 0, (), ()), (), (), ()), {}, 1)
    publish(warehouse, run, Totals(2, 2, 0, 0), [])

    with warehouse.reading() as connection:
        rows = connection.execute(sa.text('select "Order", "select", "at", "Mixed Case" from "Group" order by 2')).all()
    assert [tuple(r) for r in rows] == [(1, "a", 1, "x"), (1, "b", 2, None)]


def test_a_key_that_another_partition_has_loaded_halts_the_run_by_name(warehouse: Database) -> None:
    run, first, second = take(warehouse), Partition(0, 2, None, None, 3), Partition(1, 2, None, None, 2)
    again = replace(scored([4, 3]), validations=())  # those of `scored` are the first partition's
    load_partition(warehouse, run, first, scored([1, 2, 3]), {}, 1)

    if warehouse.sql.keys_history:
        with pytest.raises(Halted, match=r"key `payment_id` of source `payments` is not unique: 3 \(2 rows\)"):
            load_partition(warehouse, run, second, again, {}, 1)
    else:  # DuckDB: in the audit
        load_partition(warehouse, run, second, again, {}, 1)
        found = find_doubled_keys(warehouse, run)
        assert found == "the key `payment_id` of source `payments` is not unique: 3 (2 rows)"

    assert load_partition(warehouse, run, first, scored([1, 2, 3]), {}, 2).scored == 3  # a copy is no duplicate
    assert count_rows(warehouse, run) == (3 if warehouse.sql.keys_history else 5)


def test_a_history_table_without_its_unique_key_is_searched_for_doubled_keys(warehouse: Database) -> None:
    run = take(warehouse)
    load_partition(warehouse, run, ONLY, scored([1, 2, 3]), {}, 1)
    assert find_doubled_keys(warehouse, run) is None
    name = f"{PIPELINE.destination.table}__history"
    kept = ", ".join(c["name"] for c in sa.inspect(warehouse.engine).get_columns(name))
    with warehouse.writing() as connection:
        for view in (f"{PIPELINE.destination.table}_latest", PIPELINE.destination.table):
            connection.exec_driver_sql(f"drop view {view}")
        connection.exec_driver_sql(f"create table copied as select {kept} from {name}")
        connection.exec_driver_sql(f"drop table {name}")
        connection.exec_driver_sql(f"alter table copied rename to {name}")
        connection.exec_driver_sql(f"insert into {name} select {kept} from {name} where payment_id > 1")

    found = find_doubled_keys(warehouse, run)

    assert found == "the key `payment_id` of source `payments` is not unique: 2 (2 rows), 3 (2 rows)"
