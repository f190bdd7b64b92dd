"""How many rows there are: none at any stage, as many as a partition holds, one key a million times, a million rows."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from penstock.database.connections import close_engines
from penstock.ledger.reader import list_runs
from penstock.models.registry import Registry
from tests.conftest import DIALECTS
from tests.driver import Driver
from tests.faults.conftest import Tell
from tests.faults.one_table import OneTable
from tests.shop import START

soak = pytest.mark.soak
MILLION = 1_000_000
NO_ROWS: dict[str, dict[str, Any]] = {
    "the source": {},
    "the source's gate": {
        "expectations": {
            "payments": [{"type": "expect_column_values_to_be_null", "column": "amount", "severity": "warning"}]
        }
    },
    "the features": {"features": "select id, amount, items, country, first from payments where items > 100"},
    "the model": {"features": "select id, amount, items, 'XX' as country, first from payments"},
}
"""What lets no row through, and where."""


def make_table(empty_database: Callable[..., str], registry: Registry, dialect: str, rows: int) -> OneTable:
    table = OneTable(empty_database, registry, dialect, dialect)
    table.create("id bigint")
    table.insert(*({"id": number} for number in range(rows)))
    return table


@pytest.mark.parametrize("dialect", ["sqlite", *(pytest.param(d, marks=soak) for d in DIALECTS if d != "sqlite")])
@pytest.mark.parametrize("after", NO_ROWS)
def test_an_interval_of_which_no_row_is_left_is_published_empty_where_that_is_normal(
    empty_database: Callable[..., str], registry: Registry, after: str, dialect: str, tell: Tell
) -> None:
    rows = 0 if after == "the source" else 5
    table = make_table(empty_database, registry, dialect, rows)

    outcome = table.score(empty="publish", **NO_ROWS[after])

    outcome.check_accounted(rows)
    assert outcome.live == {}
    again = Driver(table.pipeline(empty="publish", **NO_ROWS[after]), table.connect, registry)
    assert again.run(START + timedelta(days=1)) == ["resolve", "collect logs", "plan"]
    close_engines()
    tell(f"no row is left after {after}", dialect, "published empty, once")


@pytest.mark.parametrize("dialect", ["sqlite", *(pytest.param(d, marks=soak) for d in DIALECTS if d != "sqlite")])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5])
def test_rows_about_as_many_as_a_partition_holds_come_once_each(
    empty_database: Callable[..., str], registry: Registry, rows: int, dialect: str, tell: Tell
) -> None:
    table = make_table(empty_database, registry, dialect, rows)

    outcome = table.score(partition_rows=2)

    outcome.check_accounted(rows)
    assert sorted(outcome.live) == list(range(rows))
    tell("as many rows as one, two partitions hold, one more, one less", dialect, "each row once")


def fill(table: OneTable, key: str) -> None:
    """Write a million payments that are alike in all but the key, which may count `i`."""
    digits = "with d(i) as (values (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)), n(i) as (select a.i + 10 * b.i + 100 * c.i"
    digits += " + 1000 * e.i + 10000 * f.i + 100000 * g.i from d a, d b, d c, d e, d f, d g)"
    moment = "'2026-01-01 01:00:00'"
    table.create("id bigint")
    table.say(f"insert into payments {digits} select {moment}, 12.5, 2, 'DE', true, {key} from n")


@soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_key_that_is_there_a_million_times_halts_by_its_name(
    empty_database: Callable[..., str], registry: Registry, dialect: str, tell: Tell
) -> None:
    table = OneTable(empty_database, registry, dialect, dialect)
    fill(table, "7")

    outcome = table.score(partition_rows=50_000)

    assert outcome.record.state == "halted"
    assert f"7 ({MILLION} rows)" in outcome.said
    assert outcome.live == {}
    tell("one key a million times", dialect, "halted; names the key")


@soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_million_rows_alike_in_all_but_the_key_are_scored_once_each(
    empty_database: Callable[..., str], registry: Registry, dialect: str, tell: Tell
) -> None:
    table = OneTable(empty_database, registry, dialect, dialect)
    fill(table, "i")

    Driver(table.pipeline(partition_rows=100_000), table.connect, registry).run(START + timedelta(days=1))

    counts = "select count(*), count(distinct id), count(distinct score), min(id), max(id) from scores"
    with table.warehouse.reading() as connection:
        told = connection.exec_driver_sql(counts).one()
    [record] = list_runs(table.warehouse)
    close_engines()
    assert tuple(told) == (MILLION, MILLION, 1, 0, MILLION - 1)
    assert (record.state, record.rows_extracted, record.rows_scored) == ("published", MILLION, MILLION)
    tell("a million rows that differ only in the key", dialect, "each scored once")
