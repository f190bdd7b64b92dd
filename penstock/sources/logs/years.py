"""Find the year of times without one, from the file's time or from a stated first year."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

_DAY = 86_400_000_000
_HALF_YEAR = 183 * _DAY
LEAP = 2000
"""The year that times without one are first read in, because it has a 29 February."""


@dataclass(frozen=True)
class Years:
    """What is known of the years of a file's lines."""

    seen_at: datetime
    """When the file was last written."""
    first: int | None = None
    """The year of its first line, if that is stated."""
    last: datetime | None = None
    """The time of the line before, in local time, if lines of the file were read before."""

    def date(self, micros: Ints, found: Bools) -> tuple[Ints, Bools]:
        """Move times that were read in the leap year to their own year. Returns a mask of those that exist there."""
        if self.first is None:
            return self._by_file(micros, found)
        return self._in_order(micros, found, self.first)

    def _by_file(self, micros: Ints, found: Bools) -> tuple[Ints, Bools]:
        """Take the latest year in which a time is at most a day after the file's."""
        limit = self.seen_at.astimezone(UTC) + timedelta(days=1)
        result, open_ = np.zeros(len(micros), np.int64), found.copy()
        for year in range(limit.year + 1, limit.year - 9, -1):  # nine years contain a 29 February, even around 1900
            if not open_.any():
                break
            moved, valid = _in_year(micros, np.full(len(micros), year))
            fits = open_ & valid & (moved <= _micros(limit))
            result[fits] = moved[fits]
            open_ &= ~fits
        return result, found & ~open_

    def _in_order(self, micros: Ints, found: Bools, first: int) -> tuple[Ints, Bools]:
        """Begin with the stated year. Where the date falls back by half a year, a new year has begun."""
        given = micros[found]
        start = np.array([first], np.int64)
        if self.last is not None:
            start = np.array([self.last.year], np.int64)
            before = self.last.replace(year=LEAP).astimezone(UTC)
            given = np.concatenate(([_micros(before)], given))
        steps = np.diff(given)
        turns = np.concatenate(([0], np.cumsum((steps < -_HALF_YEAR).astype(np.int64) - (steps > _HALF_YEAR))))
        years = np.zeros(len(micros), np.int64)
        years[found] = (start + turns)[1 if self.last is not None else 0 :][: found.sum()]
        moved, valid = _in_year(micros, years)
        return moved, found & valid


def _micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _in_year(micros: Ints, years: Ints) -> tuple[Ints, Bools]:
    """Move times of the leap year to other years. A 29 February does not exist in most of them."""
    days = np.floor_divide(micros, _DAY).astype("M8[D]")
    months = days.astype("M8[M]")
    day = (days - months.astype("M8[D]")).astype(np.int64)
    moved = months + ((years - LEAP) * 12).astype("m8[M]")
    last = ((moved + np.timedelta64(1, "M")).astype("M8[D]") - moved.astype("M8[D]")).astype(np.int64)
    return (moved.astype("M8[D]").astype(np.int64) + day) * _DAY + np.mod(micros, _DAY), day < last
