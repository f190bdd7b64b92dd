"""What flow runs are called in the run history."""

from typing import Any

from prefect.runtime import flow_run

from penstock.carriers import interval_label
from penstock.interval import DataInterval, as_utc


def flow_run_name() -> str:
    """Name a run of the scoring flow by what was asked: `card-risk due`, `card-risk restate 2026-01-01 → 01-05`."""
    asked: dict[str, Any] = flow_run.parameters
    words = [asked["pipeline"].rpartition("/")[2].removesuffix(".yaml"), asked["mode"], _range(asked)]
    return " ".join([*filter(None, words), *(["(dry run)"] if asked["dry_run"] else [])])


def _range(asked: dict[str, Any]) -> str:
    start, end = (as_utc(asked[name]) if asked[name] else None for name in ("start", "end"))
    if start and end and start < end:
        return interval_label(DataInterval(start, end))
    told = [f"{word} {moment:%Y-%m-%d %H:%M}" for word, moment in (("from", start), ("until", end)) if moment]
    return " ".join(told)
