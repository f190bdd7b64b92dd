"""Sources on real databases and files: odd names, odd keys, odd times; every row in one partition, never two."""

import gzip
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from penstock.database.bulk import bulk_transaction, read
from penstock.database.connections import Connector, Database, open_database
from penstock.database.types import TIMESTAMP
from penstock.errors import (
    AccessDenied,
    BrokenFile,
    DatabaseUnavailable,
    KeyCollision,
    MissingColumns,
    MissingTable,
    NoFiles,
    QueryFailed,
    SettingsError,
    UnreadableTime,
)
from penstock.interval import DataInterval, Grid
from penstock.run.extract import land_logs
from penstock.run_types import Partition
from penstock.sources import SourceReader, open_source
from penstock.sources.logs.landed import LogReader
from penstock.sources.logs.landing import Landing
from penstock.spec.pipeline import Pipeline
from tests.conftest import DIALECTS

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = DataInterval(START, START + timedelta(days=1))
TEXT = {"text": ["invoice"]}
WEEKLY = {"column": "created_at", "grain": "7d", "start": "2026-01-01"}


def pipeline(source: dict[str, Any], column: str | None = "created_at", **more: Any) -> Pipeline:
    interval = {"interval": {"column": column, "grain": "1d", "start": "2026-01-01"}} if column else {}
    return Pipeline.model_validate(
        {"name": "p", "sources": {"rows": source}, "model": "m@1", "destination": {"table": "t"}} | interval | more
    )


@pytest.fixture(params=DIALECTS)
def database(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(shop=database_url(request.param, "shop")), "shop")


def reader(spec: Pipeline, database: Database) -> SourceReader:
    return open_source(spec, "rows", Connector(lambda _: database, ()))


def sql(**more: Any) -> dict[str, Any]:
    return {"kind": "sql", "connection": "shop", "key": ["id"]} | more


def make_table(database: Database, name: str, columns: list[sa.Column[Any]], rows: list[dict[str, Any]]) -> None:
    table = sa.Table(name, sa.MetaData(), *columns)
    table.create(database.engine)
    with database.writing() as connection:
        connection.execute(table.insert(), rows)


def read_in_slices(source: SourceReader, interval: DataInterval | None, rows: int) -> tuple[list[pa.Table], int]:
    source_plan = source.plan(interval, rows)
    return [source.read(interval, p) for p in source_plan.partitions], source_plan.rows


def test_reserved_words_and_mixed_case_are_names_like_any_other(database: Database) -> None:
    columns = [sa.Column("Group", sa.BigInteger), sa.Column("order", sa.Double), sa.Column("select From", sa.Text)]
    make_table(database, "Order", columns, [{"Group": i, "order": i / 2, "select From": f"v{i}"} for i in range(30)])
    source = reader(pipeline(sql(table="Order", key=["Group"]), None), database)

    tables, count = read_in_slices(source, None, 7)

    assert (count, [t.num_rows for t in tables]) == (30, [7, 7, 7, 7, 2])
    assert pa.concat_tables(tables).sort_by("Group").to_pylist()[3] == {"Group": 3, "order": 1.5, "select From": "v3"}


def test_ties_of_a_composite_key_stay_together_and_null_keys_are_not_lost(database: Database) -> None:
    columns = [sa.Column("store", sa.Text), sa.Column("id", sa.BigInteger)]
    rows = [{"store": f"s{i // 10}", "id": i} for i in range(50)] + [{"store": None, "id": 99}]
    make_table(database, "sales", columns, rows)
    source = reader(pipeline(sql(table="sales", key=["store", "id"]), None), database)

    tables, count = read_in_slices(source, None, 12)

    assert count == 51
    stores = [set(t["store"].to_pylist()) - {None} for t in tables]
    assert sum(len(s) for s in stores) == len(set().union(*stores)) == 5
    assert sorted(pa.concat_tables(tables)["id"].to_pylist()) == [*range(50), 99]


