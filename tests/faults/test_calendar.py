"""Borders of intervals where calendars are odd: days of 23 and of 25 hours, the leap day, the turn of a year."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.database.connections import close_engines, open_database
from penstock.interval import as_utc, parse_duration
from penstock.models.registry import Registry
from penstock.settings import Settings
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
IN_SHORT = {
    ("clocks go forward in New York", "sqlite"),
    ("clocks go forward in New York", "postgresql"),
    ("the leap day", "sqlite"),
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


def moments_around(start: datetime, end: datetime, grain: timedelta) -> list[datetime]:
    """Return every border with the instants beside it, and some moments between borders."""
    borders = [start + n * grain for n in range((end - start) // grain + 1)]
    around = {border + step for border in borders for step in (-INSTANT, timedelta(), INSTANT, grain / 3)}
    return sorted(moment for moment in around if start <= moment < end)


@pytest.mark.parametrize(
    ("odd", "dialect", "aware"),
    [
        pytest.param(odd, dialect, aware, marks=[] if (odd, dialect) in IN_SHORT else [soak])
        for odd in ODD
        for dialect, kinds in KINDS.items()
        for aware in kinds
    ],
)
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
    grain, start, end = parse_duration(length), *(as_utc(datetime.fromisoformat(moment)) for moment in (first, last))
    live_in(zone)
    table = OneTable(empty_database, registry, dialect, "sqlite")
    table.time = "timestamptz" if aware else "timestamp"
    if dialect == "postgresql":
        table.say(f"alter database \"{table.shop.url.database}\" set timezone = '{zone}'")
        close_engines()
    table.create("id bigint")
    expected: dict[int, datetime] = {}
    rows: list[dict[str, Any]] = []
    for number, moment in enumerate(moments_around(start, end, grain)):
        expected[number] = start + ((moment - start) // grain) * grain
        rows.append(
            {"id": number, "created_at": moment if aware and dialect != "sqlite" else moment.replace(tzinfo=None)}
        )
    table.insert(*rows)
    pipeline = table.pipeline(interval={"column": "created_at", "grain": length, "start": start}, partition_rows=3)

    Driver(pipeline, table.connect, registry).run(end)

    with table.warehouse.reading() as connection:
        found = connection.execute(sa.text("select id, interval_start from scores")).all()
    told = {key: as_utc(datetime.fromisoformat(str(begin))) for key, begin in found}
    assert len(found) == len(expected)
    assert told == expected
    kind = "times with a zone" if aware else "times without a zone"
    tell(f"{odd}, where process and database live", f"{dialect}, {kind}", "each row once, in its interval")


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
