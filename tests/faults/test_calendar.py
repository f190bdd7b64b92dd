"""Borders of intervals where calendars are odd: days of 23 and 25 hours, leap days, months, the turn of a year."""

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from penstock.database.connections import close_engines, open_database
from penstock.interval import DataInterval, Grid, as_utc, parse_duration
from penstock.ledger.reader import list_runs
from penstock.models.registry import Registry
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline
from tests.driver import Driver
from tests.faults.conftest import Tell
from tests.faults.one_table import OneTable

soak = pytest.mark.soak
INSTANT, HOUR = timedelta(microseconds=1), timedelta(hours=1)
ODD = {
    "clocks go forward in New York": ("1h", "2026-03-08T04:00", "2026-03-08T10:00", "America/New_York"),
    "clocks go back in New York": ("1h", "2026-11-01T03:00", "2026-11-01T09:00", "America/New_York"),
    "clocks go back by half an hour": (
        "15m",
        "2026-04-04T14:00",
        "2026-04-04T16:00",
        "Australia/Lord_Howe",
    ),
    "a day of 23 hours in Paris": ("1d", "2026-03-28T00:00", "2026-03-31T00:00", "Europe/Paris"),
    "a day of 25 hours in Paris": ("1d", "2026-10-24T00:00", "2026-10-27T00:00", "Europe/Paris"),
    "a day that Samoa never had": ("1d", "2011-12-29T00:00", "2012-01-01T00:00", "Pacific/Apia"),
    "the leap day": ("1d", "2028-02-28T00:00", "2028-03-02T00:00", "Europe/Paris"),
    "the turn of the year": ("1h", "2026-12-31T22:00", "2027-01-01T02:00", "Asia/Kathmandu"),
}
"""The grain, the first and the last moment, and the zone that process and database live in. Intervals are in UTC."""
IN_ZONES = {
    "local days of Berlin, one of 23 hours": ("1d", "2026-03-28", "2026-03-31", "Europe/Berlin"),
    "local days of Berlin, one of 25 hours": ("1d", "2026-10-24", "2026-10-27", "Europe/Berlin"),
    "a local day that begins at one": ("1d", "2018-11-03", "2018-11-06", "America/Sao_Paulo"),
    "local days of half an hour more": ("1d", "2026-04-04", "2026-04-07", "Australia/Lord_Howe"),
    "local days beside one that never was": ("1d", "2011-12-29", "2012-01-02", "Pacific/Apia"),
    "local months, one with a change of clocks": ("month", "2028-02-01", "2028-05-01", "Europe/Berlin"),
    "weeks from Sunday on": ("week", "2026-03-01", "2026-03-22", "Asia/Kathmandu"),
    "quarters of Morocco": ("quarter", "2026-01-01", "2027-01-01", "Africa/Casablanca"),
}
"""The grain, the first and the last local time, and the zone of the pipeline's intervals."""
IN_SHORT = {
    ("clocks go forward in New York", "sqlite"),
    ("clocks go forward in New York", "postgresql"),
    ("the leap day", "sqlite"),
    ("local days of Berlin, one of 25 hours", "sqlite"),
    ("local days of Berlin, one of 25 hours", "duckdb"),
    ("local months, one with a change of clocks", "postgresql"),
}
"""What is not left to `make soak`."""
KINDS = {"sqlite": (False,), "postgresql": (True, False), "duckdb": (True, False)}
"""Whether a time has a zone, by dialect."""