@pytest.mark.parametrize("keys", [["b", "a", "ä", "Z", "É", "zz", "", "A"], [-3, 2**53 + 1, 2**53, 0, 7]])
def test_text_and_large_keys_fall_into_exactly_one_partition(database: Database, keys: list[Any]) -> None:
    kind = sa.Text if isinstance(keys[0], str) else sa.BigInteger
    make_table(database, "things", [sa.Column("id", kind)], [{"id": key} for key in keys])
    source = reader(pipeline(sql(table="things"), None), database)

    tables, count = read_in_slices(source, None, 2)

    assert count == len(keys)
    found = [value for t in tables for value in t["id"].to_pylist()]
    assert sorted(found) == sorted(keys)


def test_an_interval_holds_its_start_and_not_its_end(database: Database) -> None:
    moments = [START - timedelta(microseconds=1), START, DAY.end - timedelta(microseconds=1), DAY.end]
    aware = database.dialect == "postgresql"
    for name, zone in (("zoned", True), ("naive", False)):
        rows = [{"id": i, "created_at": m if aware and zone else m.replace(tzinfo=None)} for i, m in enumerate(moments)]
        make_table(
            database, name, [sa.Column("id", sa.BigInteger), sa.Column("created_at", sa.DateTime(timezone=zone))], rows
        )

        table = reader(pipeline(sql(table=name)), database).read(DAY)

        assert table["id"].to_pylist() == [1, 2]
        assert table.schema.field("created_at").type == TIMESTAMP
        assert table["created_at"].to_pylist() == moments[1:3]


def test_a_query_takes_the_interval_as_bound_values(database: Database) -> None:
    rows = [{"id": i, "created_at": (START + timedelta(hours=i)).replace(tzinfo=None)} for i in range(48)]
    make_table(database, "events", [sa.Column("id", sa.BigInteger), sa.Column("created_at", sa.DateTime)], rows)
    query = "select id, created_at, 'a::b' as note from events where created_at < :interval_end"

    tables, count = read_in_slices(reader(pipeline(sql(query=query)), database), DAY, 5)

    assert count == 24
    assert sorted(pa.concat_tables(tables)["id"].to_pylist()) == list(range(24))
    assert set(pa.concat_tables(tables)["note"].to_pylist()) == {"a::b"}


def test_a_missing_table_and_a_missing_column_name_the_nearest(database: Database) -> None:
    make_table(database, "payments", [sa.Column("id", sa.BigInteger)], [{"id": 1}])
    with pytest.raises(MissingTable, match=r"`paymets`\. Did you mean `payments`\?"):
        reader(pipeline(sql(table="paymets")), database).plan(DAY, 10)
    with pytest.raises(MissingColumns, match="`created_at`"):
        reader(pipeline(sql(table="payments")), database).plan(DAY, 10)
    with pytest.raises(QueryFailed):
        reader(pipeline(sql(query="select nothing from nowhere"), None), database).plan(None, 10)


def test_a_table_that_gets_other_columns_is_read_with_them(database: Database) -> None:
    make_table(database, "payments", [sa.Column("id", sa.BigInteger), sa.Column("old", sa.Text)], [{"id": 1}])
    source = reader(pipeline(sql(table="payments"), None), database)
    assert source.read(None).column_names == ["id", "old"]
    for statement, columns in (
        ("alter table payments add column amount double precision", ["id", "old", "amount"]),
        ("alter table payments rename column old to note", ["id", "note", "amount"]),
        ("alter table payments drop column note", ["id", "amount"]),
    ):
        with database.writing() as connection:
            connection.exec_driver_sql(statement)
        assert source.read(None).column_names == columns
        assert source.read(None).column_names == columns


def test_the_fingerprint_sees_rows_come_go_and_change(database: Database) -> None:
    columns = [sa.Column("id", sa.BigInteger), sa.Column("created_at", sa.DateTime), sa.Column("changed", sa.DateTime)]
    at = START.replace(tzinfo=None)
    make_table(database, "p", columns, [{"id": i, "created_at": at, "changed": at} for i in range(3)])
    source = reader(pipeline(sql(table="p", updated_column="changed")), database)
    seen = {source.fingerprint(DAY)}

    for statement in (
        "update p set changed = '2026-01-05 00:00:00' where id = 1",
        "insert into p values (9, '2026-01-01 05:00:00', '2026-01-01 00:00:00')",
        "delete from p where id = 0",
    ):
        with database.writing() as connection:
            connection.execute(sa.text(statement))
        seen.add(source.fingerprint(DAY))

    assert len(seen) == 4


