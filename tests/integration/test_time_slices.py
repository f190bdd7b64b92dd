"""Partitions along the event time: each row of the interval is in exactly one, whatever the times and the database."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.database.connections import Connector, Database, open_database
from penstock.interval import DataInterval
from penstock.run_types import Partition
from penstock.sources import SourceReader, open_source
from penstock.sources.snapshot import exported_snapshot
from penstock.spec.pipeline import Pipeline
from tests.mariadb import INSTALLED, SKIPPED

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = DataInterval(START, START + timedelta(days=1))
KINDS = {
    "postgresql": ("timestamptz", "timestamp", "timestamp(0)", "date"),
    "duckdb": ("TIMESTAMPTZ", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_NS", "DATE"),
    "sqlite": ("text", "T", "mixed", "zones", "seconds", "ms", "float"),
    "mariadb": ("datetime(6)", "datetime", "timestamp(6)", "date"),
}
EVERY = [(dialect, kind) for dialect, kinds in KINDS.items() for kind in kinds]
EMPTY_TIMES = {"postgresql": ("infinity", "-infinity"), "duckdb": ("infinity", "-infinity")}
offsets = st.one_of(
    st.integers(-2, 90_000).map(lambda s: timedelta(seconds=s)),
    st.integers(-10, 86_400_000_010).map(lambda us: timedelta(microseconds=us)),
    st.sampled_from([timedelta(0), timedelta(hours=12), timedelta(days=1), timedelta(microseconds=-1)]),
    st.integers(0, 5_000_000).map(lambda us: timedelta(hours=12, microseconds=us)),
)


@pytest.fixture
def open_shop(use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Any:
    def open_(dialect: str) -> Database:
        return open_database(use_settings(shop=database_url(dialect, "shop")), "shop")

    return open_


def pipeline(**source: Any) -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "p",
            "sources": {"rows": {"kind": "sql", "connection": "shop", "key": ["id"], "table": "t"} | source},
            "interval": {"column": "moment", "grain": "1d", "start": "2026-01-01"},
            "model": "m@1",
            "destination": {"table": "scores"},
        }
    )


def reader(database: Database, **source: Any) -> SourceReader:
    return open_source(pipeline(**source), "rows", Connector(lambda _: database, ()))


def write_time(moment: datetime, kind: str, number: int) -> Any:
    """Write a moment as SQLite rows have it."""
    plain = moment.replace(tzinfo=None)
    zone = timezone(timedelta(hours=number % 25 - 12, minutes=30 * (number % 2)))
    styles: dict[str, Callable[[], Any]] = {
        "text": lambda: plain.isoformat(" "),
        "T": lambda: plain.isoformat("T") + "Z",
        "mixed": lambda: plain.isoformat("T" if number % 2 else " "),
        "zones": lambda: moment.astimezone(zone).isoformat(),
        "seconds": lambda: int(moment.timestamp()),
        "ms": lambda: (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1),
        "float": moment.timestamp,
    }
    return styles[kind]()


def make_table(database: Database, dialect: str, kind: str, times: list[datetime | None], index: bool) -> None:
    declared = "" if dialect == "sqlite" else kind
    with database.writing() as connection:
        connection.exec_driver_sql("drop table if exists t")
        connection.exec_driver_sql(f"create table t(id bigint primary key, moment {declared} null)")
        mark = "?" if dialect in ("sqlite", "duckdb") else "%s"
        rows: list[tuple[int, Any]] = []
        for number, moment in enumerate(times):
            if moment is None or dialect == "sqlite":
                rows.append((number, moment and write_time(moment, kind, number)))
            else:
                utc = moment if kind.upper().startswith("TIMESTAMPTZ") else moment.replace(tzinfo=None)
                rows.append((number, str(utc)))
        # not in the order of time
        connection.exec_driver_sql(f"insert into t values ({mark}, {mark})", rows[1::2] + rows[::2] or [(-1, None)])
        for number, never in enumerate(EMPTY_TIMES.get(dialect, ())):
            connection.exec_driver_sql(f"insert into t values ({-2 - number}, '{never}')")
        if index:
            connection.exec_driver_sql("create index by_time on t(moment)")


def check_slices(database: Database, size: int) -> list[Partition]:
    """Read all slices, and check that they have the interval's rows, each once."""
    source = reader(database)
    whole = Counter(source.read(DAY)["id"].to_pylist())
    plan = source.plan(DAY, size)
    read = [source.read(DAY, each)["id"].to_pylist() for each in plan.partitions]
    assert Counter(key for keys in read for key in keys) == whole
    assert plan.rows == sum(whole.values())
    assert [len(keys) for keys in read] == [each.rows for each in plan.partitions]
    assert [(each.index, each.of) for each in plan.partitions] == [(i, len(read)) for i in range(len(read))]
    return list(plan.partitions)


@pytest.mark.parametrize(("dialect", "kind"), EVERY)
def test_slices_have_each_row_of_the_interval_once(open_shop: Any, dialect: str, kind: str) -> None:
    if dialect == "mariadb" and INSTALLED is None:
        pytest.skip(SKIPPED)
    database = open_shop(dialect)

    @given(st.lists(st.one_of(st.none(), offsets), max_size=40), st.integers(1, 20), st.booleans())
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    def check(moments: list[timedelta | None], size: int, index: bool) -> None:
        make_table(database, dialect, kind, [m if m is None else START + m for m in moments], index)
        check_slices(database, size)
        with exported_snapshot(database) as snapshot:
            if snapshot is not None:
                check_slices(replace(database, snapshot=snapshot), size)

    check()
