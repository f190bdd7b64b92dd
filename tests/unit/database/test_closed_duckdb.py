"""The kept DuckDB is as closed as a new one: each connection has its own tables, and nothing else."""

import gc
import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from penstock.database.closed_duckdb import ClosedDuckdb
from penstock.run.features import closed_duckdb

ROWS = pa.table({"x": [1, 2, 3], "y": ["a", "b", "a"]})
DUCKDB = ClosedDuckdb()


def ask(query: str, **tables: pa.Table) -> list[tuple[Any, ...]]:
    with DUCKDB.connect(tables) as connection:
        return connection.execute(query).fetchall()


def test_connection_sees_only_its_own_tables() -> None:
    with DUCKDB.connect({"first": ROWS}), pytest.raises(duckdb.CatalogException, match="first"):
        ask("select * from first", second=ROWS)
    with pytest.raises(duckdb.CatalogException, match="first"):
        ask("select * from first")


def test_same_name_is_another_table_in_another_thread() -> None:
    def total(number: int) -> int:
        rows = pa.table({"x": [number] * 1000})
        return sum(ask("select sum(x) from rows", rows=rows)[0][0] for _ in range(20))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(total, range(8))) == [number * 20_000 for number in range(8)]


@pytest.mark.parametrize(
    "statement",
    [
        "set TimeZone='Europe/Paris'",
        "set threads=2",
        "set python_enable_replacements=true",
        "set enable_external_access=true",
        "reset lock_configuration",
        "attach 'other.duckdb'",
        "select * from read_csv('pyproject.toml')",
        "copy (select 1) to 'out.csv'",
        "install httpfs",
    ],
)
def test_no_connection_opens_what_is_closed(statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(duckdb.Error):
        ask(statement)


def test_no_connection_reads_python_variables() -> None:
    secret = pa.table({"x": [1]})

    with pytest.raises(duckdb.CatalogException):
        ask("select * from secret")
    assert secret.num_rows == 1


def test_every_connection_is_in_utc() -> None:
    for _ in range(2):
        assert ask("select current_setting('TimeZone')") == [("UTC",)]


def test_pivot_leaves_nothing_behind() -> None:
    for values in (["a", "b"], ["c"]):
        rows = pa.table({"x": [1] * len(values), "y": values})
        with closed_duckdb({"rows": rows}) as connection:
            found = connection.sql("pivot rows on y using sum(x)").to_arrow_table()
        assert found.column_names == values


def test_tables_are_freed_with_the_connection() -> None:
    rows = pa.table({"x": [1]})
    alive = weakref.ref(rows)

    ask("select * from rows", rows=rows)
    del rows
    gc.collect()

    assert alive() is None


def test_fork_opens_its_own() -> None:
    ask("select 1")

    child = os.fork()
    if child == 0:  # no other end: libraries that earlier tests started cannot stop in a fork
        right = False
        try:
            right = ask("select max(x) from rows", rows=ROWS) == [(3,)]
        finally:
            os._exit(0 if right else 1)

    assert os.waitpid(child, 0)[1] == 0