def test_types_come_out_alike_from_every_database(database: Database) -> None:
    columns = [
        sa.Column("id", sa.BigInteger),
        sa.Column("small", sa.SmallInteger),
        sa.Column("money", sa.Numeric(12, 2)),
        sa.Column("flag", sa.Boolean),
        sa.Column("day", sa.Date),
        sa.Column("empty", sa.Double),
        sa.Column("late_float", sa.Double),
    ]
    rows = [
        {"id": i, "small": None if i else 7, "money": 1.25, "flag": bool(i % 2), "day": date(2026, 1, 1), "empty": None}
        | {"late_float": None if i < 2000 else 0.5}
        for i in range(2001)
    ]
    make_table(database, "kinds", columns, rows)

    table = reader(pipeline(sql(table="kinds"), None), database).read(None)

    assert {f.name: f.type for f in table.schema} == {
        "id": pa.int64(),
        "small": pa.int64(),
        "money": pa.float64() if database.dialect == "sqlite" else pa.decimal128(12, 2),  # SQLite stores floats
        "flag": pa.bool_(),
        "day": pa.date32(),
        "empty": pa.float64(),
        "late_float": pa.float64(),
    }
    assert table.sort_by("id")["late_float"].to_pylist()[-1] == 0.5


def test_a_typed_table_gives_its_times_and_booleans_on_every_database(database: Database) -> None:
    typed = sa.Table("typed", sa.MetaData(), sa.Column("seen", sa.DateTime()), sa.Column("good", sa.Boolean()))
    with database.writing() as connection:
        typed.create(connection)
        connection.execute(typed.insert(), {"seen": START.replace(hour=5, tzinfo=None), "good": True})

    assert read(database, sa.select(typed)).to_pylist() == [{"seen": START + timedelta(hours=5), "good": True}]


def test_appended_rows_are_rolled_back_with_their_transaction(database: Database) -> None:
    table = sa.Table("kept", sa.MetaData(), sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False))
    table.create(database.engine)
    rows = pa.table({"id": pa.array([1, 2], pa.int64())})

    def append_and_fail() -> None:
        with bulk_transaction(database) as transaction:
            transaction.append(table, rows)
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        append_and_fail()
    assert read(database, sa.select(table)).num_rows == 0

    with bulk_transaction(database) as transaction:
        transaction.append(table, rows)
    with pytest.raises(KeyCollision), bulk_transaction(database) as transaction:
        transaction.append(table, rows)
    assert read(database, sa.select(table)).num_rows == 2


# --- SQLite has no time type ---------------------------------------------------------------------


@pytest.fixture
def sqlite(use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(shop=database_url("sqlite", "shop")), "shop")


@pytest.mark.parametrize(
    "write",
    [
        lambda t: t.strftime("%Y-%m-%d %H:%M:%S"),
        lambda t: t.strftime("%Y-%m-%dT%H:%M:%SZ"),
        lambda t: t.strftime("%Y-%m-%dT%H:%M:%S.000+00:00"),
        lambda t: int(t.timestamp()),
        lambda t: int(t.timestamp() * 1000),
    ],
)
def test_each_style_of_time_in_sqlite_finds_its_interval(sqlite: Database, write: Callable[[datetime], Any]) -> None:
    moments = [START + timedelta(hours=h) for h in range(-3, 27)]
    with sqlite.writing() as connection:
        connection.execute(sa.text("create table t(id integer, created_at)"))
        connection.execute(
            sa.text("insert into t values (:id, :at)"), [{"id": i, "at": write(m)} for i, m in enumerate(moments)]
        )
    six = Grid(START, timedelta(hours=6)).split(DAY.end)

    source = reader(pipeline(sql(table="t")), sqlite)

    assert [source.plan(i, 100).rows for i in six] == [6, 6, 6, 6]
    assert source.read(DAY)["created_at"].to_pylist() == moments[3:27]


