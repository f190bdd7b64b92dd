"""The history table on real databases when the pipeline changes: it grows, and refuses what it cannot hold."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from penstock.database.connections import Database, open_database
from penstock.errors import DatabaseUnavailable, DestinationMismatch, QueryFailed
from penstock.interval import DataInterval
from penstock.ledger.claims import ClaimRequest, claim
from penstock.ledger.writer import Totals, publish
from penstock.run import history_table as history
from penstock.run import load
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


def old_table(database: Database, key: float, **kept: float) -> None:
    """Make the history as versions before 0.2 did: every number that is no int64 is a float."""
    score_day(database, 1, **{name: [value] for name, value in kept.items()})
    with database.writing() as connection:
        connection.exec_driver_sql("drop view card_risk_scores_latest")
        connection.exec_driver_sql("drop view card_risk_scores")
        connection.exec_driver_sql("alter table card_risk_scores__history rename to old_history")
        columns = "".join(f", {name} double precision" for name in kept)
        kind = "uuid" if database.dialect == "postgresql" else "text"
        connection.exec_driver_sql(
            f"create table card_risk_scores__history (run_id {kind} not null, partition integer not null, "
            f"payment_id double precision not null, score double precision{columns}, primary key (run_id, payment_id))"
        )
        names = "".join(f", {name}" for name in kept)
        connection.exec_driver_sql(
            f"insert into card_risk_scores__history select run_id, partition, {key!r}, score{names} from old_history"
        )
        connection.exec_driver_sql("drop table old_history")


def decimals(precision: int, scale: int, *values: str) -> pa.Array:
    return pa.array([Decimal(value) for value in values], pa.decimal128(precision, scale))


def exact_day(database: Database, day: int, key: str, **more: Any) -> None:
    """Publish one row with an unsigned id for a day."""
    history._ready.clear()
    interval = DataInterval(datetime(2026, 1, day, tzinfo=UTC), datetime(2026, 1, day + 1, tzinfo=UTC))
    run = claim(database, ClaimRequest(PIPELINE, interval, MODEL, "due", 60.0))
    assert run is not None
    table = pa.table({"payment_id": decimals(20, 0, key), "score": pa.array([0.5], pa.float64())} | more)
    only, nothing = Partition(0, 1, None, None, 1), Features(table, 1, 0, (), ())
    load_partition(database, run, only, ScoredRows(table, nothing, (), (), ()), {}, 1)
    publish(database, run, Totals(1, 1, 0, 0), [])


def numbers(database: Database, columns: str, view: str = "card_risk_scores") -> list[tuple[Decimal | None, ...]]:
    """Return a view's numbers, none of which may be a float."""
    found = visible(database, columns, view)
    assert not any(isinstance(value, float) for row in found for value in row)
    return [tuple(value if value is None else Decimal(value) for value in row) for row in found]


def test_a_float_column_whose_values_are_exact_becomes_exact(warehouse: Database) -> None:
    old_table(warehouse, 101.0, price=12.5)

    exact_day(warehouse, 2, str(2**64 - 1), price=decimals(30, 2, "12345678901234567890.12"))

    expected = [(Decimal(101), Decimal("12.5")), (Decimal(2**64 - 1), Decimal("12345678901234567890.12"))]
    for view in ("card_risk_scores", "card_risk_scores_latest"):
        assert sorted(numbers(warehouse, "payment_id, price", view)) == expected
    assert visible(warehouse, "score, run_id is not null") == [(0.5, True), (0.5, True)]


def test_a_float_column_that_has_lost_digits_halts_and_names_the_statements(warehouse: Database) -> None:
    old_table(warehouse, float(2**53 + 1), price=12.5)

    with pytest.raises(DestinationMismatch, match="`payment_id` is double there, and some of its values have lost"):
        exact_day(warehouse, 2, str(2**53 + 1), price=[1.5])
    with pytest.raises(DestinationMismatch) as refused:
        exact_day(warehouse, 3, str(2**53 + 1), price=[1.5])

    statements = refused.value.remedy.partition("pipeline: ")[2].partition(". Or name")[0]
    with warehouse.writing() as connection:
        for statement in statements.split("; "):
            connection.exec_driver_sql(statement)
    exact_day(warehouse, 4, str(2**53 + 1), price=[1.5])
    assert sorted(numbers(warehouse, "payment_id")) == [(Decimal(2**53),), (Decimal(2**53 + 1),)]


def test_money_that_was_stored_with_noise_halts_by_the_columns_name(warehouse: Database) -> None:
    old_table(warehouse, 101.0, price=14.684600000000001)

    with pytest.raises(DestinationMismatch, match=r"`price` is double there, and some of its values have lost digits"):
        exact_day(warehouse, 2, "102", price=decimals(30, 4, "14.6846"))

    with pytest.raises(DestinationMismatch, match="`price`"):
        check_rows(warehouse, DESTINATION, KEY, rows(1, price=decimals(30, 4, "14.6846")))


