"""Decide which intervals a run scores: missing ones, those with late rows, and requested ones."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from penstock.errors import SettingsError
from penstock.interval import DataInterval, as_utc, missing
from penstock.ledger.reader import RunRecord
from penstock.run_types import Horizon, interval_key, interval_label
from penstock.spec.pipeline import IntervalSpec, Pipeline

Mode = Literal["due", "backfill", "restate", "release"]
Reason = Literal["due", "late rows", "backfill", "restate", "release", "snapshot"]


@dataclass(frozen=True)
class PlannedInterval:
    """An interval to score, and why."""

    interval: DataInterval | None
    reason: Reason

    @property
    def label(self) -> str:
        return interval_label(self.interval)

    @property
    def again(self) -> bool:
        """Whether a published run of the interval is to be superseded."""
        return self.reason in ("late rows", "restate", "release", "snapshot")


@dataclass(frozen=True)
class Plan:
    """The intervals that one run would score, the oldest first."""

    intervals: tuple[PlannedInterval, ...]
    published: int = 0
    """Published intervals that are not scored again."""
    withdrawn: int = 0
    """Withdrawn intervals. Only a restate scores them again."""
    left_over: int = 0
    """Due intervals beyond `max_intervals` or `catch_up`. A later run takes them."""
    stalled: int = 0
    """Intervals that have ended, but wait because an open transaction may still write into them."""
    blocker: str = ""
    """The session or transaction that they wait for, as text."""

    @property
    def stall(self) -> str:
        """How many intervals wait, and for which transaction, as a sentence. Empty if none waits."""
        if not self.stalled:
            return ""
        waiting = "1 interval waits" if self.stalled == 1 else f"{self.stalled:,} intervals wait"
        return f"{waiting} for open transactions: {self.blocker}"


@dataclass(frozen=True)
class PlanRequest:
    """The input of a plan: the pipeline, the facts of the ledger and the source, and the request."""

    pipeline: Pipeline
    latest_runs: Mapping[str, RunRecord]
    """Published and withdrawn runs by interval key, from the ledger."""
    now: datetime
    """The run's one "now", aware."""
    fingerprint_of: Callable[[DataInterval], str]
    """Returns the primary source's current fingerprint of an interval. Called only inside `lookback`."""
    mode: Mode = "due"
    start: datetime | None = None
    """With `end`: take only intervals that touch `[start, end)`. Naive means local time of the interval's zone."""
    end: datetime | None = None
    whole: bool = False
    """Take all of the intervals, beyond `max_intervals`."""
    released: Container[str] = ()
    """Keys of intervals with rows that were released from quarantine and wait for a run."""
    horizon: Horizon | None = None
    """The time up to which the primary source is complete. Later intervals wait in every mode."""


def plan_intervals(request: PlanRequest) -> Plan:
    """Decide which intervals to score.

    Raises:
        SettingsError: a snapshot pipeline is given a range, or a restate is given none.
    """
    spec = request.pipeline.interval
    if spec is None:
        return _plan_snapshot(request)
    due = _due(spec, request)
    if request.mode == "restate":
        if request.start is None or request.end is None:
            raise SettingsError(
                "a restate needs a range", "Give start and end; every interval that they touch is scored again."
            )
        return _limit(request, spec, [PlannedInterval(i, "restate") for i in due])
    chosen = _choose(request, spec, due)
    withdrawn = sum(1 for i in due if i.key in request.latest_runs and request.latest_runs[i.key].state == "withdrawn")
    return replace(_limit(request, spec, chosen), published=len(due) - len(chosen) - withdrawn, withdrawn=withdrawn)


def _plan_snapshot(request: PlanRequest) -> Plan:
    if request.start or request.end:
        raise SettingsError(
            f"`{request.pipeline.name}` is a snapshot pipeline and has no intervals", "Leave start and end out."
        )
    idle = request.mode == "release" and interval_key(None) not in request.released
    return Plan(() if idle else (PlannedInterval(None, "snapshot"),))


