"""Points and spans of a regular grid of time."""

from datetime import datetime, timedelta

from penstock import DataInterval


def align_down(moment: datetime, origin: datetime, step: timedelta) -> datetime:
    """Return the last grid point at or before a moment, on the grid that starts at `origin`."""
    return origin + (moment - origin) // step * step


def split(start: datetime, end: datetime, step: timedelta) -> list[DataInterval]:
    """Cut `[start, end)` into whole steps. A last piece shorter than a step is left out."""
    return [DataInterval(start + at * step, start + (at + 1) * step) for at in range((end - start) // step)]
