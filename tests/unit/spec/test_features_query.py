"""What a features query may look at. Each allowed query is run whole and cut, and must give the same rows."""

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from penstock.run.features import closed_duckdb
from penstock.spec.features_query import check_features
from penstock.spec.query_text import parameters_in

PAYMENTS = pa.table(
    {
        "id": [1, 2, 3, 4, 5, 6],
        "customer": ["a", "b", "a", "c", "b", None],
        "ts": [10, 20, 30, 40, 50, 60],
        "amount": [5.0, 7.0, 5.0, 2.0, 9.0, 1.0],
        "week": ["w1", "w1", "w2", "w2", "w2", "w1"],
        "tags": [[1, 2], [3], [], [4], [5, 6], [7]],
    }
)
OTHERS = {
    "customers": pa.table({"customer": ["a", "b", "z"], "since": [1, 2, 3], "country": ["DE", "FR", "IT"]}),
    "visits": pa.table({"customer": ["a", "a", "b", "z"], "time": [5, 25, 15, 1], "status": [200, 401, 200, 500]}),
    "sold": pa.table({"week": ["w1", "w1", "w2", "w3"], "units": [3, 4, 5, 6]}),
}

PLAIN = [
    "select id, amount * 2 as twice from payments where amount > 1 order by amount",
    "from payments p select p.*, hour(make_timestamp(ts * 1000000)) as h",
    "select p.id, c.country from payments p left join customers c using (customer)",
    "select p.id, c.country from customers c right join payments p on p.customer = c.customer",
    "select p.id, c.country from payments p, customers c where p.customer = c.customer",
    "select p.id, c.country from payments p natural join customers c",
    "select p.id from payments p semi join customers c using (customer)",
    "select p.id from payments p anti join customers c using (customer)",
    "select p.id, v.status from payments p asof left join visits v on p.customer = v.customer and p.ts >= v.time",
    """select p.id, count(v.time) as n, count(*) filter (v.status = 401) as failed from payments p
       left join visits v on v.customer = p.customer and v.time < p.ts group by all""",
    "select id, count(v.time) as n from payments p left join visits v using (customer) group by p.id",
    "select p.id as k, p.id, sum(v.time) from payments p left join visits v using (customer) group by 1, 2 having true",
    """with n as (select p.id, count(v.time) as n from payments p left join visits v using (customer) group by p.id),
       m as (select p.id, max(v.time) as m from payments p left join visits v using (customer) group by p.id)
       select p.id, p.amount, n.n, m.m from payments p join n using (id) left join m on m.id = n.id""",
    """with p as (select payments.*, c.country from payments left join customers c using (customer)),
       n as (select p.id, count(*) as n from p join visits v on v.customer = p.customer group by p.id)
       select p.id, n.n, p.country from p left join n using (id)""",
    "select p.id, (select max(v.time) from visits v where v.customer = p.customer) as last from payments p",
    "select id, exists (select 1 from visits v where v.customer = p.customer) as seen from payments p",
    "select id, customer in (select customer from customers) as known from payments",
    "select id, amount / (select avg(units) from sold) as share from payments",
    """select p.id, l.status from payments p left join lateral
       (select v.status from visits v where v.customer = p.customer order by v.time desc limit 1) l on true""",
    """select p.id, v.status, row_number() over (partition by p.id order by v.time desc) as r
       from payments p join visits v using (customer) qualify r = 1""",
    "select distinct p.id, c.country from payments p join customers c using (customer)",
    "select distinct on (p.id) p.id, v.status from payments p join visits v using (customer) order by p.id, v.time",
    "select id, t.x from payments, unnest(tags) t(x)",
    "select id, unnest(tags) as x from payments",
    "select id, list_sum(list_transform(tags, lambda x: x + 1)) as s from payments",
    "select id, amount from payments where amount > 4 union all select id, -amount from payments where amount <= 4",
    """with two as (select id, ts from payments where ts < 30 union all select id, ts from payments where ts >= 30)
       select p.id, two.ts from payments p join two using (id)""",
    "select id, amount from payments union select id, amount from payments",
    """with b as (select distinct week from payments),
       s as (select b.week, sum(sold.units) as units from b join sold using (week) group by b.week)
       select p.id, s.units from payments p left join s using (week)""",
    """with w as (select p.*, upper(p.week) as big from payments p where amount > 1),
       b as (select distinct week, big from w),
       s as (select b.week, sum(x.units) as units from b join sold x on upper(x.week) = b.big group by b.week)
       select w.id, s.units from w left join s on s.week = w.week""",
    "select p.id, s.n from payments p left join (select customer, count(*) as n from visits group by 1) s "
    "using (customer)",
    """with ranked as (select *, row_number() over (partition by customer order by time desc) as r from visits)
       select p.id, r.status from payments p left join ranked r on r.customer = p.customer and r.r = 1""",
    "with recursive n as (select 1 as i union all select i + 1 from n where i < 3) select id, i from payments, n",
    "select * from payments pivot (sum(amount) for week in ('w1', 'w2') group by id)",
    "select id, a, n from (select id, ts, amount from payments) unpivot (a for n in (ts, amount))",
    "select id, p.amount, (select count(*) from payments q where q.id = p.id) as one from payments p",
    "select id, age(make_timestamp(ts), make_timestamp(0)) as since, geomean_of.g from payments, "
    "(select geomean(units) as g from sold) geomean_of",
    "select id from main.payments",
    "select x.id, x.customer from (select id, customer from payments) x join customers c on c.customer = x.customer",
    "select a.id, b.amount from payments a full join payments b on a.id = b.id",
]
GROUPED = [
    "select id, row_number() over (partition by customer order by ts) as n from payments",
    "select id, sum(amount) over w as s, lag(ts) over w from payments window w as (partition by customer order by ts)",
    """with n as (select customer, count(*) as n, max(ts) as last from payments group by customer)
       select p.id, n.n, p.ts - n.last as ago from payments p left join n using (customer)""",
    "select p.id, count(q.id) as n from payments p left join payments q on q.customer = p.customer and q.ts < p.ts "
    "group by p.id",
    "select id, (select count(*) from payments q where q.customer = p.customer and q.ts < p.ts) as n from payments p",
    """select p.id, l.ts from payments p left join lateral
       (select q.ts from payments q where q.customer = p.customer and q.ts < p.ts order by 1 desc limit 1) l on true""",
    "select distinct on (customer) id, customer from payments order by customer, ts",
    "select p.id from payments p where exists (select 1 from payments q where q.customer = p.customer and q.ts > p.ts)",
    "select p.id, q.id as other from payments p asof left join payments q on p.customer = q.customer and p.ts > q.ts",
    "select max(id) as id, customer, sum(amount) as s from payments group by customer",
]
REFUSED = {
    "select id, row_number() over (order by id) as n from payments": "`row_number` over a window",
    "select id, row_number() over () as n from payments": "`row_number`",
    "select id, sum(amount) over (partition by customer) as s from payments": "`sum`",
    "select id, rank() over w as n from payments window w as (order by amount)": "`rank`",
    "select id, amount from payments qualify percent_rank() over (order by amount) > 0.1": "`percent_rank`",
    "select id from payments order by rank() over (order by amount)": "`rank`",
    "select p.id, row_number() over (partition by p.customer order by v.time) as n from payments p join visits v "
    "using (customer)": "`row_number`",
    "select p.id, avg(q.amount) as mean from payments p, payments q group by p.id": "a join of `payments` with itself",
    "select p.id, q.amount from payments p join payments q on q.customer = p.customer": "with itself",
    "select p.id, q.id as next from payments p join payments q on q.id = p.id + 1": "with itself",
    "select p.id from payments p asof join payments q on p.ts > q.ts": "with itself",
    "select p.id, v.time from visits v asof join payments p on v.time >= p.ts": "`asof join`",
    "select p.id, q.id as o, rank() over (partition by q.id order by p.ts) as r from payments p "
    "left join payments q on q.id = p.id and q.amount > 5": "`rank`",
    "select q.id, count(*) as n from payments p left join payments q on q.id = p.id and q.ts > 30 group by 1": "`count",
    "with j as (select q.* from payments p left join payments q on q.id = p.id and q.amount > 5) "
    "select distinct on (id) id, week from j": "`distinct on`",
    "select p.id, q.id as i from payments p positional join payments q": "positional",
    "select p.id, c.since from payments p positional join customers c": "positional",
    "select id, amount / (select avg(amount) from payments) as share from payments": "a subquery|`avg`",
    "select id, amount > (select geomean(amount) from payments) as big from payments": "`geomean`",
    "select id, amount from payments where amount = (select max(amount) from payments)": "`max`",
    "select id from payments where customer in (select customer from payments where amount > 5)": "a subquery",
    "select id, exists (select 1 from payments q where q.amount > p.amount) as x from payments p": "a subquery",
    "with m as (select max(ts) as m from payments) select id, m - ts as ago from payments, m": "`max`",
    "with n as (select customer, count(*) as n from payments group by customer) "
    "select id, n from payments left join n using (customer)": "`count_star`",
    "with p as (select * from payments), q as (select p.* from p) "
    "select q.id, count(*) as n from q join p on p.customer = q.customer group by q.id": "with itself",
    "select id, amount from payments limit 3": "`limit`",
    "select id, amount from payments order by amount offset 1": "`offset`",
    "select id, amount from payments order by amount limit 50%": "`limit`",
    "select x.id from (select id from payments order by ts limit 2) x": "`limit`",
    "select first(id order by ts) as id from payments": "`first`",
    "select max(id) as id, sum(amount) as s from payments": "`max`",
    "select max(id) as id, customer from payments group by customer": "`max`",
    "select max(id) as id, customer from payments group by all": "`max`",
    "select id, sum(amount) as s from payments group by rollup (id)": "several groupings",
    "select distinct customer, amount from payments": "returns no row for each key",
    "select customer from payments group by customer": "returns no row for each key",
    "select distinct on (customer) id, customer from payments order by ts": "`distinct on`",
    "with d as (select distinct customer, amount from payments) "
    "select p.id, d.amount from payments p join d on d.customer = p.customer": "distinct values",
    "with d as (select distinct week from payments where amount > 5) "
    "select p.id, d.week is null as none from payments p left join d using (week)": "`select distinct`",
    "with d as (select distinct week from payments), n as (select count(*) as n from d) "
    "select p.id, n.n from payments p, n": "`count_star`",
    "select id, amount from payments union all select since as id, 1.0 from customers": "rows of other sources",
    "select id, amount from payments union select 1 as id, 2.0": "rows of other sources",
    "select customer from payments intersect select customer from payments": "without `all`",
    "select id from payments except select id from payments where amount > 5 union all select 9": "other sources",
    "select c.since as id from customers c left join payments p using (customer)": "left join",
    "select p.id, c.since from payments p full join customers c using (customer)": "full join",
    "select c.since as id from customers c semi join payments p using (customer)": "semi join",
    "select c.since as id from customers c anti join payments p using (customer)": "anti join",
    "select * from payments pivot (sum(amount) for week in ('w1', 'w2') group by customer)": "`pivot`",
    "pivot payments on week using sum(amount) group by id": "`pivot` statement",
    "with x as (pivot payments on week using sum(amount)) select * from x": "`pivot` statement",
    "from (summarize payments)": "`summarize`",
    "with recursive r as (select id, ts from payments union all select id, 1 from r where false) from r": "recursive",
    "select * from query_table('payments')": "`query_table`",
    "select * from query('select count(*) as id from payments')": "`query`",
    "from histogram(payments, amount)": "`histogram`",
}
UNSTEADY = [
    "random()",
    "uuid()",
    "gen_random_uuid()",
    "now()",
    "today()",
    "current_date",
    "current_timestamp",
    "localtime",
    "get_current_timestamp()",
    "current_localtimestamp()",
    "age(make_timestamp(ts))",
    "ago(interval 1 day)",
    "nextval('s')",
]


