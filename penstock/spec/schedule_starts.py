"""When a schedule starts its next run, computed as Prefect does and without it."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from penstock.spec.parts import Schedule

if TYPE_CHECKING:
    from dateutil.rrule import rrule, rruleset

ANCHOR = datetime(2024, 1, 1)  # noqa: DTZ001 # local time of the schedule's zone
"""A deployment's `interval:` counts from here, a Monday."""
_SERVERS_BEGIN = datetime(2020, 1, 1)  # noqa: DTZ001 # where Prefect begins a rule without DTSTART
_DAY = timedelta(days=1)
_ALIASES = {
    "@annually": "0 0 1 1 *",
    "@yearly": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def next_start(schedule: Schedule, after: datetime) -> datetime | None:
    """Return the first start after a moment, in UTC. None if there is none."""
    zone = ZoneInfo(schedule.timezone)
    local = after.astimezone(zone).replace(tzinfo=None)
    if schedule.interval is not None:
        return _next_of_interval(schedule.interval, zone, after)
    begin = local.replace(hour=0, minute=0, second=0, microsecond=0)
    rule = _read_rule(schedule.rrule, begin) if schedule.rrule else _read_cron(str(schedule.cron), begin)
    found = local
    while (found := rule.after(found)) is not None:
        start: datetime = found.replace(tzinfo=found.tzinfo or zone).astimezone(UTC)
        if start > after:  # an hour that clocks repeat comes again
            return start
    return None


def _next_of_interval(interval: timedelta, zone: ZoneInfo, after: datetime) -> datetime:
    """Whole days are days of the calendar, everything else has a fixed length."""
    if interval % _DAY:
        anchor = ANCHOR.replace(tzinfo=zone).astimezone(UTC)
        return anchor + ((after - anchor) // interval + 1) * interval
    local = after.astimezone(zone).replace(tzinfo=None)
    return (ANCHOR + ((local - ANCHOR) // interval + 1) * interval).replace(tzinfo=zone).astimezone(UTC)


def _read_rule(text: str, begin: datetime) -> "rrule | rruleset":
    from dateutil.rrule import rrulestr

    frequent = "FREQ=MINUTELY" in text.upper() or "FREQ=SECONDLY" in text.upper()
    rule: rrule | rruleset = rrulestr(text, dtstart=begin if frequent else _SERVERS_BEGIN)
    return rule


def _read_cron(text: str, begin: datetime) -> "rruleset":
    """Return a cron expression as rules of iCalendar. With a day of the month and one of the week, either will do."""
    from dateutil.rrule import MONTHLY, rrule, rruleset

    minute, hour, day, month, weekday = _ALIASES.get(text.casefold(), text.casefold()).split()
    times: dict[str, Any] = {"byminute": _read(minute, "minute"), "byhour": _read(hour, "hour"), "bysecond": 0}
    if month != "*":
        times["bymonth"] = _read(month, "month")
    days = [{"bymonthday": _read(day, "day of month")}] if day not in ("*", "?") else []
    weekdays = [{"byweekday": _read_weekdays(weekday)}] if weekday not in ("*", "?") else []
    rules = rruleset()
    for which in (*days, *weekdays) or ({"bymonthday": [*range(1, 32)]},):
        rules.rrule(rrule(MONTHLY, dtstart=begin, **times, **which))
    return rules


def _read(text: str, field: str) -> list[int]:
    from penstock.spec.schedule_times import read_field

    parts = [part for part in text.split(",") if part != "l"]
    numbers = read_field(",".join(parts), field) if parts else set()
    return sorted(numbers) + ([-1] if len(parts) < len(text.split(",")) else [])


def _read_weekdays(text: str) -> list[Any]:
    """Read days of the week: `mon-fri`, `l5` for the last Friday of the month, `5#2` for the second one."""
    from dateutil.rrule import weekday

    found: list[Any] = []
    for part in text.split(","):
        day, nth, number = part.removeprefix("l").partition("#")
        days = [(n - 1) % 7 for n in _read(day, "day of week")]
        if part.startswith("l"):
            found += [weekday(n, -1) for n in days]
        elif nth:
            found += [weekday(n, int(number)) for n in days]
        else:
            found += [weekday(n) for n in dict.fromkeys(days)]
    return found
