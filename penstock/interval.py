"""Data intervals: half-open spans of event time, the grid that they lie on, and functions to compare them."""

import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import cached_property
from itertools import accumulate, pairwise, repeat
from operator import add
from typing import Literal
from zoneinfo import ZoneInfo

CalendarGrain = Literal["week", "month", "quarter", "year"]
Grain = timedelta | CalendarGrain
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

WEEKDAYS: tuple[Weekday, ...] = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY, _SECOND, _INSTANT = timedelta(days=1), timedelta(seconds=1), timedelta(microseconds=1)
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": _DAY, "w": timedelta(weeks=1)}
_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_DATE = r"([0-9]{4})(?:-(0?[1-9]|1[0-2])-(0?[1-9]|[12][0-9]|3[01])|(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01]))"
_CLOCK = r"([01]?[0-9]|2[0-3])(?::([0-5][0-9])(?::([0-5][0-9])(?:[.,]([0-9]+))?)?)?"
_OFFSET = r"[Zz]|[Uu][Tt][Cc]|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?"
MOMENT_PATTERN = rf"{_DATE}(?:(?:[Tt]| +){_CLOCK} *({_OFFSET})?)?"
"""How people write a date or a time. The form in the UI refuses what does not match, except blanks around it."""
_SHOWN = 60
"""Most characters of a wrong text that a message repeats."""
MOMENT_EXAMPLES = "2026-01-31 or 2026-01-31T06:00"


def parse_duration(text: str) -> timedelta:
    """Read `15m`, `1h`, `1d`, `1w`.

    Raises:
        ValueError: the text is not a whole number with one of these units.
    """
    match = re.fullmatch(r"(\d{1,6})\s*([mhdw])", text.strip())
    if match is None:
        raise ValueError(f"`{text}` is not a duration; write a number and m, h, d or w, as in `15m` or `1d`")
    return int(match[1]) * _UNITS[match[2]]


def parse_moment(text: str) -> datetime:
    """Read `2026-01-31`, `2026-1-5 6:00` or `2026-01-31T06:00+02:00`. Without an offset the result is naive.

    Raises:
        ValueError: the text is no date or time, or none of the calendar. The message says how to write one.
    """
    match = re.fullmatch(MOMENT_PATTERN, text.strip())
    moment = _read_moment(match) if match else None
    if moment is None:
        what = "a date or time" if re.search(r"[:T]|[0-9]\s+[0-9]", text) else "a date"
        raise ValueError(f"`{_shorten(text.strip())}` is not {what}. Write {MOMENT_EXAMPLES}.")
    return moment


def _read_moment(match: re.Match[str]) -> datetime | None:
    """Return the moment, or None if the calendar has no such day or it is a day from an end of what Python counts."""
    year, month, day, compact_month, compact_day, hour, minute, second, fraction, offset = match.groups()
    clock = timedelta(
        hours=int(hour or 0),
        minutes=int(minute or 0),
        seconds=int(second or 0),
        microseconds=int((fraction or "0")[:6].ljust(6, "0")),
    )
    zone = _read_offset(offset) if offset else None
    try:
        midnight = datetime(int(year), int(month or compact_month), int(day or compact_day), tzinfo=zone)
        _ = midnight - _DAY, midnight + 2 * _DAY
    except (ValueError, OverflowError):
        return None
    return midnight + clock


def _read_offset(text: str) -> tzinfo:
    if text[0] not in "+-":
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    span = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-span if text[0] == "-" else span)


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def as_utc(moment: datetime, zone: str = "UTC") -> datetime:
    """Return the same moment in UTC. A naive value is local time of the zone."""
    return (moment.replace(tzinfo=_zone(zone)) if moment.tzinfo is None else moment).astimezone(UTC)


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)  # Python's own UTC is much faster


