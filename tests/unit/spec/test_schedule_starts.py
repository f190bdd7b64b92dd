"""The next start of a schedule is the one that Prefect computes."""

import asyncio
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

from penstock.spec.parts import Schedule
from penstock.spec.schedule_starts import ANCHOR, next_start

MOMENTS = [
    datetime(2026, 3, 28, 23, 59, tzinfo=UTC),  # before clocks go forward in Europe
    datetime(2026, 10, 24, 22, 30, 17, tzinfo=UTC),  # before they go back
    datetime(2026, 11, 28, 2, 15, tzinfo=UTC),
    datetime(2027, 12, 31, 23, 0, tzinfo=UTC),
]
CRONS = [
    "15 2 * * *",
    "* * * * *",
    "*/7 22-2 * * *",
    "0 9 * * mon-fri",
    "30 6 1,15 * *",
    "0 0 l * *",
    "0 8 * * l5",
    "0 8 * * fri#2",
    "0 0 13 * 5",
    "0 12 29 2 *",
    "0 0 * jan-mar 0,7",
    "@weekly",
    "@hourly",
]
RULES = ["FREQ=WEEKLY;BYDAY=MO,WE;BYHOUR=6;BYMINUTE=0", "FREQ=MONTHLY;BYMONTHDAY=-1", "FREQ=DAILY;BYHOUR=2;BYMINUTE=30"]
INTERVALS = [timedelta(minutes=15), timedelta(hours=6), timedelta(days=1), timedelta(days=7)]


def assert_near(ours: datetime | None, theirs: datetime, zone: str) -> None:
    """On a night that clocks change, Prefect's answer depends on where it begins to count."""
    assert ours is not None
    day_before, day_after = ((theirs + sign * timedelta(days=1)).astimezone(ZoneInfo(zone)) for sign in (-1, 1))
    assert abs(ours - theirs) <= timedelta(hours=0 if day_before.utcoffset() == day_after.utcoffset() else 1)


def prefects(schedule: CronSchedule | IntervalSchedule | RRuleSchedule, after: datetime) -> datetime:
    found = asyncio.run(schedule.get_dates(n=3, start=after))
    return min(moment for moment in found if moment > after).astimezone(UTC)


@pytest.mark.parametrize("after", MOMENTS)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "Asia/Kathmandu"])
@pytest.mark.parametrize("cron", CRONS)
def test_a_cron_expression(cron: str, zone: str, after: datetime) -> None:
    theirs = prefects(CronSchedule(cron=cron, timezone=zone), after)
    assert_near(next_start(Schedule(cron=cron, timezone=zone), after), theirs, zone)


@pytest.mark.parametrize("after", MOMENTS)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris"])
@pytest.mark.parametrize("rule", RULES)
def test_a_recurrence_rule(rule: str, zone: str, after: datetime) -> None:
    theirs = prefects(RRuleSchedule(rrule=rule, timezone=zone), after)
    assert_near(next_start(Schedule(rrule=rule, timezone=zone), after), theirs, zone)


@pytest.mark.parametrize("after", [moment for moment in MOMENTS if moment.month != 10])  # Prefect counts 24 h there
@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris"])
@pytest.mark.parametrize("interval", INTERVALS)
def test_a_fixed_interval(interval: timedelta, zone: str, after: datetime) -> None:
    theirs = IntervalSchedule(interval=interval, anchor_date=ANCHOR.replace(tzinfo=ZoneInfo(zone)), timezone=zone)
    assert next_start(Schedule(interval=interval, timezone=zone), after) == prefects(theirs, after)
