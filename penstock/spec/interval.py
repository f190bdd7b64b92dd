"""`interval:` of a spec: which intervals of event time are scored."""

import re
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from penstock.interval import Grain, Grid, Weekday, as_utc, calendar_boundaries, is_fixed, iso, parse_duration
from penstock.spec.parts import (
    Column,
    Duration,
    GrainText,
    Part,
    TimeZone,
    write_duration,
)


class IntervalSpec(Part):
    """Which intervals of event time are scored, and when each one is due."""

    column: Column = Field(examples=["created_at"])
    """Column of the primary source with the event time. For a log source it is `time`."""
    timezone: TimeZone = Field(default="UTC", examples=["Europe/Berlin"])
    """IANA time zone of the calendar. Days, weeks, months, quarters and years begin at its midnights, so a day may have
    23 or 25 hours. Minutes and hours have a fixed length. Event times without zone are UTC, whatever this zone is."""
    grain: GrainText = Field(examples=["1d", "month"])
    """Length of a data interval: a fixed one, or a `week`, `month`, `quarter` or `year` of the calendar."""
    first_day: Weekday = Field(default="monday", examples=["sunday"])
    """First day of a `week`."""
    start: datetime = Field(examples=["2026-01-06T00:00:00Z"])
    """Start of the first interval. A time without zone is local time of `timezone`. A week, month, quarter or year must
    begin then, and so must a day of another zone than UTC."""
    delay: Duration = Field(default=timedelta(0), examples=["10m"])
    """How long after its end an interval is due."""
    settle: Literal["delay", "horizon"] = Field(default="delay", examples=["horizon"])
    """`delay`: an interval is due when the delay is over. `horizon` (Postgres only): it is due when, in addition,
    every transaction that began before the end of the delay has ended."""
    lookback: int = Field(default=0, ge=0, le=1000, examples=[2])
    """How many of the newest published intervals are checked for late rows and scored again if there are any."""
    catch_up: Literal["all", "latest"] = Field(default="all", examples=["latest"])
    """After a pause: score all missed intervals, or only the latest one."""
    max_intervals: int = Field(default=32, ge=1, le=10_000, examples=[14])
    """Most intervals that one run scores, oldest first."""

    @field_validator("grain")
    @classmethod
    def _grain_is_positive(cls, value: Grain) -> Grain:
        if isinstance(value, timedelta) and value <= timedelta(0):
            raise ValueError("a grain must be longer than zero")
        return value

    @field_validator("grain", mode="before")
    @classmethod
    def _hours_are_no_days(cls, value: Any, info: ValidationInfo) -> Any:
        zone = info.data.get("timezone", "UTC")
        if isinstance(value, str) and re.fullmatch(r"\s*\d{1,6}\s*[hm]\s*", value) and zone != "UTC":
            length = parse_duration(value)
            if length % timedelta(days=1) == timedelta(0):
                raise ValueError(f"a day in {zone} may have 23 or 25 hours; write `{write_duration(length)}` for days")
        return value

    @field_validator("first_day")
    @classmethod
    def _only_weeks_have_a_first_day(cls, value: Weekday, info: ValidationInfo) -> Weekday:
        if value != "monday" and info.data.get("grain") != "week":
            raise ValueError("only `grain: week` has a first day; leave `first_day` out")
        return value

    @field_validator("start")
    @classmethod
    def _start_is_whole_seconds(cls, value: datetime) -> datetime:
        if value.microsecond:
            raise ValueError("the start must be a whole second")
        return value

    @field_validator("start")
    @classmethod
    def _start_is_a_boundary(cls, value: datetime, info: ValidationInfo) -> datetime:
        if not {"timezone", "grain", "first_day"} <= info.data.keys():
            return as_utc(value)  # one of them is refused
        zone, grain = info.data["timezone"], info.data["grain"]
        start = as_utc(value, zone)
        if is_fixed(grain, zone):
            return start
        last, following = calendar_boundaries(start, grain, zone, info.data["first_day"])
        if start != last:
            told, before, after = (iso(moment, zone) for moment in (start, last, following))
            name = "day" if isinstance(grain, timedelta) else grain
            raise ValueError(f"no {name} begins at {told} in {zone}; the nearest begin at {before} and {after}")
        return start

    @property
    def grid(self) -> Grid:
        """The intervals of the pipeline, from `start` on."""
        return Grid(self.start, self.grain, self.timezone)