@dataclass(frozen=True, order=True, slots=True)
class DataInterval:
    """`[start, end)` in UTC, aware."""

    start: datetime
    end: datetime
    zone: str = field(default="UTC", compare=False, repr=False)
    """The time zone of the label. Two intervals that differ only in it are equal."""

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("an interval needs aware datetimes")
        if self.start >= self.end:
            raise ValueError(f"interval start {self.start} is not before its end {self.end}")

    def covers(self, other: "DataInterval") -> bool:
        """Whether the other interval lies wholly inside this one."""
        return self.start <= other.start and other.end <= self.end

    def overlaps(self, other: "DataInterval") -> bool:
        """Whether the two share a moment."""
        return self.start < other.end and other.start < self.end

    @property
    def key(self) -> str:
        """The interval's name in the ledger: `2026-01-01T00:00:00Z/2026-01-02T00:00:00Z`."""
        return f"{iso(self.start)}/{iso(self.end)}"

    @property
    def label(self) -> str:
        """The interval for people, in its zone: `2026-01-01 → 01-02`, with hours if they are not midnight."""
        start, end = (moment.astimezone(_zone(self.zone)) for moment in (self.start, self.end))
        midnight = all((t.hour, t.minute, t.second) == (0, 0, 0) for t in (start, end))
        clock = "" if midnight else " %H:%M"
        zone = "" if midnight or self.zone == "UTC" else f" {end.tzname()}"
        if start.date() == end.date():
            until = end.strftime("%H:%M")
        else:
            year = "" if start.year == end.year else "%Y-"
            until = end.strftime(f"{year}%m-%d{clock}")
        return f"{start.strftime(f'%Y-%m-%d{clock}')} → {until}{zone}"

    @property
    def plain_label(self) -> str:
        """The label in ASCII, as in `2026-01-01 to 01-02`: the timeline in Prefect's UI has glyphs for no more."""
        return self.label.replace("→", "to")


def parse_key(key: str, zone: str = "UTC") -> DataInterval | None:
    """Read an interval's name in the ledger. None for the name of a snapshot."""
    start, slash, end = key.partition("/")
    return DataInterval(datetime.fromisoformat(start), datetime.fromisoformat(end), zone) if slash else None


def iso(moment: datetime, zone: str = "UTC") -> str:
    """Write a moment as `2026-01-01T00:00:00Z`, in another zone with its offset. Microseconds only if there are any."""
    return moment.astimezone(_zone(zone)).isoformat().replace("+00:00", "Z")


def is_fixed(grain: Grain, zone: str) -> bool:
    """Whether all intervals of the grain have one length: minutes and hours in any zone, days in UTC."""
    return isinstance(grain, timedelta) and (zone == "UTC" or grain % _DAY != timedelta(0))


