"""Points of a regular grid of time."""

from datetime import datetime, timedelta


def align_down(moment: datetime, origin: datetime, step: timedelta) -> datetime:
    """Return the last grid point at or before a moment, on the grid that starts at `origin`."""
    return origin + (moment - origin) // step * step