# --- connections ---------------------------------------------------------------------------------


def test_a_connection_that_is_not_set_names_its_variable(use_settings: Callable[..., Any]) -> None:
    with pytest.raises(SettingsError, match="PENSTOCK_CONNECTIONS__SHOPP"):
        open_database(use_settings(shop="sqlite:///x.db"), "shopp")
    with pytest.raises(SettingsError, match="cannot be opened"):
        open_database(use_settings(shop="nonsense"), "shop")


def test_an_unreachable_host_and_a_missing_file_are_told_without_the_password(use_settings: Callable[..., Any]) -> None:
    settings = use_settings(
        shop="postgresql+psycopg://me:s3cret@127.0.0.1:1/none", files="sqlite:////nowhere/at/all.db"
    )
    with pytest.raises(DatabaseUnavailable) as caught:
        reader(pipeline(sql(table="t"), None), open_database(settings, "shop")).plan(None, 10)
    assert "s3cret" not in str(caught.value)


def test_a_wrong_password_is_told_as_such(use_settings: Callable[..., Any], postgres: Any) -> None:
    postgres.psql("create role locked login password 'right';")
    hba = Path(postgres.pgdata) / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text("local all locked scram-sha-256\n" + before)
    postgres.psql("select pg_reload_conf();")
    try:
        url = sa.make_url(postgres.get_uri("postgres")).set(username="locked", password="wr0ng")
        settings = use_settings(shop=url.render_as_string(hide_password=False))
        with pytest.raises(AccessDenied) as caught:
            reader(pipeline(sql(table="t"), None), open_database(settings, "shop")).plan(None, 10)
        assert "wr0ng" not in str(caught.value)
    finally:
        hba.write_text(before)
        postgres.psql("select pg_reload_conf();")


# --- files ---------------------------------------------------------------------------------------