def test_whole_numbers_that_a_float_cannot_hold_are_not_put_into_a_float_column(warehouse: Database) -> None:
    score_day(warehouse, 1, amount=[3.5])

    with pytest.raises(DestinationMismatch, match="`amount` is double there, and int64 now"):
        score_day(warehouse, 2, amount=pa.array([2**53 + 1], pa.int64()))

    assert visible(warehouse, "amount") == [(3.5,)]


def test_a_column_of_whole_numbers_takes_wider_ones_and_fractions(warehouse: Database) -> None:
    score_day(warehouse, 1, amount=pa.array([2**53 + 1], pa.int64()))
    score_day(warehouse, 2, amount=decimals(20, 0, str(2**64 - 1)))
    score_day(warehouse, 3, amount=decimals(30, 2, "0.25"))
    score_day(warehouse, 4, amount=pa.array([7], pa.int64()))

    assert numbers(warehouse, "amount") == [
        (Decimal(2**53 + 1),),
        (Decimal(2**64 - 1),),
        (Decimal("0.25"),),
        (Decimal(7),),
    ]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (7, pa.int64()),
        (2.5, pa.float64()),
        (True, pa.bool_()),
        ("x", pa.string()),
        (Decimal("1.5"), pa.decimal128(30, 2)),
    ],
)
def test_a_column_that_was_empty_takes_the_type_that_shows_first(warehouse: Database, value: Any, kind: Any) -> None:
    other = pa.int64() if pa.types.is_string(kind) else pa.string()
    score_day(warehouse, 1, late=pa.array([None], other))
    score_day(warehouse, 2, late=pa.array([None], pa.float64()))
    score_day(warehouse, 3, late=pa.array([value], kind))
    score_day(warehouse, 4, late=pa.array([None], other))

    for view in ("card_risk_scores", "card_risk_scores_latest"):
        found = [late for _, late in visible(warehouse, "payment_id, late", view)]
        assert found[:2] == [None, None]
        assert found[2] == value or Decimal(found[2]) == value
        assert found[3] is None
    with pytest.raises(DestinationMismatch, match="`late`"):
        score_day(warehouse, 5, late=pa.array([b"x"], pa.string()) if not pa.types.is_string(kind) else pa.array([1]))


def test_a_retyped_view_keeps_its_columns_in_their_places(warehouse: Database) -> None:
    score_day(warehouse, 1, late=pa.array([None], pa.string()), amount=[1.5])
    with warehouse.reading() as connection:
        before = [c["name"] for c in sa.inspect(connection).get_columns("card_risk_scores")]

    score_day(warehouse, 2, late=[7], amount=[1.5], country=["DE"])

    with warehouse.reading() as connection:
        assert [c["name"] for c in sa.inspect(connection).get_columns("card_risk_scores")] == [*before, "country"]


def test_grants_on_the_view_outlive_a_new_type(
    use_settings: Callable[..., Any], database_url: Callable[[str, str], str]
) -> None:
    warehouse = open_database(use_settings(warehouse=database_url("postgresql", "warehouse")), "warehouse")
    score_day(warehouse, 1, late=pa.array([None], pa.string()))
    with warehouse.writing() as connection:
        connection.exec_driver_sql("grant select on card_risk_scores to pg_monitor")
        connection.exec_driver_sql("grant select on card_risk_scores_latest to public")

    score_day(warehouse, 2, late=[7])

    with warehouse.reading() as connection:
        for role, view in (("pg_monitor", "card_risk_scores"), ("public", "card_risk_scores_latest")):
            asked = f"select has_table_privilege('{role}', '{view}', 'select')"
            assert connection.exec_driver_sql(asked).scalar_one() is True


def test_a_view_that_depends_on_the_view_is_never_dropped(
    use_settings: Callable[..., Any], database_url: Callable[[str, str], str]
) -> None:
    warehouse = open_database(use_settings(warehouse=database_url("postgresql", "warehouse")), "warehouse")
    score_day(warehouse, 1, late=pa.array([None], pa.string()))
    with warehouse.writing() as connection:
        connection.exec_driver_sql("create view mine as select payment_id, score from card_risk_scores")

    with pytest.raises(DestinationMismatch, match=r"other views depend on .* Drop those views, run again.*ALTER TABLE"):
        score_day(warehouse, 2, late=[7])

    assert visible(warehouse, "payment_id, score", "mine") == [(1, 0.5)]


def test_a_type_that_changes_between_the_look_and_the_load_is_seen(
    warehouse: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two partitions on two machines do: the later one must not send text into a column of numbers."""
    score_day(warehouse, 1, late=pa.array([None], pa.string()))
    prepared = load.prepare

    def prepare_late(database: Database, *args: Any, **options: Any) -> sa.Table:
        table = prepared(database, *args, **options)
        if not options["again"]:
            prepared(database, DESTINATION, KEY, rows(9, late=pa.array([7], pa.int64())), again=True)
        return table

    monkeypatch.setattr(load, "prepare", prepare_late)
    with warehouse.writing() as connection:
        connection.exec_driver_sql("delete from card_risk_scores__history")
    score_day(warehouse, 2, late=pa.array(["12345678"], pa.string()))

    assert visible(warehouse, "late") == [("12345678",)]
