"""The features query runs in a DuckDB that reaches nothing but the rows that it is given, and not for ever."""

import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from penstock.errors import FeaturesError
from penstock.run.features import build_features
from penstock.spec.pipeline import Pipeline

ROWS = pa.table({"id": pa.array([1, 2], pa.int64()), "amount": pa.array([1.5, 2.5])})
REACHES: Any = ROWS
"""A frame of this module: DuckDB would read it by its name if it might look at Python's variables."""
ESCAPES = (
    "select * from read_csv('{file}')",
    "select * from '{file}'",
    "select * from read_text('/etc/passwd')",
    "select * from read_blob('/etc/passwd')",
    "select * from read_json('{file}')",
    "select * from read_parquet('{file}')",
    "select * from parquet_metadata('{file}')",
    "select * from sniff_csv('{file}')",
    "select * from read_duckdb('{file}')",
    "select * from glob('/etc/*')",
    "select * from query_table(['{file}'])",
    "select * from query('select * from ''{file}''')",
    "select * from 'https://example.com/a.csv'",
    "select * from 's3://bucket/a.parquet'",
    "select * from duckdb_secrets()",
    "select getenv('PATH')",
    "select * from REACHES",
    'select * from "primary"',
    "copy (select 1) to '{out}'",
    "export database '{out}'",
    "import database '{out}'",
    "attach '{out}' as other",
    "install httpfs",
    "load httpfs",
    "load '{file}'",
    "create secret s (type s3, key_id 'a', secret 'b')",
    "pragma enable_external_access=true",
    "set enable_external_access=true",
    "reset enable_external_access",
    "set lock_configuration=false",
    "set allowed_directories=['/']",
    "set temp_directory='{out}'",
    "set memory_limit='1TB'",
    "set variable x = 1",
    "drop view rows",
    "create macro leak() as table select * from read_csv('{file}'); select * from leak()",
    "create or replace view rows as select 1 as id; select * from rows",
    "select id from rows; select id from rows",
    "explain select id from rows",
    "-- nothing",
)


def pipeline(features: str) -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "closed",
            "sources": {"rows": {"kind": "sql", "connection": "shop", "table": "rows", "key": ["id"]}},
            "features": features,
            "model": "a@b",
            "destination": {"table": "scores"},
        }
    )


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_query_that_reaches_out_is_refused_and_leaves_nothing(
    escape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.csv").write_text("id,amount\n1,2\n")
    query = escape.format(file=tmp_path / "secret.csv", out=tmp_path / "out")

    with pytest.raises((FeaturesError, ValidationError), match=r"`closed`|may look at any table"):
        build_features(pipeline(query), "2026-01-01", ROWS, {}, 60)

    assert os.listdir(tmp_path) == ["secret.csv"]


@pytest.mark.parametrize(
    "query",
    [
        "select id, amount * 2 as twice from rows",
        "with doubled as (select id, amount * 2 as twice from rows) select * from doubled -- done",
        "from rows select id, amount as twice;",
        "select * from rows pivot (sum(amount) for id in (1, 2) group by id)",
    ],
)
def test_one_query_over_the_sources_is_run(query: str) -> None:
    assert build_features(pipeline(query), "2026-01-01", ROWS, {}, 60).num_rows == 2


def test_the_features_of_an_earlier_request_cannot_be_selected() -> None:
    build_features(pipeline("select id, amount from rows where id = 2"), "2026-01-01", ROWS, {}, 60)

    with pytest.raises(FeaturesError, match="penstock_features does not exist"):
        build_features(pipeline("select id, amount from penstock_features"), "2026-01-01", ROWS, {}, 60)


def test_a_query_without_end_is_ended_after_the_seconds_of_a_statement() -> None:
    where = "(a.range * 7919 + b.range * 104729) % 1000000007 = 999999999"  # no engine knows before that it is rare
    runaway = f"select a.range as id from range(10000000) a, range(10000000) b where {where}"
    begun = time.monotonic()

    with pytest.raises(FeaturesError, match=r"took longer than 1 s.*PENSTOCK_STATEMENT_SECONDS"):
        build_features(pipeline(runaway), "2026-01-01", ROWS, {}, 1)

    assert time.monotonic() - begun < 30
