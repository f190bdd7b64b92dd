"""Names are quoted and values are bound: names and values made of SQL go through a whole run as they are."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.database.connections import Connector, Database, close_engines, open_database
from penstock.run.extract import land_logs
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline
from tests.conftest import DIALECTS
from tests.shop import train_model

TABLE = 'pay"ments; drop table penstock_runs; --%s :x'
KEY = 'id"; delete from penstock_runs; --'
TIME = "select"
KEPT = (
    "order",
    "Mixed Case",
    "a%b",
    "a%%b",
    "%(x)s",
    "b:c",
    "$1",
    "?",
    "it's",
    "back\\slash",
    "[x]",
    "Größe 💧",
    "null",
    "x" * 63,
    "ü" * 31,
)
VALUES = ("'); drop table payments; --", "a'b", '"', "%s", ":x", "\\", "$1", "Ω💧", "null", "", " ", "{}", "x" * 1000)
ROWS = 60


def source_table(schema: str | None) -> sa.Table:
    texts = [sa.Column(sa.quoted_name(name, quote=True), sa.Text) for name in KEPT]
    return sa.Table(
        sa.quoted_name(TABLE, quote=True),
        sa.MetaData(),
        sa.Column(sa.quoted_name(KEY, quote=True), sa.Text, primary_key=True),
        sa.Column(TIME, sa.DateTime(timezone=True)),
        sa.Column("amount", sa.Double),
        sa.Column("items", sa.BigInteger),
        sa.Column("country", sa.Text),
        sa.Column("first", sa.Boolean),
        *texts,
        schema=schema,
    )


def fill(database: Database, schema: str | None) -> list[dict[str, Any]]:
    table = source_table(schema)
    start = datetime(2026, 1, 1, tzinfo=UTC if database.dialect == "postgresql" else None)
    records: list[dict[str, Any]] = []
    for number in range(ROWS):
        value = VALUES[number % len(VALUES)]
        facts = {"amount": float(number), "items": number % 7, "country": "DE", "first": number % 2 == 0}
        kept = dict.fromkeys(KEPT, value)
        records.append({KEY: f"{value}{number}", TIME: start + timedelta(minutes=number), **facts, **kept})
    preparer = database.engine.dialect.identifier_preparer
    with database.writing() as connection:
        if schema is not None:
            connection.exec_driver_sql(f"create schema {preparer.quote_schema(schema)}")
        quoted = preparer.format_table(table)
        columns = [
            f"{preparer.quote_identifier(c.name)} {c.type.compile(database.engine.dialect)}" for c in table.columns
        ]
        connection.exec_driver_sql(f"create table {quoted} ({', '.join(columns)})")
        # The values go by position: what is tried here is Penstock, not the drivers' ways with odd parameter names.
        holes = ", ".join("%s" if database.dialect == "postgresql" else "?" for _ in columns)
        for record in records:
            connection.exec_driver_sql(f"insert into {quoted} values ({holes})", tuple(record.values()))
    return records


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("dialect", DIALECTS)
def test_names_and_values_made_of_sql_go_through_a_run_as_they_are(
    dialect: str, database_url: Callable[[str, str], str], use_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    from penstock.flows.score import score

    settings = use_settings(shop=database_url(dialect, "shop"), warehouse=database_url(dialect, "warehouse"))
    shop, warehouse = open_database(settings, "shop"), open_database(settings, "warehouse")
    schema = None if dialect == "sqlite" else 'My "schema"; --'
    records = fill(shop, schema)
    train_model(settings.models_folder)
    source = {"kind": "sql", "connection": "shop", "table": TABLE, "schema": schema, "key": [KEY]}
    spec = {
        "name": "odd-names",
        "interval": {"column": TIME, "grain": "1d", "start": "2026-01-01T00:00:00Z"},
        "sources": {"rows": source},
        "features": 'select *, amount as "it\'s; an alias" from rows',
        "expectations": {"rows": [{"type": "expect_column_values_to_not_be_null", "column": name} for name in KEPT]},
        "model": "card-risk@champion",
        "destination": {"table": "odd_scores", "keep": [*KEPT, "it's; an alias"]},
        "partition_rows": 20,
    }
    (tmp_path / "odd.yaml").write_text(json.dumps(spec, ensure_ascii=False))

    state: Any = score(str(tmp_path / "odd.yaml"), end="2026-01-02", return_state=True)

    assert state.is_completed(), state.message
    with warehouse.reading() as connection:
        rows = connection.exec_driver_sql("select * from odd_scores").mappings().all()
    found = {row[KEY]: {name: row[name] for name in KEPT} for row in rows}
    assert found == {record[KEY]: {name: record[name] for name in KEPT} for record in records}


def test_files_whose_names_are_made_of_sql_and_wildcards_are_read_each_once(tmp_path: Path) -> None:
    from penstock.sources.file_paths import matching_files
    from penstock.sources.file_states import read_states
    from penstock.sources.files import FilesRequest, files_relation
    from penstock.spec.sources import FilesSource

    names = ("it's.csv", 'a"b.csv', "x'); drop table y; --.csv", "{b}.csv", "100%.csv", "%s.csv", ":x.csv", "ü💧 .csv")
    for number, name in enumerate(names):
        (tmp_path / name).write_text(f"n\n{number}\n")
    source = FilesSource(kind="files", path=f"{tmp_path}/*.csv", format="csv")

    files = matching_files("odd", source, None, (), zone="UTC")
    with files_relation(FilesRequest("odd", source, read_states("odd", files))) as relation:
        read = relation.read(None)

    assert sorted(read["n"].to_pylist()) == list(range(len(names)))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_names_as_long_as_may_be_are_told_apart(
    tmp_path: Path, database_url: Callable[[str, str], str], dialect: str
) -> None:
    warehouse = open_database(Settings(connections={"warehouse": database_url(dialect, "w")}), "warehouse")  # type: ignore[dict-item]
    (tmp_path / "a.log").write_text("2026-01-01T00:00:00+00:00 1\n")
    regex = r"(?P<time>\S+) (?P<number>\d+)"
    source = {"kind": "log", "path": str(tmp_path / "a.log"), "format": {"regex": regex}}
    names = ["s" * 23 + last for last in "ab"]
    pipeline = Pipeline.model_validate(
        {
            "name": "p" * 36,
            "interval": {"column": "time", "grain": "1d", "start": "2026-01-01T00:00:00Z"},
            "sources": dict.fromkeys(names, source),
            "features": f"select a.* from {names[0]} a",
            "model": "card-risk@champion",
            "destination": {"connection": "warehouse", "table": "t" * 54},
        }
    )

    landed = land_logs(pipeline, Connector(lambda _: warehouse, ()))

    assert {name: landing.lines for name, landing in landed.items()} == dict.fromkeys(names, 1)
    close_engines()