def _choose(request: PlanRequest, spec: IntervalSpec, due: list[DataInterval]) -> list[PlannedInterval]:
    """Return the due intervals that are missing, have released rows or have late rows, oldest first."""
    mode, latest_runs = request.mode, request.latest_runs
    wanted = missing(due, [run.interval for run in latest_runs.values() if run.interval is not None])
    if mode == "due" and spec.catch_up == "latest" and request.start is None and request.end is None:
        wanted = [i for i in wanted if i == due[-1]]
    if mode == "release":
        wanted = [i for i in wanted if i.key in request.released]
    released = [] if mode == "backfill" else [i for i in due if i.key in request.released and _is_live(latest_runs, i)]
    late = [] if mode in ("backfill", "release") else _late(request, spec, due)
    reasons: dict[DataInterval, Reason] = dict.fromkeys(late, "late rows")
    reasons |= dict.fromkeys(released, "release")
    reasons |= dict.fromkeys(wanted, "backfill" if mode == "backfill" else "due")
    return [PlannedInterval(i, reasons[i]) for i in due if i in reasons]


def _limit(request: PlanRequest, spec: IntervalSpec, chosen: list[PlannedInterval]) -> Plan:
    """Leave out what must wait for the horizon, and what is beyond `max_intervals`."""
    horizon = request.horizon
    ready = [p for p in chosen if not (horizon and p.interval) or horizon.covers(p.interval.end + spec.delay)]
    taken = tuple(ready if request.whole else ready[: spec.max_intervals])
    return Plan(
        taken,
        left_over=len(ready) - len(taken),
        stalled=len(chosen) - len(ready),
        blocker=horizon.blocker if horizon else "",
    )


def plan_range(
    pipeline: Pipeline,
    latest_runs: Mapping[str, RunRecord],
    now: datetime,
    start: datetime | None,
    end: datetime | None,
    restate_since: datetime | None,
    horizon: Horizon | None = None,
) -> Plan:
    """Decide which intervals of a range a backfill still has to score, without `max_intervals`.

    Args:
        restate_since: score every interval again that was not scored since then; None: only what is missing.

    Raises:
        SettingsError: the pipeline is a snapshot, or a restate names no range.
    """
    if pipeline.interval is None:
        raise SettingsError(
            f"`{pipeline.name}` is a snapshot pipeline and has no intervals",
            f"Score its whole source with `penstock run {pipeline.name}`.",
        )
    mode: Mode = "backfill" if restate_since is None else "restate"
    plan = plan_intervals(
        PlanRequest(pipeline, latest_runs, now, lambda _: "", mode, start, end, whole=True, horizon=horizon)
    )
    if restate_since is None:
        return plan
    again = {key for key, run in latest_runs.items() if run.state == "published" and run.started_at >= restate_since}
    left = tuple(each for each in plan.intervals if each.interval is None or each.interval.key not in again)
    return replace(plan, intervals=left, published=len(plan.intervals) - len(left))


def _due(spec: IntervalSpec, request: PlanRequest) -> list[DataInterval]:
    """Return the grid intervals that are over, with their delay, and touch the range of the request."""
    over = spec.grid.align_down(request.now - spec.delay)
    start, end = (as_utc(moment, spec.timezone) if moment else None for moment in (request.start, request.end))
    if start is None and end is None:
        return spec.grid.split(over)
    return spec.grid.covering(start or spec.start, min(end or over, over))


def _late(request: PlanRequest, spec: IntervalSpec, due: list[DataInterval]) -> list[DataInterval]:
    """Return the published ones of the last `lookback` intervals whose source has changed since they were scored."""
    watched = due[-spec.lookback :] if spec.lookback else []
    published = [i for i in watched if _is_live(request.latest_runs, i)]
    return [i for i in published if request.fingerprint_of(i) != request.latest_runs[i.key].source_fingerprint]


def _is_live(latest_runs: Mapping[str, RunRecord], interval: DataInterval) -> bool:
    return interval.key in latest_runs and latest_runs[interval.key].state == "published"
