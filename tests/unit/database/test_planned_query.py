"""A query over few rows is planned once, and gives what it gives over many rows."""

import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.database.closed_duckdb import ClosedDuckdb

EXPRESSIONS = (
    "x * 2 + 1", "x + 0", "x * 0", "x * 1 - 0", "x / 3", "-x", "abs(x)", "x * 0.1 + y * 0.2", "x / nullif(y, 0)",
    "case when x > 1 then x else -y end", "coalesce(x, y, 0)", "greatest(x, y)", "x > y", "x = y or x is null",
    "x in (0, 1, 2.5)", "n + 1 > 5", "n * 3 - 1", "n // 7", "n % 7", "cast(n as double) > 2.5", "n between 1 and 9",
    "s || '!'", "s like 'a%'", "s = 'a' and x > 0", "regexp_matches(s, '^a')", "length(s)", "upper(s)", "md5(s)",
    "round(x, 2)", "floor(x)", "sqrt(abs(x))", "ln(abs(x) + 1)", "cast(x as varchar)", "try_cast(s as integer)",
    "cast(n as decimal(20, 0)) * 1.5", "hash(n, s)", "x is null", "isnan(x)", "sin(x) + cos(x)", "pow(x, 2)",
)  # fmt: skip
QUERY = "select " + ", ".join(f"{expression} as c{at}" for at, expression in enumerate(EXPRESSIONS)) + " from rows"
SCHEMA = pa.schema({"x": pa.float64(), "y": pa.float64(), "n": pa.int64(), "s": pa.string()})
DOUBLES = st.one_of(
    st.none(), st.sampled_from([0.0, -0.0, 0.1, 1e-320, math.nan, 1e150]), st.floats(-1e150, 1e150, width=64)
)
INTEGERS = st.one_of(st.none(), st.integers(-(2**60), 2**60))
ROWS = st.tuples(DOUBLES, DOUBLES, INTEGERS, st.one_of(st.none(), st.text("aZé0 ", max_size=4)))


@pytest.fixture(scope="module")
def closed() -> ClosedDuckdb:
    return ClosedDuckdb()


def fetch(closed: ClosedDuckdb, rows: pa.Table, query: str = QUERY) -> pa.Table:
    with closed.connect_tables({"rows": rows}) as connection:
        return connection.keep(query, lambda raw: connection.plan_once(raw.sql(query), 1))()


def is_planned(closed: ClosedDuckdb, rows: pa.Table, query: str) -> bool:
    """Whether the query had a plan after two executions."""
    for _ in range(2):
        fetch(closed, rows, query)
    with closed.connect_tables({"rows": rows}) as connection:
        fetching: Any = connection._made[query]
        [planned] = [cell.cell_contents for cell in fetching.__closure__ if hasattr(cell.cell_contents, "fetch")]
        return bool(planned._execute)


def table_of(rows: Any) -> pa.Table:
    columns = zip(zip(*rows, strict=True), SCHEMA.types, strict=True)
    return pa.table([pa.array(values, kind) for values, kind in columns], SCHEMA.names)


def bits(table: pa.Table) -> list[Any]:
    """The values with NaN and the sign of zero shown."""
    return [[repr(value) for value in column.to_pylist()] for column in table.columns]


@settings(max_examples=8, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=8))
def test_few_rows_get_what_they_get_among_many(closed: ClosedDuckdb, rows: list[Any]) -> None:
    few = table_of(rows)
    many = pa.concat_tables([few] * (2000 // len(rows)))

    whole = fetch(closed, many)

    for _ in range(2):  # the first execution is not planned
        alone = fetch(closed, few)
        assert alone.schema == whole.schema
        assert bits(alone) == bits(whole.slice(0, few.num_rows))


def test_each_execution_reads_the_rows_of_now(closed: ClosedDuckdb) -> None:
    query = "select n * 2 as n from rows"
    row = table_of([(1.0, 2.0, 3, "a")])
    assert is_planned(closed, row, query)

    seen = [fetch(closed, each, query)["n"].to_pylist() for each in (row, row.slice(0, 0), pa.concat_tables([row] * 3))]

    assert seen == [[6], [], [6, 6, 6]]


@pytest.mark.parametrize(
    "query",
    [
        "select n from rows where x > 1",
        "select n, (select max(x) from rows) as m from rows",
        "select n, row_number() over () as m from rows",
        "select n from (select n, cast(s as integer) as m from rows)",
        "select a.n from rows a join rows b using (n)",
        "select n, cast('2026-01-01' as timestamp) as t from rows",
    ],
)
def test_what_the_optimizer_may_change_is_not_planned_without_it(closed: ClosedDuckdb, query: str) -> None:
    assert not is_planned(closed, table_of([(1.0, 2.0, 3, "1")]), query)


def test_an_error_of_the_plan_is_judged_with_the_optimizer(closed: ClosedDuckdb) -> None:
    query = "select n + 1 > 5 as large from rows"
    assert is_planned(closed, table_of([(1.0, 2.0, 3, "a")]), query)

    assert fetch(closed, table_of([(1.0, 2.0, 2**63 - 1, "a")]), query)["large"].to_pylist() == [True]