def files(path: Path, kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": "files", "path": str(path), "format": kind} | more


def test_files_are_united_by_name_and_their_row_ids_are_stable(tmp_path: Path, sqlite: Database) -> None:
    (tmp_path / "a.csv").write_text("id,amount\n1,10\n2,20\n")
    (tmp_path / "b.csv").write_text("amount,id,note\n30.5,3,late\n")
    source = reader(pipeline(files(tmp_path / "*.csv", "csv"), None), sqlite)

    tables, count = read_in_slices(source, None, 2)

    rows = sorted(pa.concat_tables(tables, promote_options="permissive").to_pylist(), key=lambda r: r["_row_id"])
    assert count == 3
    assert [(r["_row_id"], r["id"], r["amount"], r["note"]) for r in rows] == [
        ("a.csv:0", 1, 10.0, None),
        ("a.csv:1", 2, 20.0, None),
        ("b.csv:0", 3, 30.5, "late"),
    ]
    assert sorted(source.read(None).to_pylist(), key=lambda r: r["_row_id"]) == rows


@pytest.mark.parametrize("kind", ["parquet", "json"])
def test_parquet_and_json_lines_are_cut_by_event_time(tmp_path: Path, sqlite: Database, kind: str) -> None:
    table = pa.table({"id": list(range(48)), "created_at": [START + timedelta(hours=i) for i in range(48)]})
    if kind == "parquet":
        pq.write_table(table, tmp_path / "x.parquet")
    else:
        lines = [f'{{"id": {i}, "created_at": "{START + timedelta(hours=i):%Y-%m-%dT%H:%M:%SZ}"}}' for i in range(48)]
        (tmp_path / "x.json").write_text("\n".join(lines))
    source = reader(pipeline(files(tmp_path / f"x.{kind}", kind, key=["id"])), sqlite)

    tables, count = read_in_slices(source, DAY, 10)

    assert (count, len(tables)) == (24, 3)
    assert sorted(pa.concat_tables(tables)["id"].to_pylist()) == list(range(24))


def test_sources_of_files_that_are_open_at_once_see_their_own_rows(tmp_path: Path, sqlite: Database) -> None:
    readers = []
    for name in ("a", "b"):
        for number in (0, 1):  # two files, so that a table of files is made
            pq.write_table(pa.table({"id": [f"{name}{number}"]}), tmp_path / f"{name}-{number}.parquet")
        spec = files(tmp_path / f"{name}-*.parquet", "parquet", key=["id"])
        readers.append(reader(pipeline(spec, None), sqlite))
    first, second = readers

    with first.open(None) as one, second.open(None) as two:
        assert sorted(one.read(None)["id"].to_pylist()) == ["a0", "a1"]
        assert sorted(two.read(None)["id"].to_pylist()) == ["b0", "b1"]
        assert sorted(one.read(None)["id"].to_pylist()) == ["a0", "a1"]


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("column", ["note", "file_row_number"])
def test_slices_of_parquet_files_of_any_size_give_each_row_once(
    tmp_path: Path, sqlite: Database, column: str, keyed: bool
) -> None:
    first = 0
    for name, rows in (("a", 7), ("b", 0), ("c", 1), ("d", 12)):
        table = pa.table(
            {"id": pa.array(range(first, first + rows), pa.int64()), column: pa.array([name] * rows, pa.string())}
        )
        pq.write_table(table, tmp_path / f"{name}'s.parquet")
        first += rows
    spec = files(tmp_path / "*.parquet", "parquet", **({"key": ["id"]} if keyed else {}))
    source = reader(pipeline(spec, None), sqlite)

    for size in (1, 3, 5, 7, 8, 100):
        tables, count = read_in_slices(source, None, size)
        assert count == 20
        assert all(table.num_rows <= size for table in tables)
        assert [i for table in tables for i in sorted(table["id"].to_pylist())] == list(range(20))
    whole = {row["id"]: row for row in source.read(None).to_pylist()}
    assert [whole[i][column] for i in (6, 7, 8)] == ["a", "c", "d"]
    assert keyed or [whole[i]["_row_id"] for i in (6, 7, 8)] == ["a's.parquet:6", "c's.parquet:0", "d's.parquet:0"]


def test_a_path_may_hold_the_interval_and_a_day_without_a_file_is_as_the_spec_says(
    tmp_path: Path, sqlite: Database
) -> None:
    (tmp_path / "2026-01-01.csv").write_text("id,created_at\n1,2026-01-01T05:00:00Z\n")
    path = tmp_path / "{interval_start:%Y-%m-%d}.csv"
    following = DataInterval(DAY.end, DAY.end + timedelta(days=1))

    strict = reader(pipeline(files(path, "csv")), sqlite)
    assert strict.plan(DAY, 10).rows == 1
    with pytest.raises(NoFiles, match="2026-01-02"):
        strict.plan(following, 10)
    lenient = reader(pipeline(files(path, "csv"), empty="publish"), sqlite)
    assert lenient.plan(following, 10).rows == 0


def test_a_weeks_interval_reads_the_daily_files_that_are_there(tmp_path: Path, sqlite: Database) -> None:
    for day in (1, 2, 4, 8):  # the third has no file; the eighth is beyond the week
        (tmp_path / f"2026-01-{day:02}.csv").write_text(f"id,created_at\n{day},2026-01-{day:02}T05:00:00Z\n")
    week = DataInterval(START, START + timedelta(days=7))
    daily = files(tmp_path / "{interval_start:%Y-%m-%d}.csv", "csv", every="1d")
    source = reader(pipeline(daily, interval=WEEKLY), sqlite)

    assert source.plan(week, 10).rows == 3
    assert sorted(source.read(week)["id"].to_pylist()) == [1, 2, 4]
    with pytest.raises(NoFiles, match=r"2026-01-15\.csv to .*2026-01-21\.csv"):
        source.plan(DataInterval(START + timedelta(days=14), START + timedelta(days=21)), 10)


IN_BERLIN = {"column": "created_at", "timezone": "Europe/Berlin", "start": "2026-01-01"}


def test_the_dates_of_a_path_are_those_of_the_pipelines_zone(tmp_path: Path, sqlite: Database) -> None:
    for day in ("2026-03-28", "2026-03-29", "2026-03-30"):
        (tmp_path / f"{day}.csv").write_text(f"id,created_at\n{day},{day}T05:00:00Z\n")
    daily = files(tmp_path / "{interval_start:%Y-%m-%d}.csv", "csv")
    spec = pipeline(daily, interval=IN_BERLIN | {"grain": "1d"})
    assert spec.interval is not None
    short = DataInterval(datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC))
    assert short in spec.interval.grid.split(datetime(2026, 4, 1, tzinfo=UTC))

    assert [str(day) for day in reader(spec, sqlite).read(short)["id"].to_pylist()] == ["2026-03-29"]


