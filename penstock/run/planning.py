"""Decide which intervals a run scores: missing ones, those with late rows, and requested ones."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from penstock.errors import OverlappingRuns, SettingsError
from penstock.interval import DataInterval, as_utc, covers, gaps, iso, merge, parse_key
from penstock.ledger.coverage import Coverage
from penstock.ledger.destinations import PlacedRun
from penstock.run_types import Horizon, interval_key, interval_label
from penstock.spec.interval import IntervalSpec
from penstock.spec.pipeline import Pipeline
from penstock.wording import plural

Mode = Literal["due", "backfill", "restate", "release"]
_MOST_STEPS = 100
"""How often to widen a range until it covers the published runs that it touches."""
_STEPS_BY_RUN = 8
"""How often of these by single runs. After that it takes all runs that follow each other without a gap."""
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
    def plain_label(self) -> str:
        """The label for the names of flow and task runs."""
        return self.interval.plain_label if self.interval else self.label

    @property
    def again(self) -> bool:
        """Whether a published run of the interval is to be superseded."""
        return self.reason in ("late rows", "restate", "release", "snapshot")


@dataclass(frozen=True)
class Limits:
    """Where a requested range meets the pipeline's own limits. Without a request, only the pipeline's limits."""

    first: datetime
    """The pipeline's start."""
    over: datetime
    """The end of the last interval that is over. It may be before the start."""
    start: datetime | None
    end: datetime | None
    zone: str

    @property
    def too_early(self) -> bool:
        """Whether the range ends before the pipeline's start."""
        return self.end is not None and self.end <= self.first

    @property
    def too_late(self) -> bool:
        """Whether no interval of the range is over yet."""
        return not self.too_early and max(self.start or self.first, self.first) >= self.over


@dataclass(frozen=True)
class Plan:
    """The intervals that one run would score, the oldest first."""

    intervals: tuple[PlannedInterval, ...]
    published: int = 0
    """Published intervals that are not scored again."""
    withdrawn: int = 0
    """Withdrawn intervals. Only a restate scores them again."""
    passed_over: int = 0
    """Missed intervals that `catch_up: latest` leaves out. A backfill scores them."""
    left_over: int = 0
    """Due intervals beyond `max_intervals`. A later run takes them."""
    stalled: int = 0
    """Intervals that have ended, but wait because an open transaction may still write into them."""
    blocker: str = ""
    """The session or transaction that they wait for, as text."""
    limits: Limits | None = None
    """None for a snapshot."""

    def scores(self, interval: DataInterval) -> bool:
        """Whether one of the intervals covers this one."""
        return any(planned.interval is None or planned.interval.covers(interval) for planned in self.intervals)

    @property
    def stall(self) -> str:
        """How many intervals wait, and for which transaction, as a sentence. Empty if none waits."""
        if not self.stalled:
            return ""
        waiting = f"{plural(self.stalled, 'interval')} {'waits' if self.stalled == 1 else 'wait'}"
        return f"{waiting} for open transactions: {self.blocker}"


@dataclass(frozen=True)
class PlanRequest:
    """The input of a plan: the pipeline, the facts of the ledger and the source, and the request."""

    pipeline: Pipeline
    coverage: Coverage
    """What of the destination is done, from the ledger."""
    now: datetime
    """The run's one "now", aware."""
    fingerprint_of: Callable[[DataInterval], str]
    """Returns the primary source's current fingerprint of an interval. Called only inside `lookback`."""
    mode: Mode = "due"
    start: datetime | None = None
    """With `end`: in every mode, take only intervals that touch `[start, end)`. Naive means the pipeline's zone."""
    end: datetime | None = None
    scored_by: str = ""
    """In mode `restate`: take only intervals whose live run this version scored, as `name/version`."""
    whole: bool = False
    """Take all of the intervals, beyond `max_intervals`."""
    released: Iterable[str] = ()
    """Keys of intervals with rows that were released from quarantine and wait for a run."""
    horizon: Horizon | None = None
    """The time up to which the primary source is complete. Later intervals wait in every mode."""


