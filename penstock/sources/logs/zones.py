"""Read local times of a time zone as UTC. Times that occur twice or never in it are found."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from penstock.interval import DataInterval

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

_STEP = 900_000_000
"""Clocks are changed at whole quarters of an hour."""
_LATEST = 253_000_000_000_000_000


@dataclass(frozen=True)
class LocalZone:
    """A time zone, and which of the two is meant where a local time occurs twice."""

    name: str
    second: bool = False
    """Read a time of the repeated hour as its second occurrence."""

    def to_utc(self, local: Ints) -> tuple[Ints, Bools]:
        """Return local microseconds as UTC, and a mask of those that exist."""
        steps, place = np.unique(np.floor_divide(local, _STEP), return_inverse=True)
        read = [self._shift(int(step) * _STEP) for step in steps.tolist()]
        shifts, exist = np.array([r[0] for r in read], np.int64), np.array([r[1] for r in read], np.bool_)
        return local - shifts[place] if len(steps) else local, exist[place] if len(steps) else np.ones(0, np.bool_)

    def repeated(self, span: DataInterval) -> list[tuple[datetime, datetime]]:
        """Return the spans in UTC, within another, in which local times occur for the first of two times."""
        zone, step, found = ZoneInfo(self.name), timedelta(microseconds=_STEP), []
        day = span.start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
        while day < span.end + timedelta(days=1):
            if day.astimezone(zone).utcoffset() != (day + timedelta(days=1)).astimezone(zone).utcoffset():
                moments = [day + i * step for i in range(97)]
                offsets = [m.astimezone(zone).utcoffset() or timedelta(0) for m in moments]
                falls = [i for i in range(96) if offsets[i + 1] < offsets[i]]
                found += [(moments[i + 1] - (offsets[i] - offsets[i + 1]), moments[i + 1]) for i in falls]
            day += timedelta(days=1)
        cut = [(max(begin, span.start), min(end, span.end)) for begin, end in found]
        return [(begin, end) for begin, end in cut if begin < end]

    def _shift(self, local: int) -> tuple[int, bool]:
        """Return the microseconds east of UTC at a local time, and whether the time exists."""
        if not 0 < local < _LATEST:
            return 0, False
        naive = datetime(1970, 1, 1) + timedelta(microseconds=local)  # noqa: DTZ001  local time, made aware below
        moment = naive.replace(tzinfo=ZoneInfo(self.name), fold=int(self.second))
        shift = moment.utcoffset() or timedelta(0)
        again = moment.astimezone(UTC).astimezone(moment.tzinfo).replace(tzinfo=None)
        return shift // timedelta(microseconds=1), again == naive
