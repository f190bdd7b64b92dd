"""Partitions along the event time: each row of the interval is in exactly one, whatever the times and the database."""

import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import takewhile
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.database.connections import Connector, Database, open_database
from penstock.interval import DataInterval
from penstock.run_types import Partition
from penstock.sources import SourceReader, open_source
from penstock.sources.snapshot import exported_snapshot
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from tests.conftest import DIALECTS, view_rows
from tests.driver import Driver
from tests.mariadb import INSTALLED, SKIPPED
from tests.shop import SPEC, Place

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = DataInterval(START, START + timedelta(days=1))
KINDS = {
    "postgresql": ("timestamptz", "timestamp", "timestamp(0)", "date"),
    "duckdb": ("TIMESTAMPTZ", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_NS", "DATE"),
    "sqlite": ("text", "T", "mixed", "zones", "seconds", "ms", "float"),
    "mariadb": ("datetime(6)", "datetime", "timestamp(6)", "date"),
}
EVERY = [(dialect, kind) for dialect, kinds in KINDS.items() for kind in kinds]
EMPTY_TIMES = {"postgresql": ("infinity", "-infinity"), "duckdb": ("infinity", "-infinity")}
offsets = st.one_of(
    st.integers(-2, 90_000).map(lambda s: timedelta(seconds=s)),
    st.integers(-10, 86_400_000_010).map(lambda us: timedelta(microseconds=us)),
    st.sampled_from([timedelta(0), timedelta(hours=12), timedelta(days=1), timedelta(microseconds=-1)]),
    st.integers(0, 5_000_000).map(lambda us: timedelta(hours=12, microseconds=us)),
)


@pytest.fixture
def open_shop(use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Any:
    def open_(dialect: str) -> Database:
        return open_database(use_settings(shop=database_url(dialect, "shop")), "shop")

    return open_


def pipeline(**source: Any) -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "p",
            "sources": {"rows": {"kind": "sql", "connection": "shop", "key": ["id"], "table": "t"} | source},
            "interval": {"column": "moment", "grain": "1d", "start": "2026-01-01"},
            "model": "m@1",
            "destination": {"table": "scores"},
        }
    )


def reader(database: Database, **source: Any) -> SourceReader:
    return open_source(pipeline(**source), "rows", Connector(lambda _: database, ()))


def write_time(moment: datetime, kind: str, number: int) -> Any:
    """Write a moment as SQLite rows have it."""
    plain = moment.replace(tzinfo=None)
    zone = timezone(timedelta(hours=number % 25 - 12, minutes=30 * (number % 2)))
    styles: dict[str, Callable[[], Any]] = {
        "text": lambda: plain.isoformat(" "),
        "T": lambda: plain.isoformat("T") + "Z",
        "mixed": lambda: plain.isoformat("T" if number % 2 else " "),
        "zones": lambda: moment.astimezone(zone).isoformat(),
        "seconds": lambda: int(moment.timestamp()),
        "ms": lambda: (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1),
        "float": moment.timestamp,
    }
    return styles[kind]()


def make_table(database: Database, dialect: str, kind: str, times: list[datetime | None], index: bool) -> None:
    declared = "" if dialect == "sqlite" else kind
    with database.writing() as connection:
        connection.exec_driver_sql("drop table if exists t")
        connection.exec_driver_sql(f"create table t(id bigint primary key, moment {declared} null)")
        mark = "?" if dialect in ("sqlite", "duckdb") else "%s"
        rows: list[tuple[int, Any]] = []
        for number, moment in enumerate(times):
            if moment is None or dialect == "sqlite":
                rows.append((number, moment and write_time(moment, kind, number)))
            else:
                utc = moment if kind.upper().startswith("TIMESTAMPTZ") else moment.replace(tzinfo=None)
                rows.append((number, str(utc)))
        # not in the order of time
        connection.exec_driver_sql(f"insert into t values ({mark}, {mark})", rows[1::2] + rows[::2] or [(-1, None)])
        for number, never in enumerate(EMPTY_TIMES.get(dialect, ())):
            connection.exec_driver_sql(f"insert into t values ({-2 - number}, '{never}')")
        if index:
            connection.exec_driver_sql("create index by_time on t(moment)")