def plan_intervals(request: PlanRequest) -> Plan:
    """Decide which intervals to score.

    Raises:
        SettingsError: a range is empty, a snapshot pipeline is given one, or a restate is given none.
        OverlappingRuns: an interval overlaps published runs that the plan does not cover.
    """
    spec = request.pipeline.interval
    if spec is None:
        return _plan_snapshot(request)
    if request.mode == "restate" and not request.scored_by and (request.start is None or request.end is None):
        raise SettingsError(
            "a restate needs a range", "Give start and end; every interval that they touch is scored again."
        )
    limits = _find_limits(spec, request)
    due = _due(spec, limits)
    if due is None:
        return Plan((), limits=limits)
    if request.mode == "restate":
        plan = _limit(request, spec, [PlannedInterval(i, "restate") for i in _restated(request, spec, due)])
    else:
        plan = _plan_due(request, spec, due)
    _refuse_partial_overlaps(request, spec, plan)
    return replace(plan, limits=limits)


def _restated(request: PlanRequest, spec: IntervalSpec, due: DataInterval) -> list[DataInterval]:
    """Return the intervals to score again: all of the range, or those with a live run of `scored_by`.

    Raises:
        SettingsError: no live run of the range was scored by that version.
    """
    if not request.scored_by:
        return spec.grid.covering(due.start, due.end)
    live = [i for i in request.coverage.find_scored_by(request.scored_by) if i.overlaps(due)]
    if not live:
        raise SettingsError(
            f"no live run of the range was scored by `{request.scored_by}`",
            f"`penstock runs {request.pipeline.name} --state published` lists the live runs with their versions.",
        )
    return list(dict.fromkeys(grid for i in live for grid in _touched_grid(spec, due, i)))


def refuse_empty_range(start: datetime | None, end: datetime | None, zone: str = "UTC") -> None:
    """Refuse a range that does not end after its begin. A moment without a zone is in `zone`.

    Raises:
        SettingsError: it does not.
    """
    if start is None or end is None or as_utc(start, zone) < as_utc(end, zone):
        return
    begin, until = _write_moment(start, zone), _write_moment(end, zone)
    raise SettingsError(
        f"the range is empty: its end, {until}, is not after its begin, {begin}",
        "The end is not included: 2026-01-31 to 2026-02-01 is the one day of 2026-01-31.",
    )


def _write_moment(moment: datetime, zone: str) -> str:
    return iso(as_utc(moment, zone), zone)


def _plan_snapshot(request: PlanRequest) -> Plan:
    if request.start or request.end:
        raise SettingsError(
            f"`{request.pipeline.name}` is a snapshot pipeline and has no intervals", "Leave start and end out."
        )
    idle = request.mode == "release" and interval_key(None) not in request.released
    return Plan(() if idle else (PlannedInterval(None, "snapshot"),))


def _plan_due(request: PlanRequest, spec: IntervalSpec, due: DataInterval) -> Plan:
    """Plan the due intervals that are missing, and published ones with late or released rows, oldest first."""
    mode, coverage = request.mode, request.coverage
    released = {interval for key in request.released if (interval := parse_key(key, spec.timezone))}
    reasons: dict[DataInterval, Reason] = {}
    if mode == "due":
        reasons |= dict.fromkeys(_late(request, spec, due), "late rows")
    if mode != "backfill":
        reasons |= dict.fromkeys((i for i in released if due.covers(i) and _is_live(coverage, i)), "release")
    missing = wanted = _missing(spec, due, coverage.done)
    if mode == "due" and spec.catch_up == "latest" and request.start is None and request.end is None:
        wanted = [i for i in missing if i.end == due.end]
    if mode == "release":
        wanted = [i for i in missing if i in released]
    # A missing interval reads the rows of the published ones inside it anew.
    reasons = {i: reason for i, reason in reasons.items() if not any(i.overlaps(other) for other in wanted)}
    again = {grid for i in reasons if i.overlaps(due) for grid in _touched_grid(spec, due, i)}
    reasons |= dict.fromkeys(wanted, "backfill" if mode == "backfill" else "due")
    unpublished = len(_missing(spec, due, coverage.published)) if coverage.withdrawn else len(missing)
    return replace(
        _limit(request, spec, [PlannedInterval(i, reasons[i]) for i in sorted(reasons)]),
        published=spec.grid.count(due.start, due.end) - unpublished - len(again),
        withdrawn=unpublished - len(missing),
        passed_over=len(missing) - len(wanted) if mode == "due" else 0,
    )


