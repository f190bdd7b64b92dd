"""The columns of a log that a run reads: those that it uses, and all where a row may have to be kept as it was."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from penstock.database.connections import Connector, Database, open_database
from penstock.database.types import TIMESTAMP
from penstock.errors import FeaturesError, GroupFailed, MissingColumns
from penstock.interval import DataInterval
from penstock.privacy.masking import MaskingPolicy
from penstock.run.extract import extract_partition, land_logs, plan_partitions
from penstock.run.features import build_features
from penstock.run_types import ModelPin, ScoringRun
from penstock.sources import open_source
from penstock.sources.logs import landed
from penstock.sources.logs.formats import row_schema
from penstock.sources.logs.line_groups import group_lines
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import LogSource
from tests.conftest import DIALECTS

DAY = DataInterval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
ALL = ["host", "identity", "user", "time", "method", "path", "protocol", "status", "size", "referer", "agent", "extra"]
ALL += ["line", "_row_id"]
SUMS = 'with v as (select "user", sum(size) as bytes from visits where status < 500 group by all) '
FEATURES = SUMS + "select c.id, coalesce(bytes, 0)::bigint as bytes from clients c left join v on v.user = c.login"
NOT_NULL = [{"type": "expect_column_values_to_not_be_null", "column": "size", "severity": "warning"}]


@pytest.fixture(params=DIALECTS)
def database(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return prepare(open_database(use_settings(warehouse=database_url(request.param, "warehouse")), "warehouse"))


@pytest.fixture
def sqlite(use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return prepare(open_database(use_settings(warehouse=database_url("sqlite", "warehouse")), "warehouse"))


def prepare(database: Database) -> Database:
    with database.writing() as connection:
        connection.exec_driver_sql("create table clients (id bigint, login varchar(9))")
        connection.exec_driver_sql("insert into clients values (1, 'u0'), (2, 'u1'), (3, 'nobody')")
    return database


def spec(folder: Path, features: str | None = FEATURES, primary: str = "clients", **keys: Any) -> Pipeline:
    log = {"kind": "log", "path": str(folder / "access.log"), "format": "combined", **keys.pop("log", {})}
    sources = {
        "clients": {"kind": "sql", "connection": "warehouse", "table": "clients", "key": ["id"]},
        "visits": log,
    }
    named = {primary: sources.pop(primary), **sources}
    destination = {"connection": "warehouse", "table": "t"}
    body = {"name": "p", "sources": named, "features": features, "model": "m@1", "destination": destination, **keys}
    return Pipeline.model_validate(body)


def connect(database: Database) -> Connector:
    return Connector(lambda _: database, ())


def land(pipeline: Pipeline, database: Database, folder: Path) -> None:
    (folder / "access.log").write_text("".join(
        f'10.0.0.{i} - u{i % 3} [01/Jan/2026:{i:02}:00:00.5 +0000] "GET /{i} HTTP/1.1" {500 if i % 5 == 0 else 200} '
        f'{i} "-" "agent \\"{i}\\""\n'.replace(".5 +", " +") for i in range(24)
    ))  # fmt: skip
    land_logs(pipeline, connect(database))


def read(pipeline: Pipeline, database: Database) -> pa.Table:
    return open_source(pipeline, "visits", connect(database)).read(DAY)


def whole(pipeline: Pipeline, database: Database) -> pa.Table:
    """Read the lines with all columns, as the primary source is read."""
    return landed.LogReader("p", "visits", pipeline.sources["visits"], database, primary=False).read(DAY)  # type: ignore[arg-type]


def test_a_run_reads_the_columns_of_a_log_that_its_features_use(tmp_path: Path, database: Database) -> None:
    pipeline = spec(tmp_path)
    land(pipeline, database, tmp_path)
    run = ScoringRun("r", pipeline, None, ModelPin("m", "1", "d"), "due")
    [partition] = plan_partitions(run, connect(database), MaskingPolicy()).partitions
    extracted = extract_partition(run, partition, connect(database))
    visits = extracted.others["visits"]
    assert visits.column_names == ["user", "time", "status", "size"]
    expected = whole(pipeline, database)
    assert expected.column_names == ALL
    assert rows(visits) == rows(expected.select(visits.column_names))
    made = build_features(pipeline, "x", extracted.primary, extracted.others, 60)
    assert rows(made) == rows(build_features(pipeline, "x", extracted.primary, {"visits": expected}, 60))
    assert rows(made)[0]["bytes"] == sum(i for i in range(24) if i % 3 == 0 and i % 5)


def rows(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=str)


@pytest.mark.parametrize(
    ("features", "columns"),
    [
        ("select c.id, (select count(*) from visits) as n from clients c", ["time"]),
        ("select c.id, (select max(_row_id) from visits) as n from clients c", ["time", "_row_id"]),
        ("select c.id, (select max(LINE) from visits) as n from clients c", ["time", "line"]),
        ("select c.id, (select count(*) from (select * from visits)) as n from clients c", ALL),
        (None, ALL),
    ],
)
def test_which_columns_are_read(tmp_path: Path, sqlite: Database, features: str | None, columns: list[str]) -> None:
    pipeline = spec(tmp_path, features)
    land(pipeline, sqlite, tmp_path)
    found = read(pipeline, sqlite)
    assert (found.column_names, found.num_rows) == (columns, 24)
    assert rows(found) == rows(whole(pipeline, sqlite).select(columns))


def test_rows_that_may_go_to_quarantine_are_read_with_all_columns(tmp_path: Path, sqlite: Database) -> None:
    judged = spec(tmp_path, expectations={"visits": NOT_NULL})
    land(judged, sqlite, tmp_path)
    assert read(judged, sqlite).column_names == ALL
    primary = spec(tmp_path, "select _row_id, size from visits", "visits")
    assert read(primary, sqlite).column_names == ALL


def test_columns_with_one_name_in_upper_and_lower_case_are_all_read(tmp_path: Path, sqlite: Database) -> None:
    log = {"format": "json", "columns": {"User": "string", "user": "string", "n": "int"}}
    query = "select c.id, (select max(user_1) from visits) as n from clients c"  # DuckDB's name for the second one
    pipeline = spec(tmp_path, query, log=log)
    (tmp_path / "access.log").write_text('{"ts": "2026-01-01T00:00:00Z", "User": "a", "user": "b", "n": 1}\n')
    land_logs(pipeline, connect(sqlite))
    assert read(pipeline, sqlite).column_names == ["time", "User", "user", "n", "line", "_row_id"]
    clients = pa.table({"id": [1], "login": ["b"]})
    assert build_features(pipeline, "x", clients, {"visits": read(pipeline, sqlite)}, 60)["n"].to_pylist() == ["b"]


def test_the_error_of_a_wrong_name_suggests_the_columns_that_were_not_read(tmp_path: Path, sqlite: Database) -> None:
    pipeline = spec(tmp_path, "select c.id, (select max(agnt) from visits) as n from clients c")
    land(pipeline, sqlite, tmp_path)
    visits = read(pipeline, sqlite)
    assert visits.column_names == ["time"]
    with pytest.raises(FeaturesError, match='"agent"'):
        build_features(pipeline, "x", pa.table({"id": [1], "login": ["u0"]}), {"visits": visits}, 60)


def test_groups_parse_the_columns_that_their_expressions_name(
    tmp_path: Path, sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = {"key": ["user"], "columns": {"bytes": "sum(size)", "n": "count(*)"}}
    pipeline = spec(tmp_path, None, "visits", log={"group": group})
    land(pipeline, sqlite, tmp_path)
    seen: list[list[str]] = []
    original = group_lines

    def watch(name: str, lines: pa.Table, made_by: Any) -> pa.Table:
        seen.append(lines.column_names)
        return original(name, lines, made_by)

    monkeypatch.setattr(landed, "group_lines", watch)
    found = read(pipeline, sqlite)
    assert seen == [["user", "time", "size"]]
    lines = whole(spec(tmp_path), sqlite)
    source = pipeline.primary_source
    assert isinstance(source, LogSource)
    assert source.group is not None
    assert found.equals(group_lines("visits", lines, source.group))


@pytest.mark.parametrize(
    ("group", "error", "message"),
    [
        ({"key": ["usr"]}, MissingColumns, "`user`"),
        ({"key": ["user"], "columns": {"n": "count(agnt)"}}, GroupFailed, "agnt"),
        ({"key": ["user"], "columns": {"n": "count(_row_id)"}}, GroupFailed, "_row_id"),
    ],
)
def test_the_error_of_a_group_names_the_columns_there_are(
    tmp_path: Path, sqlite: Database, group: dict[str, Any], error: type[Exception], message: str
) -> None:
    pipeline = spec(tmp_path, None, "visits", log={"group": group})
    land(pipeline, sqlite, tmp_path)
    with pytest.raises(error, match=message):
        read(pipeline, sqlite)


def test_an_aggregate_over_the_row_of_a_line_sees_all_columns(tmp_path: Path, sqlite: Database) -> None:
    group = {"key": ["user"], "columns": {"rows": "first(cast(lines as varchar))"}}
    pipeline = spec(tmp_path, None, "visits", log={"group": group})
    land(pipeline, sqlite, tmp_path)
    assert "'agent': " in read(pipeline, sqlite)["rows"][0].as_py()


def test_a_column_by_its_place_is_refused_in_a_group(tmp_path: Path) -> None:
    group = {"key": ["user"], "columns": {"n": "max(#1)"}}
    with pytest.raises(ValueError, match="a column by its place"):
        spec(tmp_path, None, "visits", log={"group": group})


def test_the_counting_of_a_value_parses_its_column_alone(
    tmp_path: Path, sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = spec(tmp_path, None, "visits", partition_by="user")
    land(pipeline, sqlite, tmp_path)
    read_columns: list[list[str]] = []
    original = landed.LogReader._group_of

    def watch(self: landed.LogReader, table: pa.Table) -> Any:
        read_columns.append(table.column_names)
        return original(self, table)

    monkeypatch.setattr(landed.LogReader, "_group_of", watch)
    reader = open_source(pipeline, "visits", connect(sqlite))
    planned = reader.plan(DAY, 8)
    assert read_columns == [["user", "time"]]
    assert [p.rows for p in planned.partitions] == [8, 8, 8]
    assert sorted(rows(pa.concat_tables([reader.read(DAY, p) for p in planned.partitions])), key=str) == rows(
        whole(spec(tmp_path), sqlite)
    )
    with pytest.raises(MissingColumns, match="`user`"):
        open_source(spec(tmp_path, None, "visits", partition_by="usr"), "visits", connect(sqlite)).plan(DAY, 8)


def test_the_time_of_landed_lines_arrives_as_a_time(tmp_path: Path, database: Database) -> None:
    pipeline = spec(tmp_path)
    land(pipeline, database, tmp_path)
    reader = open_source(pipeline, "visits", connect(database))
    assert isinstance(reader, landed.LogReader)
    found = reader._relation().read(DAY)
    assert found.schema.field("time").type == TIMESTAMP
    hours = found.sort_by("time")["time"].to_pylist()
    assert hours == [DAY.start + timedelta(hours=i) for i in range(24)]


def test_the_columns_of_the_rows_are_known_without_reading(tmp_path: Path, sqlite: Database) -> None:
    pipeline = spec(tmp_path)
    land(pipeline, sqlite, tmp_path)
    assert row_schema(pipeline.sources["visits"]) == whole(pipeline, sqlite).schema  # type: ignore[arg-type]
    with sqlite.reading() as connection:
        assert (
            connection.execute(sa.select(sa.func.count()).select_from(landed.landed_table("p", "visits"))).scalar()
            == 24
        )