def test_a_month_of_a_zone_reads_its_daily_files_across_a_change_of_clocks(tmp_path: Path, sqlite: Database) -> None:
    for day in range(1, 32):
        (tmp_path / f"2026-10-{day:02}.csv").write_text(f"id,created_at\n{day},2026-10-{day:02}T05:00:00Z\n")
    (tmp_path / "2026-11-01.csv").write_text("id,created_at\n101,2026-11-01T05:00:00Z\n")
    (tmp_path / "2026-09-30.csv").write_text("id,created_at\n100,2026-09-30T05:00:00Z\n")
    (tmp_path / "2026-09-29.csv").write_text("id,created_at\n99,2026-09-29T05:00:00Z\n")
    path = tmp_path / "{interval_start:%Y-%m-%d}.csv"
    source = reader(pipeline(files(path, "csv", every="1d"), interval=IN_BERLIN | {"grain": "month"}), sqlite)
    october = DataInterval(datetime(2026, 9, 30, 22, tzinfo=UTC), datetime(2026, 10, 31, 23, tzinfo=UTC))

    assert sorted(source.read(october)["id"].to_pylist()) == list(range(1, 32))

    spec = pipeline(
        sql(table="t"),
        sources={"rows": sql(table="t"), "sales": files(path, "csv", every="1d", lookback="1d")},
        interval=IN_BERLIN | {"grain": "1d"},
    )
    first = DataInterval(datetime(2026, 9, 30, 22, tzinfo=UTC), datetime(2026, 10, 1, 22, tzinfo=UTC))
    found = open_source(spec, "sales", Connector(lambda _: sqlite, ())).read(first)
    assert sorted(found["id"].to_pylist()) == [1, 100]


def test_a_lookback_of_days_counts_the_days_of_the_zone(tmp_path: Path, sqlite: Database) -> None:
    for day in (28, 29, 30):  # the 29th has 23 hours: a day before the 30th is not 24 hours before it
        (tmp_path / f"2026-03-{day}.csv").write_text(f"id\n{day}\n")
    sales = files(tmp_path / "{interval_start:%Y-%m-%d}.csv", "csv", every="1d", lookback="1d")
    spec = pipeline(
        sql(table="t"), sources={"rows": sql(table="t"), "sales": sales}, interval=IN_BERLIN | {"grain": "1d"}
    )
    thirtieth = DataInterval(datetime(2026, 3, 29, 22, tzinfo=UTC), datetime(2026, 3, 30, 22, tzinfo=UTC))

    found = open_source(spec, "sales", Connector(lambda _: sqlite, ())).read(thirtieth)

    assert sorted(found["id"].to_pylist()) == [29, 30]


def test_a_text_column_of_csv_files_is_text_whatever_these_files_show(tmp_path: Path, sqlite: Database) -> None:
    (tmp_path / "1.csv").write_text("created_at,invoice\n2026-01-01T05:00:00Z,536365\n")
    guessed, told = (reader(pipeline(files(tmp_path / "*.csv", "csv", **how)), sqlite) for how in ({}, TEXT))

    assert guessed.read(DAY)["invoice"].to_pylist() == [536365]
    assert told.read(DAY)["invoice"].to_pylist() == ["536365"]


def test_a_text_column_that_no_file_has_is_left_for_the_contract_to_miss(tmp_path: Path, sqlite: Database) -> None:
    (tmp_path / "1.csv").write_text("created_at,number\n2026-01-01T05:00:00Z,536365\n")
    source = reader(pipeline(files(tmp_path / "*.csv", "csv", **TEXT)), sqlite)

    assert source.read(DAY)["number"].to_pylist() == [536365]


