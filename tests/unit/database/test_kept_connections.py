"""Connections that are kept for small tables: each use sees its own rows, and nothing of the use before."""

import pyarrow as pa
import pytest

from penstock.database.closed_duckdb import ClosedDuckdb

DUCKDB = ClosedDuckdb()


def total(table: pa.Table, query: str = "select sum(a) as total from rows") -> object:
    with DUCKDB.connect_tables({"rows": table}) as connection:
        relation = connection.keep(query, lambda raw: raw.sql(query))
        return relation.fetchall()[0][0]


def test_each_use_sees_its_own_rows_whatever_their_number_and_types() -> None:
    tables = [pa.table({"a": list(range(rows))}) for rows in (3, 1, 1024, 1025, 5000, 2)]
    mixed = [pa.table({"a": [0.5, None]}), pa.table({"a": [2]}), pa.table({"a": [1], "b": ["x"]})]

    assert [total(table) for table in tables] == [3, 0, 1024 * 1023 // 2, 1025 * 1024 // 2, 5000 * 4999 // 2, 1]
    assert [total(table) for table in (*mixed, *mixed)] == [0.5, 2, 1, 0.5, 2, 1]


def test_several_queries_over_the_same_columns_are_kept_apart() -> None:
    table = pa.table({"a": [1, 2]})
    queries = [f"select sum(a) + {number} from rows" for number in range(100)]

    assert [total(table, query) for query in queries * 2] == [3 + number for number in range(100)] * 2


def test_a_connection_is_not_used_again_after_an_error() -> None:
    table = pa.table({"a": [1]})
    used = []

    def fail() -> None:
        with DUCKDB.connect_tables({"rows": table}) as connection:
            used.append(connection)
            raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"):
        fail()
    with DUCKDB.connect_tables({"rows": table}) as connection:
        assert connection is not used[0]
    with DUCKDB.connect_tables({"rows": table}) as again:
        assert again is connection
