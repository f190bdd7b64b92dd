"""`partition_by`: the rows of one value are read together, from every kind of source."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from penstock.database.connections import Connector, Database, open_database
from penstock.errors import MissingColumns, MixedTypes
from penstock.interval import DataInterval
from penstock.run.extract import land_logs
from penstock.run_types import Partition, SourcePlan
from penstock.sources import SourceReader, open_source
from penstock.spec.pipeline import Pipeline
from tests.conftest import DIALECTS

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = DataInterval(START, START + timedelta(days=1))
SIZES = {"a": 3, "b": 1, "B": 2, "ä": 3, "": 1, "c'd": 2, None: 2, "zz": 3}
"""Rows of each customer."""


def pipeline(source: dict[str, Any], partition_by: str = "customer") -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "p",
            "sources": {"rows": source},
            "partition_by": partition_by,
            "interval": {"column": "time", "grain": "1d", "start": "2026-01-01"},
            "model": "m@1",
            "destination": {"table": "t"},
        }
    )


def reader(spec: Pipeline, database: Database | None = None) -> SourceReader:
    ledger = database or Database("warehouse", sa.create_engine("sqlite://"))  # files ask it for their contract
    return open_source(spec, "rows", Connector(lambda _: ledger, ()))


@pytest.fixture(params=DIALECTS)
def database(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(shop=database_url(request.param, "shop")), "shop")


def make_rows(customers: dict[Any, int] = SIZES) -> list[dict[str, Any]]:
    """Return rows whose order by id mixes the customers."""
    left, rows = dict(customers), list[dict[str, Any]]()
    while any(left.values()):
        for customer, count in left.items():
            if count:
                left[customer] -= 1
                rows.append({"id": len(rows), "time": START + timedelta(minutes=len(rows)), "customer": customer})
    return rows


def fill(database: Database, rows: list[dict[str, Any]], kind: Any = sa.Text) -> None:
    columns = [sa.Column("id", sa.BigInteger), sa.Column("time", sa.DateTime), sa.Column("customer", kind)]
    table = sa.Table("payments", sa.MetaData(), *columns)
    table.create(database.engine)
    naive = [row | {"time": row["time"].replace(tzinfo=None)} for row in rows]
    early = {"id": -1, "time": (START - timedelta(days=1)).replace(tzinfo=None), "customer": rows[0]["customer"]}
    with database.writing() as connection:
        connection.execute(table.insert(), [*naive, early])


def check_whole_groups(source: SourceReader, size: int, rows: int) -> SourcePlan:
    plan = source.plan(DAY, size)
    tables = [source.read(DAY, partition) for partition in plan.partitions]
    assert plan.rows == rows == sum(t.num_rows for t in tables)
    assert [p.rows for p in plan.partitions] == [t.num_rows for t in tables]
    assert len({key for t in tables for key in t.column(0).to_pylist()}) == rows
    groups = [set(t["customer"].to_pylist()) for t in tables]
    assert sum(len(g) for g in groups) == len(set().union(*groups))
    assert plan.largest_group is not None
    assert all(t.num_rows <= max(size, plan.largest_group.rows) for t in tables)
    return plan


SQL = {"kind": "sql", "connection": "shop", "key": ["id"]}


@pytest.mark.parametrize("size", [1, 4, 100])
@pytest.mark.parametrize("where", [{"table": "payments"}, {"query": "select * from payments -- all"}])
def test_no_customer_is_cut_in_a_database(database: Database, where: dict[str, str], size: int) -> None:
    fill(database, make_rows())
    plan = check_whole_groups(reader(pipeline(SQL | where), database), size, 17)
    assert plan.largest_group is not None
    assert plan.largest_group.rows == 3
    assert len(plan.partitions) == {1: 8, 4: 6, 100: 1}[size]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (sa.BigInteger, [2**53, 2**53 + 1, -5, 10, 9]),
        (sa.Date, [date(2026, 1, 2), date(2025, 12, 31), date(2026, 1, 10)]),
        (sa.DateTime, [datetime(2026, 1, 2, 3, 4, 5, 6), datetime(2026, 1, 2, 3, 4, 5), datetime(1999, 1, 1)]),  # noqa: DTZ001 # naive on purpose
        (sa.Boolean, [True, False]),
        (sa.Numeric(12, 2), [Decimal("10.50"), Decimal("9.00"), Decimal("-1.25")]),
        (sa.Double, [1.5, -2.25, 1e300, 3.0]),
    ],
)
@pytest.mark.parametrize("form", ["table", "query"])
def test_groups_of_every_type_are_whole(database: Database, kind: Any, values: list[Any], form: str) -> None:
    rows = make_rows(dict.fromkeys(values, 3) | {None: 2})
    fill(database, rows, kind)
    where = {"table": "payments"} if form == "table" else {"query": "select id, time, customer from payments"}
    check_whole_groups(reader(pipeline(SQL | where), database), 3, len(rows))


def test_a_sqlite_column_of_numbers_and_texts_is_refused_by_name(database: Database) -> None:
    if database.dialect != "sqlite":
        pytest.skip("only SQLite has columns of mixed types")
    with database.writing() as connection:
        connection.execute(sa.text("create table payments (id integer, time text, customer)"))
        for value in ("1", "'1'"):
            connection.execute(sa.text(f"insert into payments values (1, '2026-01-01 01:00:00', {value})"))
    with pytest.raises(MixedTypes, match=r"`customer`.*integer, text"):
        reader(pipeline(SQL | {"table": "payments"}), database).plan(DAY, 5)


def test_a_column_that_the_source_lacks_is_named(database: Database) -> None:
    fill(database, make_rows())
    with pytest.raises(MissingColumns, match=r"`costumer`\. Did you mean `customer`"):
        reader(pipeline(SQL | {"table": "payments"}, "costumer"), database).plan(DAY, 5)


@pytest.mark.parametrize("size", [1, 4, 100])
@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
@pytest.mark.parametrize("values", [SIZES, {5: 3, 1: 2, None: 2, 40: 3}, {date(2026, 1, 2): 3, date(2026, 1, 10): 2}])
def test_no_customer_is_cut_in_files(tmp_path: Path, kind: str, values: dict[Any, int], size: int) -> None:
    rows = make_rows({k: n for k, n in values.items() if k != "" or kind != "csv"})
    for part in (0, 1):
        table = pa.Table.from_pylist(rows[part::2])
        if kind == "parquet":
            pq.write_table(table, tmp_path / f"{part}.parquet", row_group_size=2)
        elif kind == "csv":
            table.to_pandas().to_csv(tmp_path / f"{part}.csv", index=False)
        else:
            (tmp_path / f"{part}.json").write_text(
                "".join(json.dumps(r, default=str) + "\n" for r in table.to_pylist())
            )
    source = {"kind": "files", "path": str(tmp_path / f"*.{kind}"), "format": kind, "key": ["id"]}
    check_whole_groups(reader(pipeline(source)), size, len(rows))


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_no_customer_is_cut_in_a_log(
    use_settings: Callable[..., Any],
    database_url: Callable[[str, str], str],
    tmp_path: Path,
    size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("penstock.sources.logs.landed._PIECE_ROWS", 4)
    rows = make_rows()
    (tmp_path / "a.log").write_text("".join(json.dumps(row, default=str) + "\n" for row in rows))
    source = {
        "kind": "log",
        "path": str(tmp_path / "*.log"),
        "format": "json",
        "columns": {"id": "int", "customer": "string"},
    }
    spec = pipeline(source)
    for dialect in DIALECTS:
        warehouse = open_database(use_settings(warehouse=database_url(dialect, "warehouse")), "warehouse")
        connect = Connector(lambda _, found=warehouse: found, ())  # type: ignore[misc]
        land_logs(spec, connect)
        check_whole_groups(open_source(spec, "rows", connect), size, 17)
        with pytest.raises(MissingColumns, match="`customers`"):
            open_source(pipeline(source, "customers"), "rows", connect).plan(DAY, 5)


def test_a_parquet_bound_is_a_value_and_no_position(tmp_path: Path) -> None:
    table = pa.table({"id": range(100), "time": [START] * 100, "customer": [i % 10 * 1000 for i in range(100)]})
    pq.write_table(table, tmp_path / "a.parquet")
    pq.write_table(table.slice(0, 50).set_column(0, "id", pa.array(range(100, 150))), tmp_path / "b.parquet")
    source = {"kind": "files", "path": str(tmp_path / "*.parquet"), "format": "parquet", "key": ["id"]}
    plan = check_whole_groups(reader(pipeline(source)), 30, 150)
    assert [isinstance(p, Partition) for p in plan.partitions] == [True] * 5