def check_slices(database: Database, size: int) -> list[Partition]:
    """Read all slices, and check that they have the interval's rows, each once."""
    source = reader(database)
    whole = Counter(source.read(DAY)["id"].to_pylist())
    plan = source.plan(DAY, size)
    read = [source.read(DAY, each)["id"].to_pylist() for each in plan.partitions]
    assert Counter(key for keys in read for key in keys) == whole
    assert plan.rows == sum(whole.values())
    assert [len(keys) for keys in read] == [each.rows for each in plan.partitions]
    assert [(each.index, each.of) for each in plan.partitions] == [(i, len(read)) for i in range(len(read))]
    return list(plan.partitions)


@pytest.mark.parametrize(("dialect", "kind"), EVERY)
def test_slices_have_each_row_of_the_interval_once(open_shop: Any, dialect: str, kind: str) -> None:
    if dialect == "mariadb" and INSTALLED is None:
        pytest.skip(SKIPPED)
    database = open_shop(dialect)

    @given(st.lists(st.one_of(st.none(), offsets), max_size=40), st.integers(1, 20), st.booleans())
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    def check(moments: list[timedelta | None], size: int, index: bool) -> None:
        make_table(database, dialect, kind, [m if m is None else START + m for m in moments], index)
        check_slices(database, size)
        with exported_snapshot(database) as snapshot:
            if snapshot is not None:
                check_slices(replace(database, snapshot=snapshot), size)

    check()


def make_doubled(place: Place, index: bool, second: str) -> None:
    """Give payment 7 a second row in the evening, in a table without a unique key."""
    with place.shop.writing() as connection:
        connection.exec_driver_sql("update payments set created_at = '2026-01-01 01:00:00' where payment_id = 7")
        connection.exec_driver_sql("create table copied as select * from payments")
        connection.exec_driver_sql("drop table payments")
        connection.exec_driver_sql("alter table copied rename to payments")
        columns = "payment_id, '2026-01-01 23:00:00', updated_at, amount, items, country, first"
        columns = columns if place.shop.dialect == "sqlite" else columns.replace("'2026", "timestamp '2026")
        source = columns.replace("amount", second)
        connection.exec_driver_sql(f"insert into payments select {source} from payments where payment_id = 7")
        if index:
            connection.exec_driver_sql("create index by_time on payments(created_at)")


@pytest.mark.parametrize("second", ["amount", "null"], ids=["accepted", "quarantined"])
@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_key_with_rows_at_two_times_halts_by_name(
    make_place: Callable[..., Place], dialect: str, index: bool, second: str
) -> None:
    spec = SPEC.replace("partition_rows: 150", "partition_rows: 10")
    place = make_place(dialect, "sqlite", spec=spec, days=1, a_day=40)
    make_doubled(place, index, second)

    ended = Driver(load_pipeline(place.spec), connect, place.registry).run(START + timedelta(days=1))[-1]

    assert ended.startswith("halted: `card-risk` 2026-01-01")
    assert "the key `payment_id` of source `payments` is not unique: 7 (2 rows)" in ended


def test_a_table_that_is_rewritten_in_mid_run_is_published_by_the_next_run_only(
    make_place: Callable[..., Place],
) -> None:
    """VACUUM FULL gives the rows that a snapshot sees other places."""
    spec = SPEC.replace("partition_rows: 150", "partition_rows: 10")
    place = make_place("postgresql", "sqlite", spec=spec, days=1, a_day=40)
    with place.shop.writing() as connection:
        connection.exec_driver_sql("update payments set amount = amount where payment_id < 15")  # free places
    driver = Driver(load_pipeline(place.spec), connect, place.registry)
    steps = driver.steps(START + timedelta(days=1))
    assert list(takewhile(lambda step: step != "load 1/4", steps))

    with place.shop.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("vacuum full payments")
    ended = list(steps)[-1]

    assert "40 rows were counted, but 10 extracted in the same snapshot" in ended
    assert driver.run(START + timedelta(days=1))[-1] == "publish"
    assert [row[0] for row in view_rows(place.warehouse)] == list(range(1, 41))