def test_daily_files_of_a_secondary_source_reach_back_as_far_as_lookback(tmp_path: Path, sqlite: Database) -> None:
    for day in (1, 3, 5, 7):
        (tmp_path / f"2026-01-{day:02}.csv").write_text(f"id\n{day}\n")
    daily = files(tmp_path / "{interval_start:%Y-%m-%d}.csv", "csv", every="1d", lookback="2d")
    spec = pipeline(sql(table="t"), sources={"rows": sql(table="t"), "sales": daily})
    fifth = DataInterval(START + timedelta(days=4), START + timedelta(days=5))

    assert sorted(open_source(spec, "sales", Connector(lambda _: sqlite, ())).read(fifth)["id"].to_pylist()) == [3, 5]


def test_a_file_that_is_not_what_it_says_is_named(tmp_path: Path, sqlite: Database) -> None:
    (tmp_path / "x.parquet").write_text("this is no parquet")
    with pytest.raises(BrokenFile, match=r"x\.parquet"):
        reader(pipeline(files(tmp_path / "*.parquet", "parquet"), None), sqlite).plan(None, 10)


# --- logs ----------------------------------------------------------------------------------------


def line(hour: int, user: str = "u", status: int = 200) -> str:
    return f'10.0.0.1 - {user} [01/Jan/2026:{hour:02}:00:00 +0000] "GET /x HTTP/1.1" {status} 5 "-" "agent"\n'


def log_pipeline(path: Path, **more: Any) -> Pipeline:
    source = {"kind": "log", "path": str(path), "format": "combined"} | more
    return pipeline(source, "time", destination={"connection": "shop", "table": "t"})