def _touched_grid(spec: IntervalSpec, due: DataInterval, interval: DataInterval) -> list[DataInterval]:
    """Return the due intervals of the grid that a run's interval touches: several after a change of the grain."""
    return spec.grid.covering(max(interval.start, due.start), min(interval.end, due.end))


def _missing(spec: IntervalSpec, due: DataInterval, done: Iterable[DataInterval]) -> list[DataInterval]:
    """Return the intervals of the grid inside `due` that are not wholly done, oldest first."""
    found: dict[DataInterval, None] = {}
    for gap in gaps(due.start, due.end, done):
        found |= dict.fromkeys(spec.grid.covering(gap.start, gap.end))
    return list(found)


def _refuse_partial_overlaps(request: PlanRequest, spec: IntervalSpec, plan: Plan) -> None:
    """Refuse a plan whose runs would leave a published run partly covered.

    Several intervals of a restate may cover a run together: they are published in one transaction.

    Raises:
        OverlappingRuns: a published run is covered only in part.
    """
    chosen = [planned.interval for planned in plan.intervals if planned.interval]
    for span in merge(chosen):
        live = request.coverage.find_live(span)
        inside = [interval for interval in chosen if span.covers(interval)]
        exact = set(inside)
        odd = [run for run in live if run.interval not in exact and not any(covers(i, run.interval) for i in inside)]
        together = request.mode == "restate" and not request.whole
        partial = [run for run in odd if not (together and covers(span, run.interval))]
        if partial:
            first = next(i for i in inside if partial[0].overlaps(i))
            named = tuple(f"{run.run_id[:8]} {run.label}" for run in partial)
            raise _overlapping(request, spec, first, named, _find_touched(request, spec, partial))


def _overlapping(
    request: PlanRequest,
    spec: IntervalSpec,
    interval: DataInterval,
    named: tuple[str, ...],
    touched: DataInterval | None,
) -> OverlappingRuns:
    """Describe the refusal with both ways out. `touched`: the time of the live runs that must give way together."""
    error = OverlappingRuns(request.pipeline.name, interval.label, named)
    if touched is None:
        return error
    grid = spec.grid.covering(max(touched.start, spec.start), touched.end)
    covered = touched.start >= spec.start and grid[-1].end <= spec.grid.align_down(request.now - spec.delay)
    return replace(
        error,
        cover_start=iso(grid[0].start) if covered else "",
        cover_end=iso(grid[-1].end) if covered else "",
        table=request.pipeline.destination.table,
        live_start=iso(touched.start),
        live_end=iso(touched.end),
    )


def _find_touched(request: PlanRequest, spec: IntervalSpec, partial: Sequence[PlacedRun]) -> DataInterval | None:
    """Return the time of the runs, widened until no grid interval that touches it overlaps another live run.

    None: there is a snapshot, or no end was found.
    """
    live: list[DataInterval | None] = [run.interval for run in partial]
    found: DataInterval | None = None
    for step in range(_MOST_STEPS):
        spans = [interval for interval in live if interval]
        if len(spans) < len(live):
            return None
        wider = DataInterval(min(i.start for i in spans), max(i.end for i in spans))
        if wider == found:
            return found
        found = wider
        grid = spec.grid.covering(max(found.start, spec.start), found.end)
        reach = DataInterval(min(found.start, grid[0].start), max(found.end, grid[-1].end))
        if step < _STEPS_BY_RUN:
            live = [found, *(run.interval for run in request.coverage.find_live(reach))]
        else:
            live = [found, *(span for span in request.coverage.published if span.overlaps(reach))]
    return None