@pytest.fixture
def live_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Have this process live in a time zone."""

    def live(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield live
    monkeypatch.undo()
    time.tzset()
    close_engines()


def moments_around(intervals: list[DataInterval]) -> dict[datetime, DataInterval]:
    """Return every border with the instants beside it, and a moment between borders, each with its interval."""
    around: dict[datetime, DataInterval] = {}
    for interval in intervals:
        start, end = interval.start, interval.end
        around |= dict.fromkeys((start, start + INSTANT, start + (end - start) / 3, end - INSTANT), interval)
    return around


def cases(odd: Iterable[str]) -> list[Any]:
    return [
        pytest.param(name, dialect, aware, marks=[] if (name, dialect) in IN_SHORT else [soak])
        for name in odd
        for dialect, kinds in KINDS.items()
        for aware in kinds
    ]


@pytest.mark.parametrize(("odd", "dialect", "aware"), cases(ODD))
def test_every_moment_falls_into_one_interval_wherever_process_and_database_live(
    empty_database: Callable[..., str],
    registry: Registry,
    live_in: Callable[[str], None],
    odd: str,
    dialect: str,
    aware: bool,
    tell: Tell,
) -> None:
    length, first, last, zone = ODD[odd]
    start, end = (as_utc(datetime.fromisoformat(moment)) for moment in (first, last))
    live_in(zone)
    table = OneTable(empty_database, registry, dialect, "sqlite")
    if dialect == "postgresql":
        table.say(f"alter database \"{table.shop.url.database}\" set timezone = '{zone}'")
        close_engines()
    pipeline = table.pipeline(interval={"column": "created_at", "grain": length, "start": start}, partition_rows=3)

    score_around(table, pipeline, Grid(start, parse_duration(length)).split(end), aware=aware)

    kind = "times with a zone" if aware else "times without a zone"
    tell(f"{odd}, where process and database live", f"{dialect}, {kind}", "each row once, in its interval")


@pytest.mark.parametrize(("odd", "dialect", "aware"), cases(IN_ZONES))
def test_every_moment_falls_into_one_interval_of_the_pipelines_zone(
    empty_database: Callable[..., str], registry: Registry, odd: str, dialect: str, aware: bool, tell: Tell
) -> None:
    grain, first, last, zone = IN_ZONES[odd]
    interval = {"column": "created_at", "grain": grain, "timezone": zone, "start": first}
    if odd == "weeks from Sunday on":
        interval["first_day"] = "sunday"
    table = OneTable(empty_database, registry, dialect, "sqlite")
    pipeline = table.pipeline(interval=interval, partition_rows=3)
    assert pipeline.interval is not None
    local = ZoneInfo(zone)
    intervals = pipeline.interval.grid.split(as_utc(datetime.fromisoformat(last), zone))

    score_around(table, pipeline, intervals, aware=aware)

    borders = {moment.astimezone(local).date() for i in intervals for moment in (i.start, i.end)}
    assert {date.fromisoformat(first), date.fromisoformat(last)} <= borders
    labels = [run.interval.label for run in list_runs(table.warehouse) if run.interval]
    assert sorted(labels) == sorted(interval.label for interval in intervals)
    tell(f"{odd}, intervals of {zone}", f"{dialect}, {'with' if aware else 'without'} a zone", "each row once")


def score_around(table: OneTable, pipeline: Pipeline, intervals: list[DataInterval], *, aware: bool) -> None:
    """Score rows at and around all borders. Each is published once, in the interval that contains it."""
    table.time = "timestamptz" if aware else "timestamp"
    table.create("id bigint")
    expected = dict(enumerate(moments_around(intervals).items()))
    keeps_zones = aware and table.shop.dialect != "sqlite"
    table.insert(
        *(
            {"id": number, "created_at": moment if keeps_zones else moment.replace(tzinfo=None)}
            for number, (moment, _) in expected.items()
        )
    )

    Driver(pipeline, table.connect, table.registry).run(intervals[-1].end)

    query = sa.text("select id, interval_start, interval_end from scores")
    with table.warehouse.reading() as connection:
        found = connection.execute(query).all()
    told = {key: [as_utc(datetime.fromisoformat(str(bound))) for bound in bounds] for key, *bounds in found}
    assert len(found) == len(expected)
    assert told == {number: [interval.start, interval.end] for number, (_, interval) in expected.items()}


def test_a_url_with_options_of_its_own_still_takes_times_without_a_zone_as_utc(
    empty_database: Callable[..., str], registry: Registry, tell: Tell
) -> None:
    start = datetime(2026, 3, 8, 4, tzinfo=UTC)
    table = OneTable(empty_database, registry, "postgresql", "sqlite")
    table.time = "timestamp"
    table.say(f"alter database \"{table.shop.url.database}\" set timezone = 'America/New_York'")
    table.create("id bigint")
    table.insert(*({"id": n, "created_at": (start + n * HOUR).replace(tzinfo=None)} for n in range(6)))
    close_engines()
    url = table.shop.url.update_query_dict({"options": "-c search_path=public -c statement_timeout=7000"})
    shop = open_database(Settings(connections={"shop": url.render_as_string(hide_password=False)}), "shop")  # type: ignore[dict-item]
    pipeline = table.pipeline(interval={"column": "created_at", "grain": "1h", "start": start})

    Driver(pipeline, {"shop": shop, "warehouse": table.warehouse}.__getitem__, registry).run(start + 6 * HOUR)

    with shop.reading() as connection:
        told = [
            connection.exec_driver_sql(f"show {name}").scalar_one() for name in ("search_path", "statement_timeout")
        ]
    with table.warehouse.reading() as connection:
        found = dict(connection.execute(sa.text("select id, interval_start from scores")).all())
    assert told == ["public", "7s"]
    assert {key: as_utc(datetime.fromisoformat(begin)) for key, begin in found.items()} == {
        number: start + number * HOUR for number in range(6)
    }
    tell("a URL with `options=`, times without a zone", "postgresql", "UTC, whatever zone the database is in")
