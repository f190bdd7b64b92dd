"""A source's `query:` on real databases: its parameters, its end, the names of its columns."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from penstock.database.connections import Connector, Database, open_database
from penstock.errors import AmbiguousColumns
from penstock.interval import DataInterval
from penstock.sources import SourceReader, open_source
from penstock.spec.pipeline import Pipeline
from tests.conftest import DIALECTS

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = DataInterval(START, START + timedelta(days=1))


@pytest.fixture(params=DIALECTS)
def database(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(shop=database_url(request.param, "shop")), "shop")


@pytest.fixture
def events(database: Database) -> Database:
    columns = [sa.Column("id", sa.BigInteger), sa.Column("created_at", sa.DateTime), sa.Column("name", sa.Text)]
    table = sa.Table("events", sa.MetaData(), *columns)
    table.create(database.engine)
    rows = [
        {"id": i, "created_at": (START + timedelta(hours=i)).replace(tzinfo=None), "name": f"a:x{i}"} for i in range(48)
    ]
    with database.writing() as connection:
        connection.execute(table.insert(), rows)
    return database


def reader(database: Database, query: str) -> SourceReader:
    source = {"kind": "sql", "connection": "shop", "key": ["id"], "query": query}
    interval = {"column": "created_at", "grain": "1d", "start": "2026-01-01"}
    spec = Pipeline.model_validate(
        {"name": "p", "sources": {"rows": source}, "interval": interval, "model": "m@1", "destination": {"table": "t"}}
    )
    return open_source(spec, "rows", Connector(lambda _: database, ()))


def read_in_slices(source: SourceReader) -> pa.Table:
    return pa.concat_tables([source.read(DAY, p) for p in source.plan(DAY, 5).partitions]).sort_by("id")


ROWS = "select id, created_at from events where created_at < :interval_end"


@pytest.mark.parametrize(
    "query",
    [
        f"{ROWS} and name like '%:x%'",
        f"{ROWS} and name like 'a:x%'",
        f"{ROWS} -- of :note and ';'",
        f"{ROWS}; -- the end",
        f"{ROWS};\n/* the :end */ ;\n",
        f"-- a :start\n/* :of the */ {ROWS}",
        f'{ROWS} and name <> \'{{"a":true, "b":":interval_start"}}\'',
        f"{ROWS} and name <> 'it''s :no' and name <> '\\:x'",
        f'{ROWS} and "id" > -1 and created_at >= :interval_start',
        'select "id", created_at from (select e.id, e.created_at, 1 as ":odd" from events e) z '
        "where created_at<:interval_end",
    ],
)
def test_only_the_two_parameters_of_a_query_are_bound(events: Database, query: str) -> None:
    assert read_in_slices(reader(events, query))["id"].to_pylist() == list(range(24))


@pytest.mark.parametrize("style", ["{}", "{}.000", "{}.000000"])
def test_a_row_at_the_very_start_belongs_to_the_interval_in_a_query_too(
    use_settings: Callable[..., Any], database_url: Callable[[str, str], str], style: str
) -> None:
    """SQLite compares texts, and applications write fractions or leave them out."""
    shop = open_database(use_settings(shop=database_url("sqlite", "shop")), "shop")
    times = {1: "2025-12-31 23:59:59", 2: "2026-01-01 00:00:00", 3: "2026-01-01 23:59:59", 4: "2026-01-02 00:00:00"}
    with shop.writing() as connection:
        connection.exec_driver_sql("create table events (id integer, created_at text)")
        for key, time in times.items():
            connection.exec_driver_sql("insert into events values (?, ?)", (key, style.format(time)))

    source = reader(shop, f"{ROWS} and created_at >= :interval_start")

    assert source.read(DAY)["id"].to_pylist() == [2, 3]


def test_casts_regexes_and_slices_reach_the_database_as_they_are(events: Database) -> None:
    if events.dialect == "sqlite":
        pytest.skip("SQLite has no `::`, no regular expressions and no slices")
    matches = "name ~ '^(?:a|b):x'" if events.dialect == "postgresql" else "regexp_matches(name, '^(?:a|b):x')"
    query = (
        "select id, created_at, ('{\"k\":1}'::json) as body, (array[1, 2, 3])[2:3] as cut, $$it's :raw$$ as raw, "
        "E'\\':x' as escaped, /* outer /* inner */ :no */ 1 as one "
        f"from events where created_at::timestamptz < :interval_end::timestamptz and {matches}"
    ).replace("::json)", "::json)::text")

    table = read_in_slices(reader(events, query))

    assert table["id"].to_pylist() == list(range(24))
    assert set(table["raw"].to_pylist()) == {"it's :raw"}
    assert set(table["escaped"].to_pylist()) == {"':x"}
    assert set(table["body"].to_pylist()) == {'{"k":1}'}


def test_a_literal_keeps_its_backslashes_and_colons(events: Database) -> None:
    literals = {"a": "a::b", "b": "\\:x", "c": "100 %s of :interval_end", "d": "%(x)s"}
    chosen = ", ".join(f"'{text}' as {name}" for name, text in literals.items())
    table = read_in_slices(reader(events, f"select id, created_at, {chosen} from events"))
    assert table.select(["a", "b", "c", "d"]).to_pylist() == [literals] * 24


@pytest.mark.parametrize("name", [":interval_begin", ":note", ":Interval_Start", ":interval_starts"])
def test_another_parameter_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is no parameter"):
        reader(None, f"select id from events where id = {name}")  # type: ignore[arg-type] # nothing is opened


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ("e.*, f.*", ("`id`", "`created_at`", "`name`")),
        ("e.*, f.id", ("`id`",)),
        ('e.id, f.name, e.created_at, f.name as "NAME"', ("`name`",)),
    ],
)
def test_two_columns_of_one_name_are_refused_by_name(events: Database, columns: str, named: tuple[str, ...]) -> None:
    query = f"select {columns} from events e join events f on f.id = e.id"

    with pytest.raises(AmbiguousColumns) as refused:
        read_in_slices(reader(events, query))

    assert all(name in str(refused.value).lower() for name in named)
    assert "source `rows`" in str(refused.value)


def test_names_that_only_look_like_renamed_twins_are_read(events: Database) -> None:
    query = 'select id, created_at, 1 as id_1, 2 as "n:1" from events where created_at < :interval_end'
    assert read_in_slices(reader(events, query)).column_names == ["id", "created_at", "id_1", "n:1"]


def test_a_table_whose_columns_differ_only_in_case_is_refused(database: Database) -> None:
    if database.dialect != "postgresql":
        pytest.skip("only Postgres has such tables")
    with database.writing() as connection:
        connection.execute(sa.text('create table twins (id bigint, "Id" bigint, created_at timestamptz)'))
    spec = {"kind": "sql", "connection": "shop", "key": ["id"], "table": "twins"}
    pipeline = Pipeline.model_validate(
        {"name": "p", "sources": {"rows": spec}, "model": "m@1", "destination": {"table": "t"}}
    )

    with pytest.raises(AmbiguousColumns, match="`Id`"):
        open_source(pipeline, "rows", Connector(lambda _: database, ())).plan(None, 5)