def check(query: str, partition_by: str | None = None) -> None:
    check_features(query, "payments", ("id",), partition_by)


def run_whole_and_cut(query: str, groups: list[list[int]]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the rows of the whole table, and those of each of its cuts in two, both in one order."""
    with closed_duckdb({"payments": PAYMENTS, **OTHERS}) as connection:

        def run(positions: list[int]) -> list[Any]:
            connection.register("payments", PAYMENTS.take(positions))
            return connection.sql(query).fetchall()

        whole = sorted(map(str, run(list(range(PAYMENTS.num_rows)))))
        assert whole
        for size in range(1, len(groups)):
            for chosen in combinations(range(1, len(groups)), size):  # the first group is always in the other part
                one = [i for g in chosen for i in groups[g]]
                other = [i for i in range(PAYMENTS.num_rows) if i not in one]
                yield whole, sorted(map(str, run(one) + run(other)))


@pytest.mark.parametrize("query", PLAIN)
def test_a_query_that_judges_each_row_alone_is_allowed_and_gives_the_same_however_it_is_cut(query: str) -> None:
    check(query)
    for whole, cut in run_whole_and_cut(query, [[i] for i in range(PAYMENTS.num_rows)]):
        assert cut == whole


@pytest.mark.parametrize("query", GROUPED)
def test_a_query_over_groups_needs_partition_by_and_then_gives_the_same_however_groups_are_cut(query: str) -> None:
    with pytest.raises(ValueError, match="partition_by"):
        check(query)
    check(query, "customer")
    for whole, cut in run_whole_and_cut(query, [[0, 2], [1, 4], [3], [5]]):
        assert cut == whole


@pytest.mark.parametrize("query", REFUSED)
def test_a_query_that_looks_at_other_rows_is_refused_by_name(query: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[query]):
        check(query)


@pytest.mark.parametrize("query", GROUPED)
def test_partition_by_another_column_allows_nothing(query: str) -> None:
    with pytest.raises(ValueError, match="`week`"):
        check(query, "week")


@pytest.mark.parametrize("call", UNSTEADY)
@pytest.mark.parametrize(
    "query", ["select id, {} as x from payments", "select id, x from payments, (select {} as x from sold)"]
)
def test_chance_and_the_clock_are_refused_by_name(query: str, call: str) -> None:
    with pytest.raises(ValueError, match=r"changes with each call"):
        check(query.format(call.replace("(ts)", "(1)") if "sold" in query else call))


@pytest.mark.parametrize(
    "query", ["from payments using sample 3", "from payments tablesample 10%", "from customers tablesample 1 rows"]
)
def test_samples_are_refused(query: str) -> None:
    with pytest.raises(ValueError, match="sample"):
        check(query)


def test_a_column_that_is_named_like_the_clock_can_be_read_with_its_table() -> None:
    check("select p.id, p.current_date from payments p")


def test_the_queries_of_the_guide_are_allowed() -> None:
    page = Path("docs/queries.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    [spec] = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert parameters_in(blocks[0]) == ("interval_start", "interval_end")
    check_features(blocks[1], "payments", ("payment_id",), None)
    grouped = yaml.safe_load(spec)
    check_features(grouped["features"], "payments", ("payment_id",), grouped["partition_by"])
    rows = re.findall(r"^\| `([^`]*over[^`]*|\(select[^`]*)`[^|]*\| `([^`]*)`", page, re.MULTILINE)
    assert len(rows) == 2
    for allowed, refused in rows:
        source = "payments join visits v using (customer)"
        check_features(f"select payment_id, {allowed} as x from {source}", "payments", ("payment_id",), None)
        with pytest.raises(ValueError, match="partitions"):
            check_features(f"select payment_id, {refused} as x from {source}", "payments", ("payment_id",), None)