@pytest.mark.parametrize(
    ("table", "way"),
    [
        ("create table t(id bigint primary key, moment timestamptz)", "places"),
        ("create table t(id bigint primary key, moment timestamptz); create index on t(moment)", "span"),
        ("create table t(id bigint primary key, moment timestamptz); create index on t using brin(moment)", "span"),
        ("create table t(id bigint primary key, moment timestamptz); create index on t(moment) where id > 0", "places"),
        ("create table t(id bigint, moment timestamptz); create unique index on t(id) where id > 0", "places"),
        ("create table t(id bigint primary key, moment timestamptz); create table u(x int) inherits (t)", "key"),
        (
            "create table t(id bigint, moment timestamptz) partition by range (moment); "
            "create table u partition of t for values from ('2026-01-01') to ('2026-01-01 12:00'); "
            "create table v partition of t default",
            "span",
        ),
        ("create table r(id bigint, moment timestamptz); create view t as select * from r", "span"),
    ],
)
def test_what_postgres_cuts_along(open_shop: Any, table: str, way: str) -> None:
    database = open_shop("postgresql")
    with database.writing() as connection:
        connection.exec_driver_sql(table)
        hours = "select n, timestamptz '2026-01-01' + n * interval '1 hour' from generate_series(0, 30) n"
        connection.exec_driver_sql(f"insert into t {hours}")
    with exported_snapshot(database) as snapshot:
        partitions = check_slices(replace(database, snapshot=snapshot), 5)

    assert len(partitions) == 5
    assert {bool(each.places) for each in partitions} == {way == "places"}
    assert {bool(each.span) for each in partitions} == {way == "span"}
    assert all(pickle.loads(pickle.dumps(each)) == each for each in partitions)
    if way == "places":
        assert not any(each.places for each in check_slices(database, 5))  # rows can move without a snapshot


@pytest.mark.parametrize(
    ("hours", "way"), [("n", "span"), ("mod(n * 7919, 20000)", "places")], ids=["in order", "scattered"]
)
def test_scattered_rows_are_cut_along_the_places_in_spite_of_an_index(open_shop: Any, hours: str, way: str) -> None:
    database = open_shop("postgresql")
    with database.writing() as connection:
        connection.exec_driver_sql("create table t(id bigint primary key, moment timestamptz)")
        seconds = f"timestamptz '2026-01-01' + ({hours}) * interval '1 second'"
        connection.exec_driver_sql(f"insert into t select n, {seconds} from generate_series(0, 19999) n")
        connection.exec_driver_sql("create index on t(moment)")
        connection.exec_driver_sql("analyze t")
    with exported_snapshot(database) as snapshot:
        partitions = check_slices(replace(database, snapshot=snapshot), 5000)

    assert len(partitions) == 4
    assert {bool(each.places) for each in partitions} == {way == "places"}


def test_many_rows_of_one_moment_are_cut_along_the_key_with_rows_without_a_key(open_shop: Any) -> None:
    database = open_shop("sqlite")
    with database.writing() as connection:
        connection.exec_driver_sql("create table t(id bigint, moment text)")
        connection.exec_driver_sql("create index by_time on t(moment)")
        rows = [(n if n % 5 else None, "2026-01-01 12:00:00" if n < 40 else "2026-01-01 13:00") for n in range(50)]
        connection.exec_driver_sql("insert into t values (?, ?)", rows)
    source = reader(database)
    partitions = source.plan(DAY, 10).partitions

    assert {each.span and each.span.start.hour for each in partitions} == {0, 12}
    assert any(each.lower is not None for each in partitions)
    read = [key for each in partitions for key in source.read(DAY, each)["id"].to_pylist()]
    assert Counter(read) == Counter(key for key, _ in rows)
