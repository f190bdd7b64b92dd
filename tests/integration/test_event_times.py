"""Event times of every type and style fall into their interval, or are refused with a value and the way to write it."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from penstock.database.connections import Connector, Database, open_database
from penstock.errors import UnreadableTime
from penstock.interval import DataInterval, Grid
from penstock.sources import SourceReader, open_source
from penstock.sources.event_time import read_times
from penstock.spec.pipeline import Pipeline

START = datetime(2026, 1, 1, tzinfo=UTC)
EARLIEST, LATEST = (datetime.fromisoformat(f"{year}-01-02") for year in (1970, 2100))
DAY = DataInterval(START, START + timedelta(days=1))
HOURS = Grid(START - timedelta(days=1), timedelta(hours=1)).split(START + timedelta(days=2))


def pipeline(source: dict[str, Any]) -> Pipeline:
    interval = {"column": "created_at", "grain": "1h", "start": "2025-12-31"}
    spec = {"name": "p", "sources": {"rows": source}, "interval": interval, "model": "m@1"}
    return Pipeline.model_validate(spec | {"destination": {"table": "t"}})


def reader(database: Database, **source: Any) -> SourceReader:
    spec = pipeline({"kind": "sql", "connection": "shop", "key": ["id"], "table": "t"} | source)
    return open_source(spec, "rows", Connector(lambda _: database, ()))


def read_ids(source: SourceReader, interval: DataInterval, size: int = 1000) -> list[int]:
    """Read an interval in slices, and check that the times which are read are inside it."""
    ids: list[int] = []
    for partition in source.plan(interval, size).partitions:
        rows = source.read(interval, partition)
        found: list[Any] = rows["id"].to_pylist()
        times: list[Any] = rows["created_at"].to_pylist()
        assert all(interval.start <= t < interval.end for t in times)
        ids += found
    return sorted(ids)


# --- SQLite --------------------------------------------------------------------------------------


@pytest.fixture
def sqlite(use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(shop=database_url("sqlite", "shop")), "shop")


def fill(database: Database, values: list[Any], declared: str = "", index: str = "") -> None:
    with database.writing() as connection:
        connection.exec_driver_sql(f"create table t(id integer, created_at {declared})")
        if index:
            connection.exec_driver_sql(index)
        connection.exec_driver_sql("insert into t values (?, ?)", list(enumerate(values)))


INDEX = "create index by_time on t(created_at)"
STYLES: dict[str, Callable[[datetime], Any]] = {
    "no seconds": lambda t: t.strftime("%Y-%m-%d %H:%M"),
    "T, no seconds": lambda t: t.strftime("%Y-%m-%dT%H:%M"),
    "seconds": lambda t: t.strftime("%Y-%m-%d %H:%M:%S"),
    "fraction": lambda t: t.strftime("%Y-%m-%d %H:%M:%S.000000"),
    "Z": lambda t: t.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "no seconds, Z": lambda t: t.strftime("%Y-%m-%dT%H:%MZ"),
    "UTC as an offset": lambda t: t.strftime("%Y-%m-%d %H:%M:%S+00"),
    "east": lambda t: (t + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M+02:00"),
    "west": lambda t: (t - timedelta(hours=9, minutes=30)).strftime("%Y-%m-%dT%H:%M:%S-0930"),
    "far east": lambda t: (t + timedelta(hours=14)).strftime("%Y-%m-%d %H:%M:%S.123456789 +14:00"),
    "epoch seconds": lambda t: int(t.timestamp()),
    "epoch seconds with a fraction": lambda t: t.timestamp() + 0.25,
    "epoch milliseconds": lambda t: int(t.timestamp() * 1000),
    "epoch microseconds": lambda t: int(t.timestamp()) * 1_000_000,
    "epoch nanoseconds": lambda t: int(t.timestamp()) * 1_000_000_000 + 1,
}


@pytest.mark.parametrize("index", ["", INDEX])
@pytest.mark.parametrize("declared", ["", "TEXT", "DATETIME"])
@pytest.mark.parametrize("style", STYLES)
def test_each_style_falls_into_its_hour(sqlite: Database, style: str, declared: str, index: str) -> None:
    moments = [hour.start + timedelta(minutes=m) for hour in HOURS for m in (0, 59)]
    fill(sqlite, [STYLES[style](m) for m in moments], declared, index)

    source = reader(sqlite)

    if declared == "TEXT" and "epoch" in style:  # SQLite stores these numbers as text
        with pytest.raises(UnreadableTime, match="does not begin with a date"):
            source.plan(DAY, 10)
        return
    for number in (23, 24, 25, 30, 47, 48):
        assert read_ids(source, HOURS[number]) == [2 * number, 2 * number + 1]
    assert read_ids(source, DAY, 7) == list(range(48, 96))


@pytest.mark.parametrize("index", ["", INDEX])
def test_styles_may_be_mixed_in_one_column(sqlite: Database, index: str) -> None:
    writers = [write for style, write in STYLES.items() if "epoch" not in style]
    moments = [hour.start for hour in HOURS for _ in writers]
    fill(sqlite, [writers[n % len(writers)](m) for n, m in enumerate(moments)], index=index)

    source, size = reader(sqlite), len(writers)

    for number in (23, 24, 30, 47, 48):
        assert read_ids(source, HOURS[number], 3) == list(range(number * size, (number + 1) * size))
    evening = DataInterval(HOURS[46].start, HOURS[50].end)  # over midnight: `T` sorts after a blank, whatever the clock
    assert read_ids(source, evening) == list(range(46 * size, 51 * size))


def test_a_date_is_its_midnight_and_fractions_may_have_any_length(sqlite: Database) -> None:
    written = ["2025-12-31 23:59:59.9999999", "2026-01-01", "2026-01-01 00:00:00.1", "2026-01-01T00:59:59.999999999Z"]
    fill(sqlite, [*written, "2026-01-01 01:00"])
    source = reader(sqlite)

    assert [read_ids(source, HOURS[n]) for n in (23, 24, 25)] == [[0], [1, 2, 3], [4]]
    times: list[Any] = source.read(HOURS[24])["created_at"].to_pylist()
    microseconds = [t.microsecond for t in times]
    assert microseconds == [0, 100_000, 999_999]


@pytest.mark.parametrize("index", ["", INDEX, f"{INDEX} where id > 1000"])
@pytest.mark.parametrize("hour", [0, 30])
@pytest.mark.parametrize(
    ("strange", "reason"),
    [
        ("01/03/2026", "does not begin with a date"),
        ("20260101", "does not begin with a date"),
        ("2026-1-5", "does not begin with a date"),
        ("2461042.5", "does not begin with a date"),
        ("yesterday", "does not begin with a date"),
        (b"2026-01-01", "does not begin with a date"),
        (1_767_225_600, "is a number in some rows and text in others"),
    ],
)
def test_a_time_that_no_range_would_find_is_refused_with_its_value(
    sqlite: Database, strange: Any, reason: str, hour: int, index: str
) -> None:
    fill(sqlite, [h.start.strftime("%Y-%m-%d %H:%M:%S") for h in HOURS] + [strange], index=index)

    with pytest.raises(UnreadableTime, match=reason) as caught:
        reader(sqlite).plan(HOURS[hour], 10)

    assert isinstance(strange, int) or str(strange) in str(caught.value)


@pytest.mark.parametrize(
    "strange", ["2026-01-01 noon", "2026-01-01 10", "2026-01-01 10:00 CET", "2026-01-01t10:00", "2026-01-01 10:00:00,5"]
)
def test_a_time_in_another_style_on_the_day_is_refused_with_its_value(sqlite: Database, strange: str) -> None:
    fill(sqlite, ["2026-01-01 09:00:00", strange])
    with pytest.raises(UnreadableTime, match=f"no time in ISO 8601, as `{strange}`"):
        reader(sqlite).plan(HOURS[34], 10)


@pytest.mark.parametrize("other", ["2026-01-01 09:00:00", "2026-01-01T09:00+02:00"])
@pytest.mark.parametrize("strange", ["2026-01-01 24:00:00", "2026-01-01 10:61:00"])
def test_a_time_that_does_not_exist_is_refused(sqlite: Database, other: str, strange: str) -> None:
    fill(sqlite, [other, strange])
    two_days = DataInterval(DAY.start, DAY.end + timedelta(days=1))
    with pytest.raises(UnreadableTime, match=f"as `{strange}`"):
        read_ids(reader(sqlite), two_days)


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ([20_260_101, 20_260_102], "may be a date of eight digits, as `20260101`"),
        ([2_461_042.5, 2_461_043.5], "may be a Julian day, as `2461042.5`"),
        ([2_461_042.5, 1_767_225_600], "may be a Julian day, as `2461042.5`"),
        ([1_767_225_600, 1_767_225_600_000], "is in seconds and in milliseconds"),
    ],
)
def test_a_number_that_is_no_epoch_time_is_refused(sqlite: Database, numbers: list[float], reason: str) -> None:
    for index in ("", INDEX):
        fill(sqlite, numbers, index=index)
        with pytest.raises(UnreadableTime, match=reason):
            reader(sqlite).plan(DAY, 10)
        with sqlite.writing() as connection:
            connection.exec_driver_sql("drop table t")


def test_zero_and_empty_text_are_no_time(sqlite: Database) -> None:
    fill(sqlite, [0, 1_767_225_600, None])
    assert read_ids(reader(sqlite), DAY) == [1]
    with sqlite.writing() as connection:
        connection.exec_driver_sql("delete from t")
        connection.exec_driver_sql("insert into t values (7, ''), (8, '2026-01-01 00:00'), (9, null)")
    source = reader(sqlite)
    assert (read_ids(source, DAY), source.count_without_time(DAY)) == ([8], 2)


def test_the_way_that_the_message_names_for_numbers_works(sqlite: Database) -> None:
    for number in (20_260_101, 2_461_041.75):
        fill(sqlite, [number])
        with pytest.raises(UnreadableTime) as caught:
            reader(sqlite).plan(DAY, 10)
        expression = caught.value.remedy.split("`")[1].removesuffix(" as event_time")
        query = f"select id, {expression} as created_at from t"
        assert read_ids(reader(sqlite, table=None, query=query), DAY) == [0]
        with sqlite.writing() as connection:
            connection.exec_driver_sql("drop table t")


def test_a_query_has_its_times_judged_as_a_table_has(sqlite: Database) -> None:
    fill(sqlite, ["2026-01-01 00:00", "01/01/2026"])
    with pytest.raises(UnreadableTime, match="01/01/2026"):
        reader(sqlite, table=None, query="select * from t").plan(DAY, 10)
    assert read_ids(reader(sqlite, table=None, query="select * from t where id = 0"), DAY) == [0]


@pytest.mark.parametrize("style", ["no seconds", "Z", "epoch milliseconds"])
def test_styles_that_sort_as_time_use_an_index(sqlite: Database, style: str) -> None:
    fill(sqlite, [STYLES[style](h.start) for h in HOURS], index=INDEX)
    plans: list[str] = []

    def explain(_: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        if statement.startswith(("SELECT", "WITH")) and '"t"' in statement:
            other = cursor.connection.cursor()
            plans.extend(step[3] for step in other.execute(f"explain query plan {statement}", parameters))

    sa.event.listen(sqlite.engine, "before_cursor_execute", explain)
    try:
        assert len(read_ids(reader(sqlite), HOURS[30])) == 1
    finally:
        sa.event.remove(sqlite.engine, "before_cursor_execute", explain)

    assert plans
    assert not [step for step in plans if step.startswith("SCAN t")]


@given(
    st.lists(
        st.tuples(
            st.datetimes(EARLIEST, LATEST),
            st.sampled_from(["auto", "minutes", "seconds", "microseconds"]),
            st.sampled_from([" ", "T"]),
            st.sampled_from([None, 0, 120, -570, 840]),
        ),
        min_size=1,
    )
)
def test_any_text_of_iso_8601_is_read_as_python_reads_it(
    values: list[tuple[datetime, str, str, int | None]],
) -> None:
    written = [
        (t if zone is None else t.replace(tzinfo=timezone(timedelta(minutes=zone)))).isoformat(separator, precision)
        for t, precision, separator, zone in values
    ]
    expected = [datetime.fromisoformat(text) for text in written]
    expected = [t.replace(tzinfo=UTC) if t.tzinfo is None else t.astimezone(UTC) for t in expected]

    assert read_times("s", "c", pa.chunked_array([pa.array(written)])).to_pylist() == expected


# --- Postgres and DuckDB -------------------------------------------------------------------------


@pytest.fixture
def databases(use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> dict[str, Database]:
    names = ("postgresql", "duckdb")
    settings = use_settings(**{name: database_url(name, "shop") for name in names})
    return {name: open_database(settings, name) for name in names}


MOMENTS = [START - timedelta(seconds=1), START, START + timedelta(hours=12), DAY.end]
TYPED = [
    ("postgresql", "timestamp"),
    ("postgresql", "timestamptz"),
    ("postgresql", "timestamp(0)"),
    ("duckdb", "timestamp"),
    ("duckdb", "timestamptz"),
    ("duckdb", "timestamp_s"),
    ("duckdb", "timestamp_ms"),
    ("duckdb", "timestamp_ns"),
]


def fill_typed(database: Database, kind: str, values: list[str]) -> None:
    with database.writing() as connection:
        connection.exec_driver_sql(f"create table t(id bigint, created_at {kind})")
        for number, value in enumerate(values):
            connection.exec_driver_sql(f"insert into t values ({number}, cast('{value}' as {kind}))")


@pytest.mark.parametrize("source", [{}, {"table": None, "query": "select * from t"}])
@pytest.mark.parametrize(("dialect", "kind"), TYPED)
def test_each_type_of_time_falls_into_its_interval(
    databases: dict[str, Database], dialect: str, kind: str, source: dict[str, Any]
) -> None:
    fill_typed(databases[dialect], kind, [f"{m:%Y-%m-%d %H:%M:%S}" for m in MOMENTS])
    rows = reader(databases[dialect], **source)

    assert (read_ids(rows, DAY), rows.count_without_time(DAY)) == ([1, 2], 0)
    assert rows.read(DAY).schema.field("created_at").type == pa.timestamp("us", "UTC")


@pytest.mark.parametrize("source", [{}, {"table": None, "query": "select * from t"}])
@pytest.mark.parametrize("dialect", ["postgresql", "duckdb"])
@pytest.mark.parametrize("kind", ["timestamp", "date"])
def test_an_infinite_time_is_counted_as_no_time(
    databases: dict[str, Database], dialect: str, kind: str, source: dict[str, Any]
) -> None:
    fill_typed(databases[dialect], kind, ["2026-01-01", "infinity", "-infinity"])
    rows = reader(databases[dialect], **source)

    assert (read_ids(rows, DAY), rows.count_without_time(DAY)) == ([0], 2)


@pytest.mark.parametrize("source", [{}, {"table": None, "query": "select * from t"}])
@pytest.mark.parametrize("dialect", ["postgresql", "duckdb"])
def test_a_date_is_midnight_in_utc(databases: dict[str, Database], dialect: str, source: dict[str, Any]) -> None:
    fill_typed(databases[dialect], "date", ["2025-12-31", "2026-01-01", "2026-01-02"])
    rows = reader(databases[dialect], **source)

    assert (read_ids(rows, DAY), read_ids(rows, HOURS[24]), read_ids(rows, HOURS[25])) == ([1], [1], [])


@pytest.mark.parametrize("source", [{}, {"table": None, "query": "select * from t"}])
@pytest.mark.parametrize("dialect", ["postgresql", "duckdb"])
@pytest.mark.parametrize(
    ("kind", "value", "way"),
    [
        ("text", "01/03/2026", "cast(created_at as timestamptz) as event_time"),
        ("varchar(20)", "2026-01-01", "cast(created_at as timestamptz) as event_time"),
        ("bigint", "1767225600", "to_timestamp(created_at) as event_time"),
        ("double precision", "1767225600.5", "to_timestamp(created_at) as event_time"),
        ("time", "10:00:00", "query"),
    ],
)
def test_a_column_that_is_no_time_is_refused_with_the_way_to_write_it(
    databases: dict[str, Database], dialect: str, kind: str, value: str, way: str, source: dict[str, Any]
) -> None:
    fill_typed(databases[dialect], kind, [value])
    rows = reader(databases[dialect], **source)

    for use in (lambda: rows.plan(DAY, 10), lambda: rows.read(None, limit=5)):
        with pytest.raises(UnreadableTime) as caught:
            use()
        assert way in str(caught.value)
        assert f"as `{value}`" in str(caught.value)


@pytest.mark.parametrize("dialect", ["postgresql", "duckdb"])
def test_the_way_that_the_message_names_works(databases: dict[str, Database], dialect: str) -> None:
    fill_typed(databases[dialect], "bigint", ["1767225599", "1767225600"])
    query = "select id, to_timestamp(created_at) as created_at from t"
    assert read_ids(reader(databases[dialect], table=None, query=query), DAY) == [1]


# --- Parquet files -------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Paris"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_each_type_of_time_of_a_parquet_file_falls_into_its_interval(
    tmp_path: Path, sqlite: Database, unit: Any, zone: str | None
) -> None:
    moments = pa.array([m.replace(tzinfo=None) for m in MOMENTS], pa.timestamp(unit))
    column = moments if zone is None else moments.cast(pa.timestamp(unit, "UTC")).cast(pa.timestamp(unit, zone))
    pq.write_table(pa.table({"id": [0, 1, 2, 3], "created_at": column}), tmp_path / "a.parquet")
    source = {"kind": "files", "path": str(tmp_path / "*.parquet"), "format": "parquet", "key": ["id"]}
    rows = open_source(pipeline(source), "rows", Connector(lambda _: sqlite, ()))

    assert (read_ids(rows, DAY), read_ids(rows, DAY, 1)) == ([1, 2], [1, 2])
    assert rows.count_without_time(DAY) == 0


def test_a_date_in_a_parquet_file_is_midnight_in_utc(tmp_path: Path, sqlite: Database) -> None:
    days = pa.array([date(2025, 12, 31), date(2026, 1, 1), None])
    pq.write_table(pa.table({"id": [0, 1, 2], "created_at": days}), tmp_path / "a.parquet")
    source = {"kind": "files", "path": str(tmp_path / "*.parquet"), "format": "parquet", "key": ["id"]}
    rows = open_source(pipeline(source), "rows", Connector(lambda _: sqlite, ()))

    assert (read_ids(rows, DAY), rows.count_without_time(DAY)) == ([1], 1)
