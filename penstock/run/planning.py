"""Which intervals a run scores: due and missing ones, those that late rows touched, those that somebody asks for."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from penstock.errors import SettingsError
from penstock.interval import DataInterval, align_down, as_utc, covering, missing, split
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
    """What one run would do, oldest interval first."""

    intervals: tuple[PlannedInterval, ...]
    settled: int = 0
    """Published intervals that are left alone."""
    withdrawn: int = 0
    """Intervals that somebody withdrew; only a restate scores them again."""
    left_over: int = 0
    """Due intervals beyond `max_intervals` or `catch_up`; a later run takes them."""
    stalled: int = 0
    """Intervals that are over, and wait for a transaction that may still write into them."""
    holder: str = ""
    """Who holds those back, in words."""

    @property
    def stall(self) -> str:
        """What waits for whom, in one sentence; empty where nothing does."""
        if not self.stalled:
            return ""
        waiting = "1 interval waits" if self.stalled == 1 else f"{self.stalled:,} intervals wait"
        return f"{waiting} to be settled: {self.holder}"


def plan_intervals(
    pipeline: Pipeline,
    settled: Mapping[str, RunRecord],
    now: datetime,
    fingerprint_of: Callable[[DataInterval], str],
    mode: Mode = "due",
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    whole: bool = False,
    released: Container[str] = (),
    horizon: Horizon | None = None,
) -> Plan:
    """Decide which intervals to score.

    Args:
        settled: published and withdrawn runs by interval key, from the ledger.
        now: the run's one "now", aware.
        fingerprint_of: what the primary source shows for an interval now; asked only inside `lookback`.
        start, end: bound the intervals to those that touch `[start, end)`; naive means UTC.
        whole: take all of them, beyond `max_intervals`.
        released: keys of intervals with rows that were let out of quarantine and wait for a run.
        horizon: up to where the primary source is settled; intervals beyond it wait, whatever the mode.

    Raises:
        SettingsError: a range is asked of a snapshot pipeline, or a restate names no range.
    """
    spec = pipeline.interval
    if spec is None:
        if start or end:
            raise SettingsError(
                f"`{pipeline.name}` is a snapshot pipeline and has no intervals", "Leave start and end out."
            )
        idle = mode == "release" and interval_key(None) not in released
        return Plan(() if idle else (PlannedInterval(None, "snapshot"),))
    start, end = as_utc(start) if start else None, as_utc(end) if end else None
    due = _due(spec, now, start, end)
    at_most = len(due) if whole else spec.max_intervals
    done = {r.interval_key: r.interval for r in settled.values() if r.interval is not None}
    withdrawn = sum(1 for i in due if i.key in settled and settled[i.key].state == "withdrawn")
    if mode == "restate":
        if start is None or end is None:
            raise SettingsError(
                "a restate needs a range", "Give start and end; every interval that they touch is scored again."
            )
        asked, stalled = _part(spec, [PlannedInterval(i, "restate") for i in due], horizon)
        return Plan(
            tuple(asked[:at_most]),
            left_over=max(len(asked) - at_most, 0),
            stalled=stalled,
            holder=horizon.holder if horizon else "",
        )
    wanted = missing(due, [i for i in done.values() if i is not None])
    if mode == "due" and spec.catch_up == "latest" and start is None and end is None:
        wanted = [i for i in wanted if i == due[-1]]
    let_out = [] if mode == "backfill" else [i for i in due if i.key in released and _is_live(settled, i)]
    late = [] if mode in ("backfill", "release") else _late(spec, settled, due, fingerprint_of)
    reason: Reason = "backfill" if mode == "backfill" else "due"
    if mode == "release":
        wanted = [i for i in wanted if i.key in released]
    chosen = [
        *(PlannedInterval(i, reason) for i in wanted),
        *(PlannedInterval(i, "release") for i in let_out),
        *(PlannedInterval(i, "late rows") for i in late if i not in let_out),
    ]
    chosen.sort(key=lambda planned: planned.interval.start if planned.interval else now)
    done_already = len(due) - len(chosen) - withdrawn
    chosen, stalled = _part(spec, chosen, horizon)
    taken = tuple(chosen[:at_most])
    left_over = len(chosen) - len(taken)
    return Plan(taken, done_already, withdrawn, left_over, stalled, horizon.holder if horizon else "")


def plan_range(
    pipeline: Pipeline,
    settled: Mapping[str, RunRecord],
    now: datetime,
    start: datetime | None,
    end: datetime | None,
    restate_since: datetime | None,
    horizon: Horizon | None = None,
) -> Plan:
    """Decide which intervals of a range a backfill still has to score, however many they are.

    Args:
        restate_since: the moment since when every interval is to have been scored again; None: only what is missing.

    Raises:
        SettingsError: the pipeline is a snapshot, or a restate names no range.
    """
    if pipeline.interval is None:
        raise SettingsError(
            f"`{pipeline.name}` is a snapshot pipeline and has no intervals",
            f"Score its whole source with `penstock run {pipeline.name}`.",
        )
    mode: Mode = "backfill" if restate_since is None else "restate"
    plan = plan_intervals(pipeline, settled, now, lambda _: "", mode, start, end, whole=True, horizon=horizon)
    if restate_since is None:
        return plan
    again = {key for key, run in settled.items() if run.state == "published" and run.started_at >= restate_since}
    left = tuple(each for each in plan.intervals if each.interval is None or each.interval.key not in again)
    return replace(plan, intervals=left, settled=len(plan.intervals) - len(left))


def _due(spec: IntervalSpec, now: datetime, start: datetime | None, end: datetime | None) -> list[DataInterval]:
    """Return the grid intervals that are over, with their delay, and touch the asked range."""
    over = align_down(now - spec.delay, spec.start, spec.grain)
    if start is None and end is None:
        return split(spec.start, over, spec.grain)
    first, last = start or spec.start, min(end or over, over)
    return covering(first, last, spec.start, spec.grain) if first < last else []


def _part(
    spec: IntervalSpec, chosen: list[PlannedInterval], horizon: Horizon | None
) -> tuple[list[PlannedInterval], int]:
    """Leave out the intervals that are not settled; return the rest, and how many those are."""
    settled = [p for p in chosen if not (horizon and p.interval) or horizon.settles(p.interval.end + spec.delay)]
    return settled, len(chosen) - len(settled)


def _late(
    spec: IntervalSpec,
    settled: Mapping[str, RunRecord],
    due: list[DataInterval],
    fingerprint_of: Callable[[DataInterval], str],
) -> list[DataInterval]:
    """Return the published ones among the last `lookback` whose source is not what it was when they were scored."""
    watched = due[-spec.lookback :] if spec.lookback else []
    published = [i for i in watched if _is_live(settled, i)]
    return [i for i in published if fingerprint_of(i) != settled[i.key].source_fingerprint]


def _is_live(settled: Mapping[str, RunRecord], interval: DataInterval) -> bool:
    return interval.key in settled and settled[interval.key].state == "published"
