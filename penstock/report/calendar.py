"""The intervals of a pipeline in a span of time, and how each one stands. Facts, read from the ledger."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.interval import DataInterval, covers
from penstock.ledger.destinations import LIVE
from penstock.ledger.migrations import has_ledger
from penstock.ledger.reader import touching
from penstock.ledger.tables import runs
from penstock.spec.pipeline import Pipeline

Standing = Literal["published", "restated", "halted", "failed", "missing", "running", "withdrawn", "waiting"]
STANDINGS: tuple[Standing, ...] = (
    "halted",
    "failed",
    "missing",
    "running",
    "withdrawn",
    "restated",
    "published",
    "waiting",
)
"""The worst first: a day of many intervals shows the worst of them."""
MOST_INTERVALS = 3_000
"""Intervals of one page: two days of minutes, or four months of hours."""


@dataclass(frozen=True)
class IntervalStanding:
    """How one interval stands."""

    interval: DataInterval
    standing: Standing
    run_id: str | None
    """The run to look at: the live one, otherwise the last one. None if no run has taken it."""


@dataclass(frozen=True)
class _Run:
    run_id: str
    interval: DataInterval
    state: str
    started_at: datetime
    lease_until: datetime


def read_calendar(
    database: Database, pipeline: Pipeline, start: datetime, end: datetime, now: datetime
) -> list[IntervalStanding]:
    """Return how the intervals that overlap `[start, end)` stand, the earliest first. Empty for a snapshot.

    An interval is waiting before it is due, and missing after it. It is restated if a live run has replaced
    another one. At most `MOST_INTERVALS` are returned.
    """
    spec = pipeline.interval
    if spec is None:
        return []
    intervals = spec.grid.covering(start, end)[:MOST_INTERVALS]
    if not intervals:
        return []
    known = _group(_read_runs(database, pipeline.name, intervals[0].start, intervals[-1].end), intervals)
    return [_judge(interval, known[interval], interval.end + spec.delay > now, now) for interval in intervals]


def _read_runs(database: Database, pipeline: str, start: datetime, end: datetime) -> list[_Run]:
    """Read the runs that readers may see, the oldest first."""
    if not has_ledger(database):
        return []
    columns = [
        runs.c[name] for name in ("run_id", "interval_start", "interval_end", "state", "started_at", "lease_until")
    ]
    query = touching(sa.select(*columns).where(runs.c.pipeline == pipeline, runs.c.variant == LIVE), start, end)
    with database.reading() as connection:
        found = connection.execute(query.order_by(runs.c.started_at)).all()
    return [
        _Run(r.run_id, DataInterval(r.interval_start, r.interval_end), r.state, r.started_at, r.lease_until)
        for r in found
    ]


def _group(found: Iterable[_Run], intervals: Sequence[DataInterval]) -> dict[DataInterval, list[_Run]]:
    """Return the runs that cover each interval. Runs of an earlier grain may cover several."""
    by_start = {interval.start: interval for interval in intervals}
    groups: dict[DataInterval, list[_Run]] = defaultdict(list)
    for run in found:
        own = by_start.get(run.interval.start)
        if own is not None and own.end == run.interval.end:
            groups[own].append(run)
            continue
        for interval in intervals:
            if covers(run.interval, interval):
                groups[interval].append(run)
    return groups


def _judge(interval: DataInterval, found: Sequence[_Run], is_early: bool, now: datetime) -> IntervalStanding:
    live = next((run for run in reversed(found) if run.state == "published"), None)
    last = next((run for run in reversed(found) if run.state != "superseded"), None)
    if live is not None:
        replaced = any(run.state == "superseded" for run in found)
        return IntervalStanding(interval, "restated" if replaced else "published", live.run_id)
    if last is None:
        return IntervalStanding(interval, "waiting" if is_early else "missing", None)
    return IntervalStanding(interval, _name_state(last, now), last.run_id)


def _name_state(run: _Run, now: datetime) -> Standing:
    if run.state in ("running", "audited"):
        return "running" if run.lease_until > now else "failed"
    return "halted" if run.state == "halted" else "withdrawn" if run.state == "withdrawn" else "failed"


def worst(standings: Iterable[Standing]) -> Standing:
    """Return the one of several that needs a person most. There is at least one."""
    return min(standings, key=STANDINGS.index)