def test_lines_are_landed_once_whatever_rotates_and_a_partial_line_waits(tmp_path: Path, database: Database) -> None:
    log = tmp_path / "access.log"
    spec = log_pipeline(tmp_path / "access.log*")
    log.write_text("".join(line(h) for h in range(5)) + line(5)[:20])
    assert land_logs(spec, Connector(lambda _: database, ()))["rows"].lines == 5
    assert land_logs(spec, Connector(lambda _: database, ()))["rows"].lines == 0

    log.write_text("".join(line(h) for h in range(6)) + "rubbish\n")
    assert (land_logs(spec, Connector(lambda _: database, ()))["rows"].lines) == 1
    (tmp_path / "access.log.1.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.write_text(line(6, "new") + line(23, "new"))
    landed = land_logs(spec, Connector(lambda _: database, ()))["rows"]
    assert (landed.lines, landed.malformed) == (2, 0)

    source = reader(spec, database)
    assert isinstance(source, LogReader)
    table = source.read(DAY)
    assert sorted(t.hour for t in table["time"].to_pylist()) == [0, 1, 2, 3, 4, 5, 6, 23]
    assert len(set(table["_row_id"].to_pylist())) == 8
    assert source.count_malformed(DAY) == (1, 9)


def test_lines_of_a_file_that_is_cut_to_a_part_of_itself_are_not_landed_again(
    tmp_path: Path, database: Database
) -> None:
    log = tmp_path / "app.log"
    spec = log_pipeline(log)
    lines = [line(h) for h in range(20)]
    lines[3] = "rubbish\n"
    log.write_text("".join(lines))
    land_logs(spec, Connector(lambda _: database, ()))

    for kept in (12, 2):
        log.write_text("".join(lines[:kept]))
        assert land_logs(spec, Connector(lambda _: database, ()))["rows"] == Landing(0, 0, 1)
        with log.open("a") as file:
            file.write(line(22, f"after{kept}"))
        assert land_logs(spec, Connector(lambda _: database, ()))["rows"].lines == 1
    log.write_text(line(23, "anew"))
    assert land_logs(spec, Connector(lambda _: database, ()))["rows"].lines == 1

    source = reader(spec, database)
    assert isinstance(source, LogReader)
    users = source.read(DAY)["user"].to_pylist()
    assert sorted(users) == sorted([*["u"] * 19, "after12", "after2", "anew"])
    assert source.count_malformed(DAY) == (1, 23)


def test_a_landed_log_outlives_its_file_and_one_that_never_was_is_named(tmp_path: Path, database: Database) -> None:
    log = tmp_path / "app.log"
    spec = log_pipeline(log)
    with pytest.raises(NoFiles, match=r"app\.log"):
        land_logs(spec, Connector(lambda _: database, ()))
    log.write_text(line(1))
    land_logs(spec, Connector(lambda _: database, ()))
    log.unlink()

    assert land_logs(spec, Connector(lambda _: database, ()))["rows"].lines == 0
    assert reader(spec, database).read(DAY).num_rows == 1


def test_nothing_of_a_truncated_gzip_is_landed(tmp_path: Path, sqlite: Database) -> None:
    packed = gzip.compress("".join(line(h % 24) for h in range(5000)).encode())
    (tmp_path / "a.log.gz").write_bytes(packed[: len(packed) // 2])
    spec = log_pipeline(tmp_path / "a.log*")
    landed = land_logs(spec, Connector(lambda _: sqlite, ()))["rows"]
    assert landed.lines == 0
    [file] = landed.set_aside
    assert file.path.endswith("a.log.gz")
    assert file.reason.startswith("the gzip is truncated")
    assert reader(spec, sqlite).plan(DAY, 10).rows == 0


def test_landed_lines_are_read_in_partitions_of_their_time(tmp_path: Path, database: Database) -> None:
    log = tmp_path / "app.log"
    log.write_text("".join(line(h % 24, f"u{h}") for h in range(240)))
    spec = log_pipeline(log)
    land_logs(spec, Connector(lambda _: database, ()))

    tables, count = read_in_slices(reader(spec, database), DAY, 50)

    assert (count, len(tables) > 3) == (240, True)
    assert sorted(pa.concat_tables(tables)["user"].to_pylist()) == sorted(f"u{h}" for h in range(240))
    assert isinstance(tables[0], pa.Table)
    assert Partition(0, 1, None, None, 0).label == "1/1"


# --- any other SQLAlchemy URL --------------------------------------------------------------------


def test_the_generic_path_gives_what_the_fast_one_gives(
    use_settings: Callable[..., Any], database_url: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(use_settings(shop=database_url("postgresql", "shop")), "shop")
    columns = [sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False), sa.Column("name", sa.Text)]
    table = sa.Table("plain", sa.MetaData(), *columns)
    table.create(database.engine)
    rows = pa.table({"id": pa.array(range(20), pa.int64()), "name": pa.array([None, "x"] * 10)})
    with bulk_transaction(database) as transaction:
        transaction.append(table, rows)

    monkeypatch.setattr(type(database.sql), "bulk", "rows")  # as for a database that has neither ADBC nor Arrow
    slow, count = read_in_slices(reader(pipeline(sql(table="plain"), None), database), None, 6)
    monkeypatch.undo()
    fast, _ = read_in_slices(reader(pipeline(sql(table="plain"), None), database), None, 6)

    assert count == 20
    assert pa.concat_tables(slow) == pa.concat_tables(fast)


@pytest.mark.parametrize(("kind", "value"), [("text", "'01.03.2026'"), ("integer", "1767225600")])
def test_an_event_time_that_is_no_time_is_refused_in_a_database_that_is_not_known(
    use_settings: Callable[..., Any], tmp_path: Path, kind: str, value: str
) -> None:
    sa.dialects.registry.register("oddbase", "tests.oddbase", "OddDialect")
    odd = open_database(use_settings(shop=f"oddbase:///{tmp_path / 'shop.db'}"), "shop")
    with odd.engine.begin() as connection:
        connection.exec_driver_sql(f"create table rows_ (id integer primary key, created_at {kind}, at timestamp)")
        connection.exec_driver_sql(f"insert into rows_ values (1, {value}, '2026-01-01 10:00:00.000000')")

    with pytest.raises(UnreadableTime, match="created_at"):
        reader(pipeline(sql(table="rows_")), odd).plan(DAY, 10)
    assert reader(pipeline(sql(table="rows_"), "at"), odd).plan(DAY, 10).rows == 1
