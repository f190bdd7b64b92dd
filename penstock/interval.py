"""Data intervals: half-open spans of event time, and pure functions to split and compare them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def parse_duration(text: str) -> timedelta:
    """Read `15m`, `1h`, `1d`, `1w`.

    Raises:
        ValueError: the text is not a whole number with one of these units.
    """
    match = re.fullmatch(r"(\d{1,6})\s*([mhdw])", text.strip())
    if match is None:
        raise ValueError(f"`{text}` is not a duration; write a number and m, h, d or w, as in `15m` or `1d`")
    return int(match[1]) * _UNITS[match[2]]


def as_utc(moment: datetime) -> datetime:
    """Return the same moment in UTC. A naive value is UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@dataclass(frozen=True, order=True)
class DataInterval:
    """`[start, end)` in UTC, aware."""

    start: datetime
    end: datetime

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
        """The interval for people: `2026-01-01 → 01-02`, with hours if they are not midnight."""
        midnight = all((t.hour, t.minute, t.second) == (0, 0, 0) for t in (self.start, self.end))
        clock = "" if midnight else " %H:%M"
        if self.start.date() == self.end.date():
            end = self.end.strftime("%H:%M")
        else:
            year = "" if self.start.year == self.end.year else "%Y-"
            end = self.end.strftime(f"{year}%m-%d{clock}")
        return f"{self.start.strftime(f'%Y-%m-%d{clock}')} → {end}"


def parse_key(key: str) -> DataInterval | None:
    """Read an interval's name in the ledger. None for the name of a snapshot."""
    start, slash, end = key.partition("/")
    return DataInterval(datetime.fromisoformat(start), datetime.fromisoformat(end)) if slash else None


def iso(moment: datetime) -> str:
    """Write a moment as `2026-01-01T00:00:00Z`, with microseconds only if there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def split(start: datetime, end: datetime, grain: timedelta) -> list[DataInterval]:
    """Cut `[start, end)` into whole grains from `start`. A shorter last piece is dropped."""
    whole = max((end - start) // grain, 0)
    return [DataInterval(start + i * grain, start + (i + 1) * grain) for i in range(whole)]


def align_down(moment: datetime, origin: datetime, grain: timedelta) -> datetime:
    """Return the last grid point at or before `moment`, on the grid that starts at `origin`."""
    return origin + ((moment - origin) // grain) * grain


def covering(start: datetime, end: datetime, origin: datetime, grain: timedelta) -> list[DataInterval]:
    """Return the grid intervals that overlap `[start, end)` and do not begin before `origin`."""
    first = max(align_down(start, origin, grain), origin)
    last = align_down(end - timedelta(microseconds=1), origin, grain) + grain
    return split(first, last, grain) if first < last else []


def merge(intervals: Iterable[DataInterval]) -> list[DataInterval]:
    """Join intervals that overlap or touch. The result is sorted."""
    merged: list[DataInterval] = []
    for interval in sorted(intervals):
        if merged and interval.start <= merged[-1].end:
            merged[-1] = DataInterval(merged[-1].start, max(merged[-1].end, interval.end))
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
