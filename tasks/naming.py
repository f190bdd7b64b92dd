"""Name the flow runs in the run history."""

from typing import Any

from prefect.runtime import flow_run

from penstock.interval import DataInterval, as_utc


def flow_run_name() -> str:
    """Name a run of the scoring flow by its parameters: `card-risk due`, `card-risk restate 2026-01-01 to 01-05`."""
    asked: dict[str, Any] = flow_run.parameters
    return _join(_pipeline(asked), asked["mode"], _range(asked), "(dry run)" if asked["dry_run"] else "")


def backfill_run_name() -> str:
    """Name a run of the backfill flow: `card-risk backfill 2026-01-01 to 02-01`."""
    asked: dict[str, Any] = flow_run.parameters
    return _join(_pipeline(asked), "restate" if asked["restate"] else "backfill", _range(asked))


def _join(*words: str) -> str:
    return " ".join(filter(None, words))


def _pipeline(asked: dict[str, Any]) -> str:
    return str(asked["pipeline"]).rpartition("/")[2].removesuffix(".yaml")


def _range(asked: dict[str, Any]) -> str:
    start, end = (as_utc(asked[name]) if asked[name] else None for name in ("start", "end"))
    if start and end and start < end:
        return DataInterval(start, end).plain_label
    bounds = [f"{word} {moment:%Y-%m-%d %H:%M}" for word, moment in (("from", start), ("until", end)) if moment]
    return " ".join(bounds)
