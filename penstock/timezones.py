"""Time zones: their names, and a moment as people read it."""

from datetime import datetime
from difflib import get_close_matches
from functools import cache
from zoneinfo import ZoneInfo, available_timezones


@cache
def _read_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def check_timezone(name: str) -> str:
    """Require the name of an IANA time zone, and return it.

    Raises:
        ValueError: there is no such zone, with the nearest name.
    """
    zones = _read_zones()
    if name not in zones:
        folded = {zone.casefold(): zone for zone in zones}
        close = get_close_matches(name[:60].casefold(), folded, n=1, cutoff=0.9)
        hint = f". Did you mean `{folded[close[0]]}`?" if close else "; write it as in `Europe/Paris`"
        raise ValueError(f"there is no time zone `{name[:60]}`{hint}")
    return name


def describe_moment(moment: datetime, zone: str = "UTC", *, seconds: bool = False) -> str:
    """Write a moment in a zone, and name the zone: `2026-11-28 02:15 UTC`."""
    clock = "%H:%M:%S" if seconds else "%H:%M"
    return moment.astimezone(ZoneInfo(zone)).strftime(f"%Y-%m-%d {clock} %Z")
