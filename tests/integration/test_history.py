"""The history table on real databases when the pipeline changes: it grows, and refuses what it cannot hold."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from penstock.database.connections import Database, open_database
from penstock.errors import DatabaseUnavailable, DestinationMismatch, QueryFailed
from penstock.interval import DataInterval
from penstock.ledger.writer import ClaimRequest, Totals, claim, publish
from penstock.run import history_table as history
from penstock.run.history_table import check_rows, prepare
from penstock.run.load import load_partition
from penstock.run_types import Features, ModelPin, Partition, ScoredRows
from penstock.spec.yaml_file import parse_pipeline
from tests.conftest import DIALECTS
from tests.shop import SPEC

PIPELINE = parse_pipeline(SPEC.encode(), "x")
KEY, DESTINATION = PIPELINE.key, PIPELINE.destination
MODEL = ModelPin("card-risk", "1", "d" * 64)


@pytest.fixture(params=DIALECTS)
def warehouse(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(warehouse=database_url(request.param, "warehouse")), "warehouse")


def rows(key: int, **more: Any) -> pa.Table:
    return pa.table({"payment_id": pa.array([key], pa.int64()), "score": pa.array([0.5], pa.float64())} | more)


def score_day(database: Database, day: int, **more: Any) -> None:
    """Publish one row for a day, as a new process would."""
    history._ready.clear()
    interval = DataInterval(datetime(2026, 1, day, tzinfo=UTC), datetime(2026, 1, day + 1, tzinfo=UTC))
    run = claim(database, ClaimRequest(PIPELINE, interval, MODEL, "due", 60.0))
    assert run is not None
    table = rows(day, **more)
    load_partition(
        database,
        run,
        Partition(0, 1, None, None, 1),
        ScoredRows(table, Features(table, 1, 0, (), ()), (), (), ()),
        {},
        1,
    )
    publish(database, run, Totals(1, 1, 0, 0), [])


def visible(database: Database, columns: str, view: str = "card_risk_scores") -> list[tuple[Any, ...]]:
    with database.reading() as connection:
        query = sa.text(f"select {columns} from {view} order by payment_id")
        return [tuple(row) for row in connection.execute(query)]


def test_a_column_that_is_no_longer_kept_stays_and_is_empty_for_new_rows(warehouse: Database) -> None:
    score_day(warehouse, 1, amount=[3.5], country=["DE"])
    score_day(warehouse, 2, country=["FR"])

    assert visible(warehouse, "amount, country") == [(3.5, "DE"), (None, "FR")]


def test_a_second_output_of_the_model_is_added_to_both_views(warehouse: Database) -> None:
    score_day(warehouse, 1)
    score_day(warehouse, 2, margin=[-0.25])

    for view in ("card_risk_scores", "card_risk_scores_latest"):
        assert visible(warehouse, "payment_id, margin", view) == [(1, None), (2, -0.25)]


def test_columns_of_the_view_keep_their_places_and_new_ones_come_last(warehouse: Database) -> None:
    score_day(warehouse, 1, amount=[3.5])
    with warehouse.reading() as connection:
        before = [c["name"] for c in sa.inspect(connection).get_columns("card_risk_scores")]

    score_day(warehouse, 2, country=["DE"])

    with warehouse.reading() as connection:
        assert [c["name"] for c in sa.inspect(connection).get_columns("card_risk_scores")] == [*before, "country"]


def test_a_retyped_column_is_refused_with_both_types_and_nothing_changes(warehouse: Database) -> None:
    score_day(warehouse, 1, amount=[3.5])

    with pytest.raises(DestinationMismatch, match=r"`amount` is double there, and string now.*another"):
        score_day(warehouse, 2, amount=["3.50"], country=["DE"])

    assert visible(warehouse, "amount") == [(3.5,)]
    with warehouse.reading() as connection:
        names = [c["name"] for c in sa.inspect(connection).get_columns("card_risk_scores__history")]
    assert "country" not in names


def test_a_process_that_knows_the_table_refuses_a_retyped_column_too(warehouse: Database) -> None:
    score_day(warehouse, 1, amount=[3.5])

    with pytest.raises(DestinationMismatch, match="amount"):
        prepare(warehouse, DESTINATION, KEY, rows(1, amount=["3.50"]))


def test_whole_numbers_and_columns_without_a_value_suit_a_column_of_fractions(warehouse: Database) -> None:
    score_day(warehouse, 1, amount=[3.5])
    score_day(warehouse, 2, amount=pa.array([4], pa.int64()))
    score_day(warehouse, 3, amount=pa.array([None], pa.string()))

    assert visible(warehouse, "amount") == [(3.5,), (4.0,), (None,)]


def test_another_key_is_refused_and_both_keys_are_named(warehouse: Database) -> None:
    score_day(warehouse, 1, country=["DE"])

    for known in (True, False):
        if not known:
            history._ready.clear()
        with pytest.raises(DestinationMismatch, match="key is `payment_id`, and the pipeline's is `country`, `payment"):
            prepare(warehouse, DESTINATION, ("payment_id", "country"), rows(1, country=["DE"]))
    with pytest.raises(DestinationMismatch, match=r"another `destination.table`"):
        check_rows(warehouse, DESTINATION, ("country",), rows(1, country=["DE"]))


def test_looking_at_a_table_that_suits_changes_nothing(warehouse: Database) -> None:
    check_rows(warehouse, DESTINATION, KEY, rows(1))
    score_day(warehouse, 1)

    check_rows(warehouse, DESTINATION, KEY, rows(1, country=["DE"]))

    with warehouse.reading() as connection:
        assert "country" not in [c["name"] for c in sa.inspect(connection).get_columns("card_risk_scores__history")]


def test_a_reader_in_the_middle_sees_the_old_view_or_the_new_one(warehouse: Database) -> None:
    score_day(warehouse, 1)
    stop, seen, failures = threading.Event(), set[int](), list[QueryFailed]()

    def look() -> None:
        while not stop.is_set():
            try:
                with warehouse.reading() as connection:
                    result = connection.execute(sa.text("select * from card_risk_scores"))
                    seen.add(len(result.keys()))
                    assert result.all()
            except DatabaseUnavailable:
                continue
            except QueryFailed as error:
                failures.append(error)
                return

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for day in range(2, 8):
            score_day(warehouse, day, **{f"new_{n}": [1.5] for n in range(day)})
    finally:
        stop.set()
        reader.join()

    assert failures == []
    assert seen <= {9, 11, 12, 13, 14, 15, 16}


def test_views_and_grants_that_were_built_on_the_view_outlive_a_new_column(
    use_settings: Callable[..., Any], database_url: Callable[[str, str], str]
) -> None:
    warehouse = open_database(use_settings(warehouse=database_url("postgresql", "warehouse")), "warehouse")
    score_day(warehouse, 1)
    with warehouse.writing() as connection:
        connection.exec_driver_sql("create view mine as select payment_id, score from card_risk_scores")
        connection.exec_driver_sql("grant select on card_risk_scores to pg_monitor")

    score_day(warehouse, 2, amount=[1.5])

    assert visible(warehouse, "payment_id, score", "mine") == [(1, 0.5), (2, 0.5)]
    with warehouse.reading() as connection:
        asked = "select has_table_privilege('pg_monitor', 'card_risk_scores', 'select')"
        assert connection.exec_driver_sql(asked).scalar_one() is True