@dataclass(frozen=True)
class Grid:
    """Intervals of one grain that follow each other without a gap.

    Minutes and hours have a fixed length, and so have days in UTC. Days of another zone, weeks, months, quarters and
    years begin at midnight of the zone, so their lengths differ.
    """

    origin: datetime
    """Start of the first interval, in UTC. It must be a boundary of the calendar, see `calendar_boundaries`."""
    grain: Grain
    zone: str = "UTC"

    def align_down(self, moment: datetime) -> datetime:
        """Return the last boundary at or before a moment."""
        return self._boundary(self._number(moment))

    def next(self, moment: datetime) -> datetime:
        """Return the first boundary after a moment."""
        return self._boundary(self._number(moment) + 1)

    def previous(self, moment: datetime, count: int = 1) -> datetime:
        """Return the last boundary before a moment, or the one `count` intervals before it."""
        for _ in range(count):
            moment = self.align_down(moment - _INSTANT)
        return moment

    def split(self, end: datetime) -> list[DataInterval]:
        """Return the whole intervals from the origin to `end`."""
        return self._list(0, self._number(end))

    def covering(self, start: datetime, end: datetime) -> list[DataInterval]:
        """Return the intervals that overlap `[start, end)`, from the origin on."""
        start = max(start, self.origin)
        return self._list(self._number(start), self._number(end - _INSTANT) + 1) if start < end else []

    def count(self, start: datetime, end: datetime) -> int:
        """Return how many intervals begin in `[start, end)`. Both are boundaries."""
        if self._length is not None:
            return (end - start) // self._length
        return len(self._list(self._number(start), self._number(end)))

    def cut(self, start: datetime, end: datetime) -> list[DataInterval]:
        """Cut `[start, end)` at the boundaries, also before the origin. The first and the last piece may be short."""
        inner = (self._boundary(n) for n in range(self._number(start) + 1, self._number(end - _INSTANT) + 1))
        return [DataInterval(a, b, self.zone) for a, b in pairwise((start, *inner, end)) if a < b]

    @cached_property
    def _length(self) -> timedelta | None:
        """Length of all intervals. None if it depends on the calendar."""
        return self.grain if isinstance(self.grain, timedelta) and is_fixed(self.grain, self.zone) else None

    @cached_property
    def _clock(self) -> tzinfo:
        return _zone(self.zone)

    @cached_property
    def _first_date(self) -> date:
        return self.origin.astimezone(self._clock).date()

    @cached_property
    def _days(self) -> int:
        """Days of an interval. 0 if it has whole months."""
        if isinstance(self.grain, timedelta):
            return self.grain.days
        return 7 if self.grain == "week" else 0

    @cached_property
    def _months(self) -> int:
        return _MONTHS[str(self.grain)]

    def _boundary(self, number: int) -> datetime:
        """Return the start of an interval, numbered from the origin. Equal to the next one if its day never was."""
        if self._length is not None:
            return self.origin + number * self._length
        first = self._first_date
        if self._days:
            return _first_instant(first + number * self._days * _DAY, self._clock)
        months = first.year * 12 + first.month - 1 + number * self._months
        return _first_instant(date(months // 12, months % 12 + 1, 1), self._clock)

    def _number(self, moment: datetime) -> int:
        """Return the number of the interval that contains a moment."""
        if self._length is not None:
            return (moment - self.origin) // self._length
        first, day = self._first_date, moment.astimezone(self._clock).date()
        if self._days:
            number = (day - first).days // self._days
        else:
            number = ((day.year - first.year) * 12 + day.month - first.month) // self._months
        while self._boundary(number + 1) <= moment:  # clocks that go back at midnight repeat the end of the day before
            number += 1
        return number

    def _list(self, first: int, beyond: int) -> list[DataInterval]:
        count = max(beyond - first, 0)
        boundaries: Iterable[datetime]
        if self._length is not None:
            boundaries = accumulate(repeat(self._length, count), add, initial=self._boundary(first))
        else:
            boundaries = (self._boundary(number) for number in range(first, first + count + 1))
        return [DataInterval(a, b, self.zone) for a, b in pairwise(boundaries) if a < b]


def calendar_boundaries(
    moment: datetime, grain: Grain, zone: str, first_day: Weekday = "monday"
) -> tuple[datetime, datetime]:
    """Return the last boundary of the calendar at or before a moment, and the first after it.

    The boundaries of a grain of days are all midnights of the zone.
    """
    day = moment.astimezone(_zone(zone)).date()
    if isinstance(grain, timedelta):
        grain = _DAY
    elif grain == "week":
        day -= (day.weekday() - WEEKDAYS.index(first_day)) % 7 * _DAY
    else:
        day = day.replace(month=day.month - (day.month - 1) % _MONTHS[grain], day=1)
    grid = Grid(_first_instant(day, _zone(zone)), grain, zone)
    return grid.align_down(moment), grid.next(moment)


def _first_instant(day: date, clock: tzinfo) -> datetime:
    """Return the first moment, in UTC, at which the zone's date is this day or a later one."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=clock)
    begin = midnight.astimezone(UTC)
    if begin.astimezone(clock).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return begin
    # Clocks go forward over this midnight. The change lies between its readings by the offset after it and before it.
    low = midnight.replace(fold=1).astimezone(UTC)
    seconds = range((begin - low) // _SECOND)
    return low + _SECOND * bisect_left(
        seconds, True, key=lambda passed: (low + passed * _SECOND).astimezone(clock).date() >= day
    )


def merge(intervals: Iterable[DataInterval]) -> list[DataInterval]:
    """Join intervals that overlap or touch. The result is sorted."""
    merged: list[DataInterval] = []
    for interval in sorted(intervals):
        if merged and interval.start <= merged[-1].end:
            merged[-1] = DataInterval(merged[-1].start, max(merged[-1].end, interval.end), interval.zone)
        else:
            merged.append(interval)
    return merged


def gaps(start: datetime, end: datetime, done: Iterable[DataInterval]) -> list[DataInterval]:
    """Return the parts of `[start, end)` that the done intervals leave open, oldest first."""
    found: list[DataInterval] = []
    for span in merge(done):
        if span.start > start:
            found.append(DataInterval(start, min(span.start, end)))
        start = max(start, span.end)
        if start >= end:
            return found
    return [*found, DataInterval(start, end)] if start < end else found


def covers(one: DataInterval | None, other: DataInterval | None) -> bool:
    """Whether the first contains the second. None is all of time, the interval of a snapshot."""
    return one is None or (other is not None and one.covers(other))


def is_covered(interval: DataInterval, spans: Iterable[DataInterval]) -> bool:
    """Whether the spans together cover the whole interval."""
    return any(span.covers(interval) for span in merge(spans))
