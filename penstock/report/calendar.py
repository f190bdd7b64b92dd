"""The intervals of a pipeline in a span of time, and how each one stands. Facts, read from the ledger."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Literal

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.interval import DataInterval
from penstock.ledger.destinations import LIVE, destination_name
from penstock.ledger.migrations import has_ledger
from penstock.ledger.reader import touching
from penstock.ledger.tables import runs
from penstock.report.status import is_taken
from penstock.spec.interval import IntervalSpec
from penstock.spec.pipeline import Pipeline

Standing = Literal["published", "restated", "halted", "failed", "missing", "running", "withdrawn", "skipped", "waiting"]
STANDINGS: tuple[Standing, ...] = (
    "halted",
    "failed",
    "missing",
    "running",
    "withdrawn",
    "restated",
    "published",
    "skipped",
    "waiting",
)
"""The worst first: a day of many intervals shows the worst of them."""


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

    An interval is waiting before it is due. After that it is missing, or skipped if `catch_up` leaves it out. It is
    restated if a live run has replaced another one. Only runs of the pipeline's destination count, as in a plan.
    """
    spec = pipeline.interval
    if spec is None:
        return []
    intervals = spec.grid.covering(start, end)
    if not intervals:
        return []
    known = _group(_read_runs(database, pipeline, intervals[0].start, intervals[-1].end), intervals)
    return [_judge(interval, known.get(interval, ()), spec, now) for interval in intervals]


def _read_runs(database: Database, pipeline: Pipeline, start: datetime, end: datetime) -> list[_Run]:
    """Read the runs that readers may see, the oldest first."""
    if not has_ledger(database):
        return []
    columns = [
        runs.c[name] for name in ("run_id", "interval_start", "interval_end", "state", "started_at", "lease_until")
    ]
    with database.reading() as connection:
        place = destination_name(connection, pipeline.destination)
        here = (runs.c.destination == place, runs.c.variant == LIVE)
        query = touching(sa.select(*columns).where(*here), start, end)
        found = connection.execute(query.order_by(runs.c.started_at)).all()
    return [
        _Run(r.run_id, DataInterval(r.interval_start, r.interval_end), r.state, r.started_at, r.lease_until)
        for r in found
    ]


def _group(found: Iterable[_Run], intervals: Sequence[DataInterval]) -> dict[DataInterval, list[_Run]]:
    """Return the runs that cover each interval. Runs of an earlier grain may cover several."""
    starts = [interval.start for interval in intervals]
    groups: dict[DataInterval, list[_Run]] = defaultdict(list)
    for run in found:
        for interval in islice(intervals, bisect_left(starts, run.interval.start), None):
            if interval.end > run.interval.end:
                break
            groups[interval].append(run)
    return groups


def _judge(interval: DataInterval, found: Sequence[_Run], spec: IntervalSpec, now: datetime) -> IntervalStanding:
    live = next((run for run in reversed(found) if run.state == "published"), None)
    last = next((run for run in reversed(found) if run.state != "superseded"), None)
    if live is not None:
        replaced = any(run.state == "superseded" for run in found)
        return IntervalStanding(interval, "restated" if replaced else "published", live.run_id)
    if last is None:
        is_early = interval.end + spec.delay > now
        return IntervalStanding(interval, "waiting" if is_early else _name_due(interval, spec, now), None)
    return IntervalStanding(interval, _name_state(last, now), last.run_id)


def _name_due(interval: DataInterval, spec: IntervalSpec, now: datetime) -> Standing:
    return "missing" if is_taken(interval, spec, now) else "skipped"


def _name_state(run: _Run, now: datetime) -> Standing:
    if run.state in ("running", "audited"):
        return "running" if run.lease_until > now else "failed"
    return "halted" if run.state == "halted" else "withdrawn" if run.state == "withdrawn" else "failed"


def worst(standings: Iterable[Standing]) -> Standing:
    """Return the one of several that needs a person most. There is at least one."""
    return min(standings, key=STANDINGS.index)