def _limit(request: PlanRequest, spec: IntervalSpec, chosen: list[PlannedInterval]) -> Plan:
    """Leave out what must wait for the horizon, and what is beyond `max_intervals`."""
    horizon = request.horizon
    ready = [p for p in chosen if not (horizon and p.interval) or horizon.covers(p.interval.end + spec.delay)]
    whole = request.whole or request.mode == "restate"  # a part of the range may cover no run that the whole covers
    taken = tuple(ready if whole else ready[: spec.max_intervals])
    return Plan(
        taken,
        left_over=len(ready) - len(taken),
        stalled=len(chosen) - len(ready),
        blocker=horizon.blocker if horizon else "",
    )


def plan_range(
    pipeline: Pipeline,
    coverage: Coverage,
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
        SettingsError: the pipeline is a snapshot, the range is empty, or a restate names no range.
        OverlappingRuns: an interval overlaps published runs that it does not cover.
    """
    if pipeline.interval is None:
        raise SettingsError(
            f"`{pipeline.name}` is a snapshot pipeline and has no intervals",
            f"Score its whole source with `penstock run {pipeline.name}`.",
        )
    mode: Mode = "backfill" if restate_since is None else "restate"
    plan = plan_intervals(
        PlanRequest(pipeline, coverage, now, lambda _: "", mode, start, end, whole=True, horizon=horizon)
    )
    planned = [each.interval for each in plan.intervals if each.interval]
    if restate_since is None or not planned:
        return plan
    live = coverage.find_live(DataInterval(planned[0].start, planned[-1].end))
    again = {run.interval for run in live if run.started_at >= restate_since}
    left = tuple(each for each in plan.intervals if each.interval not in again)
    return replace(plan, intervals=left, published=len(plan.intervals) - len(left))


def _find_limits(spec: IntervalSpec, request: PlanRequest) -> Limits:
    """Compare the range of the request with what the pipeline can score now.

    Raises:
        SettingsError: the range is empty.
    """
    refuse_empty_range(request.start, request.end, spec.timezone)
    start, end = (as_utc(moment, spec.timezone) if moment else None for moment in (request.start, request.end))
    return Limits(spec.start, spec.grid.align_down(request.now - spec.delay), start, end, spec.timezone)


def _due(spec: IntervalSpec, limits: Limits) -> DataInterval | None:
    """Return the span of the grid intervals that are over, with their delay, and touch the range of the request."""
    grid = spec.grid
    first, last = max(limits.start or limits.first, limits.first), min(limits.end or limits.over, limits.over)
    if first >= last:
        return None
    return DataInterval(grid.align_down(first), grid.next(grid.previous(last)), spec.timezone)


def _late(request: PlanRequest, spec: IntervalSpec, due: DataInterval) -> list[DataInterval]:
    """Return the published intervals of the last `lookback` ones whose source has changed since they were scored.

    After a change of the grain they are the intervals of the runs, not those of the grid.
    """
    if not spec.lookback:
        return []
    watched = DataInterval(max(spec.grid.previous(due.end, spec.lookback), due.start), due.end)
    live = request.coverage.find_live(watched)
    return [
        run.interval for run in live if run.interval and request.fingerprint_of(run.interval) != run.source_fingerprint
    ]


def _is_live(coverage: Coverage, interval: DataInterval) -> bool:
    return any(run.interval == interval for run in coverage.find_live(interval))
