"""MariaDB as a source, on a server of the tests' own."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from penstock.database.connections import Connector, Database, open_database
from penstock.errors import (
    AccessDenied,
    DatabaseLocked,
    DatabaseUnavailable,
    HorizonHidden,
    MissingTable,
    QueryFailed,
    SettingsError,
    UnreadableTime,
)
from penstock.interval import DataInterval
from penstock.sources import SourceReader, open_source
from penstock.sources.open_transactions import read_horizon
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from tests.conftest import DIALECTS, view_rows
from tests.driver import Driver
from tests.mariadb import MariadbServer
from tests.shop import START, Place

DAY = DataInterval(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC))


@pytest.fixture
def shop(mariadb: MariadbServer, use_settings: Callable[..., Any]) -> Iterator[Database]:
    name = mariadb.make_database()
    yield open_database(use_settings(shop=mariadb.url(name)), "shop")
    mariadb.execute(f"drop database {name}")


@pytest.fixture
def execute(mariadb: MariadbServer, shop: Database) -> Callable[..., Any]:
    return lambda *statements: mariadb.execute(*statements, database=shop.url.database)


def pipeline(time: str | None = None, partition_by: str | None = None, key: str = "id", **source: Any) -> Pipeline:
    spec: dict[str, Any] = {
        "name": "rows",
        "sources": {"rows": {"kind": "sql", "connection": "shop", "key": [key], **source}},
        "model": "m@1",
        "destination": {"table": "scores"},
    }
    if time:
        spec["interval"] = {"column": time, "grain": "1d", "start": "2026-03-01"}
    if partition_by:
        spec["partition_by"] = partition_by
    return Pipeline.model_validate(spec)


def reader(spec: Pipeline, database: Database) -> SourceReader:
    return open_source(spec, "rows", Connector(lambda _: database, ()))


def read_all(spec: Pipeline, database: Database, interval: DataInterval | None, size: int = 1000) -> list[pa.Table]:
    source = reader(spec, database)
    return [source.read(interval, each) for each in source.plan(interval, size).partitions]


# --- types ---------------------------------------------------------------------------------------

COLUMNS = {
    "big": ("bigint unsigned", "18446744073709551615", Decimal(18446744073709551615), pa.decimal128(20, 0)),
    "small": ("tinyint", "-128", -128, pa.int64()),
    "flag": ("tinyint(1)", "1", 1, pa.int64()),
    "exact": ("decimal(38,10)", "1234567890123456789012345678.0123456789", None, pa.decimal128(38, 10)),
    "bit1": ("bit(1)", "b'1'", 1, pa.int64()),
    "bits": ("bit(12)", "b'101010101010'", 0b101010101010, pa.int64()),
    "bits64": ("bit(64)", "18446744073709551615", Decimal(18446744073709551615), pa.decimal128(20, 0)),
    "single": ("float", "16777217.5", 16777218.0, pa.float64()),
    "tenth": ("float", "0.1", 0.10000000149011612, pa.float64()),
    "fraction": ("double", "0.1234567890123456", 0.1234567890123456, pa.float64()),
    "year_": ("year", "2026", 2026, pa.int64()),
    "clock": ("time(3)", "'-838:59:58.500'", "-838:59:58.500", pa.string()),
    "day": ("date", "'2026-03-01'", date(2026, 3, 1), pa.date32()),
    "kind": ("enum('b','a')", "'a'", "a", pa.string()),
    "several": ("set('x','y')", "'x,y'", "x,y", pa.string()),
    "doc": ("json", """'{"a": [1, 2]}'""", '{"a": [1, 2]}', pa.string()),
    "bytes_": ("blob", "x'00ff'", "\\x00ff", pa.string()),
    "word": ("varchar(20) collate utf8mb4_general_ci", "'Köln 🚲'", "Köln 🚲", pa.string()),
    "latin": ("varchar(20) character set latin1", "'Köln €'", "Köln €", pa.string()),
    "id_": ("uuid", "'123e4567-e89b-12d3-a456-426655440000'", "123e4567-e89b-12d3-a456-426655440000", pa.string()),
    "stamp": ("timestamp(6)", "'2026-03-01 10:00:00.123456'", datetime(2026, 3, 1, 8, 0, 0, 123456, tzinfo=UTC), None),
    "moment": ("datetime(6)", "'2026-03-01 10:00:00.123456'", datetime(2026, 3, 1, 10, 0, 0, 123456, tzinfo=UTC), None),
}


@pytest.mark.parametrize("way", ["table", "query"])
def test_every_type_is_read_exactly_and_alike_where_all_values_are_null(
    shop: Database, execute: Callable[..., Any], way: str
) -> None:
    columns = ", ".join(f"{name} {kind} null" for name, (kind, *_) in COLUMNS.items())
    values = ", ".join(value for _, value, *_ in COLUMNS.values())
    execute(
        f"create table rows_ (id int primary key, {columns})",
        f"insert into rows_ values (1, {values})",
        "insert into rows_ (id) values (2)",
        "update rows_ set stamp = null where id = 2",
    )
    spec = pipeline(table="rows_") if way == "table" else pipeline(query="select * from rows_")

    full, empty = read_all(spec, shop, None, size=1)

    for name, (_, text, value, kind) in COLUMNS.items():
        expected = Decimal(text) if value is None else value
        assert full[name].to_pylist() == [expected], name
        assert empty[name].to_pylist() == [None], name
        assert full.schema.field(name).type == empty.schema.field(name).type, name
        assert kind is None or full.schema.field(name).type == kind, name


def test_a_decimal_of_more_digits_than_arrow_has_is_near_as_a_feature_and_text_as_a_key(
    shop: Database, execute: Callable[..., Any]
) -> None:
    digits = "1" + "0" * 30 + "." + "0" * 27 + "123"
    execute("create table wide (id int primary key, n decimal(65,30))", f"insert into wide values (1, {digits})")

    (table,) = read_all(pipeline(table="wide"), shop, None)

    assert table["n"].to_pylist() == [1e30]
    (table,) = read_all(pipeline(table="wide", key="n"), shop, None)
    assert table["n"].to_pylist() == [digits]


@pytest.mark.parametrize("null", ["null", "not null"])
def test_dates_that_no_calendar_has_come_as_minus_infinity_and_belong_to_no_interval(
    shop: Database, execute: Callable[..., Any], null: str
) -> None:
    execute(
        f"create table zero (id int primary key, at datetime {null}, day date, stamp timestamp null)",
        "insert into zero values (1, '0000-00-00 00:00:00', '0000-00-00', '0000-00-00 00:00:00'), "
        "(2, '2026-03-01 10:00:00', '2026-00-15', null), (3, '2026-03-01 11:00:00', '2026-03-01', null)",
    )
    spec = pipeline(time="at", table="zero")

    (inside,) = read_all(spec, shop, DAY)
    (everything,) = read_all(pipeline(table="zero"), shop, None)

    assert inside["id"].to_pylist() == [2, 3]
    assert reader(spec, shop).count_without_time(DAY) == 1
    assert everything["day"].cast(pa.int32()).to_pylist() == [-(2**31) + 1, -(2**31) + 1, 20513]
    assert everything["stamp"].cast(pa.int64()).to_pylist() == [-(2**63) + 1, None, None]


# --- keys and partitions -------------------------------------------------------------------------


@pytest.mark.parametrize("collation", ["utf8mb4_general_ci", "utf8mb4_unicode_ci", "latin1_swedish_ci", "utf8mb4_bin"])
@pytest.mark.parametrize("partition_by", [None, "word"])
def test_each_row_is_in_one_partition_whatever_the_collation_holds_for_equal(
    shop: Database, execute: Callable[..., Any], collation: str, partition_by: str | None
) -> None:
    words = ["a", "A", "a ", "á", "b", "B", "ab", "Ab", "z", "ß", "ss", "", " "]
    charset = collation.partition("_")[0]
    execute(
        f"create table words (id int primary key, word varchar(20) character set {charset} collate {collation})",
        "insert into words values (1000, null)",
        *(f"insert into words values ({i}, '{words[i % len(words)]}')" for i in range(52)),
    )
    spec = pipeline(table="words", key="word" if partition_by is None else "id", partition_by=partition_by)

    for size in (1, 2, 5, 13, 60):
        tables = read_all(spec, shop, None, size)
        assert sorted(i for table in tables for i in table["id"].to_pylist()) == [*range(52), 1000], size
        seen = [set(table["word"].to_pylist()) for table in tables]
        assert not any(a & b for n, a in enumerate(seen) for b in seen[n + 1 :]), "a value is in two partitions"


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("enum('z','m','a')", ["'z'", "'m'", "'a'"]),
        ("set('z','m')", ["'z'", "'m'", "'z,m'", "''"]),
        ("decimal(30,10)", ["1.5", "2.4999999999", "-3", "12345678901234567890.5"]),
        ("bigint unsigned", ["0", "9223372036854775808", "18446744073709551615"]),
        ("bit(64)", ["0", "9295429630892703744", "9367487224930631680", "18446744073709551615"]),
        ("float", ["0.1", "0.2", "16777217", "16777219"]),
        ("date", ["'2026-03-01'", "'0000-00-00'", "'1999-12-31'"]),
        ("datetime(6)", ["'2026-03-01 00:00:00.000001'", "'2026-03-01'", "'0000-00-00'"]),
        ("time(6)", ["'-10:00:00'", "'09:00:00.5'", "'100:00:00'"]),
        ("year", ["2026", "1999"]),
        ("varbinary(8)", ["x'00'", "x'ff00'", "x'61'", "x'41'"]),
        ("tinyint(1)", ["0", "1", "7"]),
        ("uuid", ["'123e4567-e89b-12d3-a456-426655440000'", "'023e4567-e89b-12d3-a456-426655440001'"]),
        ("inet6", ["'::1'", "'2001:db8::ff00:42:8329'"]),
    ],
)
@pytest.mark.parametrize("way", ["table", "query"])
@pytest.mark.parametrize("whole_groups", [False, True])
def test_partitions_along_any_type_have_each_row_once(
    shop: Database, execute: Callable[..., Any], kind: str, values: list[str], way: str, whole_groups: bool
) -> None:
    rows = ", ".join(f"({i}, {values[i % len(values)]})" for i in range(30))
    execute(f"create table cuts (id int primary key, k {kind})", f"insert into cuts values {rows}, (99, null)")
    place = {"table": "cuts"} if way == "table" else {"query": "select * from cuts"}
    spec = pipeline(key="id" if whole_groups else "k", partition_by="k" if whole_groups else None, **place)

    for size in (1, 4, 16):
        tables = read_all(spec, shop, None, size)
        assert sorted(i for table in tables for i in table["id"].to_pylist()) == [*range(30), 99], size
        assert len(tables) > 1 or size == 16
        if size == 1:  # bounds that are no values of the column would put several into one partition
            assert max(len(table["k"].drop_null().unique()) for table in tables) == 1


def test_the_fingerprint_shows_a_change_that_the_collation_does_not(
    shop: Database, execute: Callable[..., Any]
) -> None:
    execute(
        "create table words (word varchar(9) primary key, changed timestamp(6))",
        "insert into words values ('a', '2026-03-01'), ('b', '2026-03-05')",
    )
    plain, dated = pipeline(table="words", key="word"), pipeline(table="words", key="word", updated_column="changed")
    before, dated_before = (reader(each, shop).fingerprint(None) for each in (plain, dated))

    execute("update words set word = 'A' where word = 'a'")
    assert reader(plain, shop).fingerprint(None) != before
    execute("update words set word = 'a', changed = '2026-03-02' where word = 'A'")  # not the newest change
    assert reader(plain, shop).fingerprint(None) == before
    assert reader(dated, shop).fingerprint(None) != dated_before


def test_odd_names_and_a_percent_sign_in_a_query_are_taken_as_they_are(
    shop: Database, execute: Callable[..., Any]
) -> None:
    table, column = 'odd "name" %s; --', "a % :b ` c"
    quoted = "`" + column.replace("`", "``") + "`"
    execute(f"create table `{table}` (id int primary key, {quoted} varchar(9))")
    with shop.writing() as connection:
        connection.exec_driver_sql(f"insert into `{table.replace('%', '%%')}` values (1, 'x%%y'), (2, 'z')")

    tables = read_all(pipeline(table=table, key=column), shop, None, size=1)
    assert [t[column].to_pylist() for t in tables] == [["x%y"], ["z"]]
    (found,) = read_all(
        pipeline(query=f"select * from `{table}` where {quoted} like '%\\%%' /* :x 100% */"), shop, None
    )
    assert found["id"].to_pylist() == [1]


def test_the_fingerprint_of_equal_values_does_not_depend_on_the_order_of_the_rows(
    shop: Database, execute: Callable[..., Any]
) -> None:
    execute("create table words (id int primary key, word varchar(9))", "insert into words values (1, 'a'), (2, 'A')")
    source = reader(pipeline(table="words", key="word"), shop)
    before = source.fingerprint(None)

    execute("delete from words where id = 1", "insert into words values (3, 'a')")

    assert source.fingerprint(None) == before


# --- times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["timestamp(6)", "datetime(6)", "date"])
def test_a_timestamp_is_a_moment_and_a_datetime_is_utc_whatever_the_zone_of_the_server(
    shop: Database, execute: Callable[..., Any], kind: str
) -> None:
    execute(
        f"create table times (id int primary key, at {kind} null)",
        "set time_zone = '+00:00'",
        "insert into times values (1, '2026-02-28 23:59:59.999999'), (2, '2026-03-01 00:00:00'), "
        "(3, '2026-03-01 23:59:59.999999'), (4, '2026-03-02 00:00:00'), (5, null)",
    )
    spec, query = (
        pipeline(time="at", table="times"),
        "select * from times where at >= :interval_start and at < :interval_end",
    )

    for each in (spec, pipeline(time="at", query="select * from times"), pipeline(time="at", query=query)):
        (table,) = read_all(each, shop, DAY)
        assert table["id"].to_pylist() == [2, 3], each
        assert table["at"].type == pa.timestamp("us", "UTC")
    assert reader(spec, shop).count_without_time(DAY) == 1


def test_an_event_time_of_another_type_is_refused_with_the_sql_of_the_server(
    shop: Database, execute: Callable[..., Any]
) -> None:
    execute(
        "create table odd (id int primary key, t varchar(20), n bigint)", "insert into odd values (1, '01.03.2026', 1)"
    )

    with pytest.raises(UnreadableTime, match=r"cast\(t as datetime\) as event_time"):
        reader(pipeline(time="t", table="odd"), shop).plan(DAY, 10)
    with pytest.raises(UnreadableTime, match=r"from_unixtime\(n\) as event_time"):
        reader(pipeline(time="n", table="odd"), shop).plan(DAY, 10)


# --- errors --------------------------------------------------------------------------------------


def when_reading(mariadb: MariadbServer, act: Callable[[int], None]) -> threading.Thread:
    """Act once a partition is read slowly. The action takes the number of the connection that reads."""

    def work() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            for number, text in mariadb.execute("select id, info from information_schema.processlist"):
                if text and "sleep(" in text and not re.search(r"processlist|count\(|row_number|limit", text, re.I):
                    act(number)
                    return
            time.sleep(0.02)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def kill_when_reading(mariadb: MariadbServer, how: str) -> threading.Thread:
    """Kill the query or the connection that reads slowly, once it does."""
    return when_reading(mariadb, lambda number: mariadb.execute(f"kill {how} {number}"))


SLOW = "select seq as id, sleep(0.2) as x from seq_1_to_100"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["connection", "query"])
def test_a_read_that_is_killed_may_be_read_again(mariadb: MariadbServer, shop: Database, how: str) -> None:
    killer = kill_when_reading(mariadb, how)

    with pytest.raises(DatabaseUnavailable, match=r"Lost connection|interrupted|killed"):
        reader(pipeline(query=SLOW), shop).read(None)

    killer.join()
    assert reader(pipeline(query="select 1 as id"), shop).read(None).num_rows == 1


@pytest.mark.slow
def test_a_server_that_is_killed_in_mid_read_is_transient_and_read_again_when_it_is_back(
    mariadb: MariadbServer, shop: Database
) -> None:
    import signal

    def work() -> None:
        time.sleep(1)
        mariadb.stop(signal.SIGKILL)

    killer = threading.Thread(target=work)
    killer.start()
    try:
        with pytest.raises(DatabaseUnavailable, match="Lost connection"):
            reader(pipeline(query=SLOW), shop).read(None)
        killer.join()
        with pytest.raises(DatabaseUnavailable, match="Can't connect"):
            reader(pipeline(query="select 1 as id"), shop).read(None)
    finally:
        killer.join()
        mariadb.start()
    assert reader(pipeline(query="select 1 as id"), shop).read(None).num_rows == 1


def test_a_query_that_runs_too_long_is_ended_by_the_server(
    mariadb: MariadbServer, use_settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_STATEMENT_SECONDS", "1")
    shop = open_database(use_settings(shop=mariadb.url("mysql")), "shop")
    begun = time.monotonic()

    with pytest.raises(DatabaseUnavailable, match="max_statement_time"):
        reader(pipeline(query=SLOW), shop).read(None)

    assert time.monotonic() - begun < 8


def test_a_table_that_another_session_locks_is_waited_for_and_then_named(
    mariadb: MariadbServer, shop: Database, execute: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.database.connections import close_engines
    from penstock.database.dialects import mysql
    from penstock.tasks.process_resources import settings

    execute("create table busy (id int primary key)", "insert into busy values (1)")
    monkeypatch.setattr(mysql, "BUSY_SECONDS", 1)
    close_engines()
    shop = open_database(settings(), "shop")
    with mariadb.connect(shop.url.database) as other, other.cursor() as cursor:
        cursor.execute("lock tables busy write")
        with pytest.raises(DatabaseLocked, match="Lock wait timeout"):
            reader(pipeline(query="select * from busy"), shop).read(None)
        cursor.execute("unlock tables")
    assert reader(pipeline(table="busy"), shop).read(None).num_rows == 1


def test_a_deadlock_is_transient(shop: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match="Deadlock"), shop.reading() as connection:
        connection.exec_driver_sql(
            "begin not atomic signal sqlstate '40001' set mysql_errno = 1213, "
            "message_text = 'Deadlock found when trying to get lock'; end"
        )


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("select nothing from nowhere", QueryFailed),
        ("selec 1", QueryFailed),
    ],
)
def test_a_mistake_is_no_outage(shop: Database, statement: str, error: type[Exception]) -> None:
    with pytest.raises(error), shop.reading() as connection:
        connection.exec_driver_sql(statement)


def test_a_missing_table_and_a_wrong_password_are_named(
    mariadb: MariadbServer, shop: Database, execute: Callable[..., Any], use_settings: Callable[..., Any]
) -> None:
    execute("create table payments (id int primary key)")
    with pytest.raises(MissingTable, match="payments"):
        reader(pipeline(table="payment"), shop).read(None)
    mariadb.execute("create or replace user someone@'127.0.0.1' identified by 'right-password'")
    url = mariadb.url("mysql").replace("root@", "someone:wrong-password@")
    wrong = open_database(use_settings(wrong=url), "wrong")
    with pytest.raises(AccessDenied) as denied:
        reader(pipeline(query="select 1 as id"), wrong).read(None)
    assert "wrong-password" not in str(denied.value)


def test_an_error_quotes_no_value_of_a_row(shop: Database, execute: Callable[..., Any]) -> None:
    execute("create table secret (id int primary key, v varchar(50))", "insert into secret values (1, 'my-secret')")
    execute("create table numbers (n int)")
    with pytest.raises(QueryFailed) as failed, shop.reading() as connection:
        connection.exec_driver_sql(
            "begin not atomic set sql_mode = 'STRICT_ALL_TABLES'; insert into numbers select v from secret; end"
        )
    assert "my-secret" not in str(failed.value)


# --- runs ----------------------------------------------------------------------------------------

NOW = START + timedelta(days=10)


def driver(place: Place, **more: Any) -> Driver:
    return Driver(load_pipeline(place.spec).model_copy(update=more), connect, place.registry)


@pytest.mark.parametrize("warehouse", DIALECTS)
def test_a_pipeline_scores_rows_of_mariadb_as_those_of_sqlite(make_place: Callable[..., Place], warehouse: str) -> None:
    other = make_place("sqlite", "duckdb" if warehouse == "sqlite" else "sqlite")
    driver(other).run(NOW)
    expected = view_rows(other.warehouse)

    place = make_place("mariadb", warehouse)
    steps = driver(place, partition_rows=40).run(NOW)

    assert steps.count("publish") == 3
    assert len(expected) == 750
    assert view_rows(place.warehouse) == expected


def test_rows_that_change_between_two_partitions_fail_the_run_by_name_and_are_read_again(
    make_place: Callable[..., Place], mariadb: MariadbServer
) -> None:
    place = make_place("mariadb", "sqlite", days=1, a_day=60)
    steps = driver(place, partition_rows=20).steps(NOW)
    for step in steps:
        if "load" in step:
            break
    mariadb.execute(
        "update payments set amount = amount + 1, updated_at = now() limit 1", database=place.shop.url.database
    )
    [failed] = [step for step in steps if "failed" in step]
    assert "source `payments`: rows of `shop` changed while the run read them" in failed

    driver(place, partition_rows=20).run(NOW)
    assert [row[0] for row in view_rows(place.warehouse)] == [*range(1, 61)]


def test_one_partition_reads_one_moment_and_needs_no_second_look(
    make_place: Callable[..., Place], mariadb: MariadbServer
) -> None:
    place = make_place("mariadb", "sqlite", days=1, a_day=60)
    steps = driver(place, partition_rows=1000).steps(NOW)
    for step in steps:
        if "load" in step:
            break
    mariadb.execute("update payments set updated_at = now() limit 1", database=place.shop.url.database)

    assert "publish" in list(steps)


@pytest.mark.slow
def test_a_flow_whose_connection_is_killed_in_mid_read_reads_again_and_publishes(
    make_place: Callable[..., Place], mariadb: MariadbServer, prefect_api: str
) -> None:
    from penstock.flows.score import score

    place = make_place("mariadb", "sqlite", days=1, a_day=60)
    slow = "query: select p.*, sleep(0.02) as nothing from payments p"
    place.spec.write_text(place.spec.read_text().replace("table: payments\n", f"{slow}\n"))
    killer = kill_when_reading(mariadb, "connection")

    ended = score(str(place.spec), end="2026-01-02", return_state=True)
    killer.join()

    assert ended.name == "Completed", ended.message
    assert [row[0] for row in view_rows(place.warehouse)] == [*range(1, 61)]


def test_a_check_reads_a_sample_of_mariadb_and_makes_no_note_of_it(make_place: Callable[..., Place]) -> None:
    from typer.testing import CliRunner

    from penstock.cli.app import app

    make_place("mariadb", "sqlite", a_day=60)
    ended = CliRunner().invoke(app, ["check", "card-risk.yaml", "--end", "2026-01-02"])

    assert ended.exit_code == 0, ended.output
    assert "1 pipeline checked: all well" in ended.output
    assert "not tested" not in ended.output


def test_a_row_with_a_date_that_no_calendar_has_is_refused_where_the_date_is_kept(
    make_place: Callable[..., Place], mariadb: MariadbServer
) -> None:
    from penstock.ledger.quarantine import quarantined_rows

    place = make_place("mariadb", "sqlite", days=1, a_day=60)
    mariadb.execute(
        "alter table payments add column day date",
        "update payments set day = if(payment_id = 7, '0000-00-00', '2026-01-01')",
        database=place.shop.url.database,
    )
    kept = driver(place).pipeline.destination.model_copy(update={"keep": ("amount", "country", "day")})
    steps = driver(place, destination=kept).run(NOW)

    assert "publish" in steps
    assert len(view_rows(place.warehouse)) == 59
    [row] = quarantined_rows(place.warehouse)
    assert (row.key, "a time outside the years 1 to 9999" in str(row)) == ('{"payment_id": 7}', True)


@pytest.mark.slow
def test_a_flow_reads_an_interval_again_whose_rows_changed_between_its_partitions(
    make_place: Callable[..., Place], mariadb: MariadbServer, prefect_api: str
) -> None:
    from penstock.flows.score import score
    from penstock.ledger.reader import list_runs

    place = make_place("mariadb", "sqlite", days=1, a_day=60)
    slow = "query: select p.*, sleep(0.02) as nothing from payments p"
    place.spec.write_text(place.spec.read_text().replace("table: payments\n", f"{slow}\n").replace("150", "20"))
    change = "update payments set amount = 1, updated_at = '2026-02-01' where payment_id = 1"
    changer = when_reading(mariadb, lambda _: mariadb.execute(change, database=place.shop.url.database))

    ended = score(str(place.spec), end="2026-01-02", return_state=True)
    changer.join()

    assert ended.name == "Completed", ended.message
    assert sorted(run.state for run in list_runs(place.warehouse)) == ["failed", "published"]
    first, *_ = view_rows(place.warehouse)
    assert (first[0], first[2]) == (1, 1.0)


# --- what it cannot do ---------------------------------------------------------------------------


def test_it_is_refused_as_a_warehouse_by_name(shop: Database) -> None:
    from penstock.ledger.migrations import has_ledger, migrate

    for use in (migrate, has_ledger):
        with pytest.raises(SettingsError, match=r"`shop` is MariaDB or MySQL, .* no warehouse.*Name a Postgres"):
            use(shop)


def test_it_does_not_show_open_transactions(shop: Database) -> None:
    with pytest.raises(HorizonHidden, match="MariaDB or MySQL does not show"):
        read_horizon(shop)
