"""The columns that a features query can see: never fewer than DuckDB uses."""

from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.spec.named_columns import find_named_columns

VISITS = pa.table({"user": ["a", "b", "a"], "size": [1, 2, 3], "Path": ["/", "/x", "/"], "us.er": [7, 8, 9]})
CLIENTS = pa.table({"id": [1, 2], "login": ["a", "b"], "size": [5, 6]})


def run(query: str, visits: pa.Table) -> list[tuple[Any, ...]] | None:
    """Return the rows in their order, with the names of the columns. None if the query fails."""
    with duckdb.connect(config={"threads": 1, "python_enable_replacements": False}) as connection:
        connection.register("visits", visits)
        connection.register("clients", CLIENTS)
        try:
            found = connection.sql(query)
            return [tuple(found.columns), *found.fetchall()]
        except duckdb.Error:
            return None


def prune(query: str) -> pa.Table:
    named = find_named_columns(query, "visits")
    columns = [c for c in VISITS.column_names if named is None or c.casefold() in named]
    return VISITS.select(columns or ["size"])  # a table of no columns has no rows


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ('select "user", count(*) as n from visits group by 1', {"user"}),
        ("select PATH from Visits", {"Path"}),
        ('select v."us.er" from main.visits as v', {"us.er"}),
        ("select c.*, (select max(size) from visits) as m from clients c", {"size"}),
        ("select c.* from clients c semi join visits v on v.user = c.login", {"user"}),
        ("with v as (select user, sum(size) as visits from visits group by all) select v.* from v", {"user", "size"}),
        ("with v as (select user from visits) select * from v", {"user"}),
        ("select login from clients join visits using (size)", {"size"}),
        (
            "select c.login, (select count(*) from visits where visits.user = c.login) as visits from clients c",
            {"user"},
        ),
        ('select "user".upper() from visits', {"user"}),
    ],
)
def test_columns_without_a_name_in_the_query_are_not_seen(query: str, seen: set[str]) -> None:
    named = find_named_columns(query, "visits")
    assert named is not None
    assert {column for column in VISITS.column_names if column.casefold() in named} == seen
    assert run(query, VISITS) is not None
    assert run(query, prune(query)) == run(query, VISITS)


SEES_ALL = (
    "select * from visits",
    "from visits",
    "select v.* exclude (size) from visits v",
    "select columns('us.*') from visits",
    "select columns(c -> c like 'us%') from visits",
    "select count(columns(*)) from visits",
    "select count(distinct v) from visits v",
    "select v.to_json() from visits v",
    "select c.login, (select max(v) from visits v where v.user = c.login) from clients c",
    "select c.login, (select any_value(struct_pack(v)) from clients) from visits v, clients c",
    "select #1 from visits",
    "select a from visits as v(a, b, c, d)",
    "select login from visits natural join clients",
    "select * from (pivot visits on user using sum(size))",
    'select * from (unpivot visits on size, "us.er")',
    "select * from (summarize visits)",
    "select * from (describe visits)",
    "select login from clients where exists (select * from visits)",
    "with v as (from visits) select user from v",
    "with visits as (select * from visits) select user from visits",
    "select distinct on (user) * from visits",
    "select user from visits positional join clients",
    "select user from visits union all by name select * from visits",
    "pivot visits on user using sum(size)",
    "select user from visits; select 1",
    "selec user from visits",
)


@pytest.mark.parametrize("query", SEES_ALL)
def test_a_query_that_may_see_columns_without_their_names_sees_all(query: str) -> None:
    assert find_named_columns(query, "visits") is None


ITEMS = (
    *("user", '"User"', "v.size", "visits.size", "size", '"us.er"', "path", "count(*)", "v", "visits", "c", "*", "v.*"),
    *(
        "c.*",
        "visits.*",
        "* exclude (size)",
        "v.* replace (1 as size)",
        "columns('s.*')",
        "#1",
        "#2",
        "login",
        "c.size",
    ),
    *(
        "count(distinct v)",
        "to_json(visits)",
        "v.to_json()",
        "size.abs()",
        "{'a': v}",
        "max(size) over ()",
        "x",
        "user_1",
    ),
    *(
        "(select max(size) from visits)",
        "(select v)",
        "(select visits from visits limit 1)",
        "(select count(c) from clients c)",
    ),
    *("(select sum(c.size) from clients c where c.login = v.user)", "exists (from visits)", "[y for y in [size]]"),
)
FROMS = (
    *("visits", "visits v", "visits as v(x, y)", "clients c, visits v", "visits v join clients c using (size)"),
    *("visits v natural join clients c", "(select * from visits) v", "(from visits select size, user) v", "w v"),
    *("clients c left join visits v on v.user = c.login", "visits v positional join clients c", "clients visits"),
    *("(pivot visits on user using sum(size)) v", "(unpivot visits on size) v", "(summarize visits) v", "w, visits"),
    *("clients c, lateral (select c.size + v.size as x from visits v) v", "(visits v cross join clients c) x"),
    *("visits v semi join clients c on v.user = c.login", "(table visits) v", "(select v from visits v) x, visits v"),
)
WITHS = (
    *(
        "",
        "with w as (select size as x, user from visits)",
        "with w as (from visits)",
        "with visits as (from visits), w as (from visits)",
    ),
    *("with w(x) as (select user from visits)", "with w as (select v from visits v)"),
)
ENDS = (
    "",
    "where size > 1",
    "where v.user = 'a'",
    "group by all",
    "group by 1",
    "order by all",
    "qualify row_number() over () = 1",
)


MORE = ("", "union all by name select 1 as z", "union all (select v from visits v)")


@settings(max_examples=200)
@given(
    with_=st.sampled_from(WITHS),
    items=st.lists(st.sampled_from(ITEMS), min_size=1, max_size=3),
    from_=st.sampled_from(FROMS),
    end=st.sampled_from(ENDS),
    more=st.sampled_from(MORE),
)
def test_a_query_over_the_columns_that_it_can_see_gives_the_same(
    with_: str, items: list[str], from_: str, end: str, more: str
) -> None:
    query = f"{with_} select {', '.join(items)} from {from_} {end} {more}"
    whole = run(query, VISITS)
    if whole is not None:  # a query that fails has no result to compare
        assert run(query, prune(query)) == whole
