"""Name the flow runs in the run history. A run from a deployment has only the parameters that were set."""

from datetime import datetime
from typing import Any

from prefect.runtime import flow_run

from penstock.interval import DataInterval, as_utc, parse_moment

_LONGEST = 60
"""Most characters of one parameter in a name."""


def flow_run_name() -> str:
    """Name a run by its parameters: `card-risk due at 2026-01-05 01:15`, `card-risk restate 2026-01-01 to 01-05`.

    The nightly runs of a pipeline have equal parameters. Their scheduled start, in UTC, tells them apart.
    """
    asked: dict[str, Any] = flow_run.parameters
    mode, bounds = _word(asked.get("mode") or "due"), _range(asked)
    if mode == "due" and not bounds:
        bounds = f"at {as_utc(flow_run.scheduled_start_time):%Y-%m-%d %H:%M}"
    dry = "(dry run)" if asked.get("dry_run") is True else ""
    sandbox = f"sandbox:{_word(asked['sandbox'])}" if asked.get("sandbox") else ""
    return _join(_pipeline(asked), sandbox, mode, bounds, dry)


def backfill_run_name() -> str:
    """Name a run of the backfill flow: `card-risk backfill 2026-01-01 to 02-01`."""
    asked: dict[str, Any] = flow_run.parameters
    return _join(_pipeline(asked), "restate" if asked.get("restate") is True else "backfill", _range(asked))


def labels_run_name() -> str:
    """Name a run of the flow of labels: `card-risk labels at 2026-01-05 06:00`."""
    at = f"at {as_utc(flow_run.scheduled_start_time):%Y-%m-%d %H:%M}"
    return _join(_pipeline(flow_run.parameters), "labels", at)


def served_run_name() -> str:
    """Name a run of the flow that scores recorded rows again: `card-risk served at 2026-01-05 03:30`."""
    at = f"at {as_utc(flow_run.scheduled_start_time):%Y-%m-%d %H:%M}"
    return _join(_pipeline(flow_run.parameters), "served", at)


def promotion_run_name() -> str:
    """Name a run of the flow that promotes: `card-risk promotion at 2026-01-05 07:00`."""
    at = f"at {as_utc(flow_run.scheduled_start_time):%Y-%m-%d %H:%M}"
    return _join(_word(flow_run.parameters.get("model", "")), "promotion", at)


def _join(*words: str) -> str:
    return " ".join(filter(None, words))


def _pipeline(asked: dict[str, Any]) -> str:
    return read_name(asked.get("pipeline", ""))


def read_name(pipeline: object) -> str:
    """Return the name in what was asked for, which may be a path: `card-risk` for `pipelines/card-risk.yaml`."""
    return _word(str(pipeline).rpartition("/")[2].strip().removesuffix(".yaml"))


def _word(value: object) -> str:
    return str(value).strip()[:_LONGEST]


def _range(asked: dict[str, Any]) -> str:
    start, end = (_read_bound(asked.get(name)) for name in ("start", "end"))
    if start and end and start < end:
        return DataInterval(start, end).plain_label
    bounds = [f"{word} {moment:%Y-%m-%d %H:%M}" for word, moment in (("from", start), ("until", end)) if moment]
    return " ".join(bounds)


def _read_bound(value: object) -> datetime | None:
    """Return a bound of the range. None if it is empty or wrong: the run's message says so."""
    try:
        return as_utc(value if isinstance(value, datetime) else parse_moment(str(value or ""))) if value else None
    except (ValueError, OverflowError):
        return None
