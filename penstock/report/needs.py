"""What of a pipeline waits for a person, with the command for it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from penstock.database.connections import Database
from penstock.interval import DataInterval
from penstock.ledger.acceptance import accept_command
from penstock.ledger.dead_runs import UnfinishedRun
from penstock.ledger.drift_answers import DriftEpisode
from penstock.ledger.reader import RunRecord
from penstock.report.delivery import find_failing
from penstock.report.promotion_standing import PromotionStanding, describe_standing
from penstock.run_types import interval_label
from penstock.spec.pipeline import Pipeline
from penstock.spec.schedule_starts import next_start

LATE = timedelta(minutes=15)
"""How long after a start that should have scored an interval it is late."""
NeedKind = Literal[
    "halted",
    "failed",
    "restate",
    "late",
    "no schedule",
    "not started",
    "overlap",
    "released",
    "drift",
    "answer",
    "delivery",
]


@dataclass(frozen=True)
class Pause:
    """Who paused a schedule, when and why. Without a reason it was paused in Prefect itself, or in the spec."""

    reason: str = ""
    by: str = ""
    since: datetime | None = None
    in_spec: bool = False
    """Whether the spec says `active: false`."""


@dataclass(frozen=True)
class ScheduleState:
    """A pipeline's schedule on a Prefect server."""

    next_run: datetime | None
    pause: Pause | None


@dataclass(frozen=True)
class Need:
    """Something that waits for a person."""

    kind: NeedKind
    command: str
    """The command for it."""
    interval: str = ""
    run_id: str = ""
    since: datetime | None = None
    why: str = ""
    """The run's own error, the refusal, or the columns of `drift`."""
    number: int = 1
    """Intervals, rows of `released`, or columns of `drift`."""
    accept: str = ""
    """The command that publishes a halted run as it is. Empty if that is not possible."""


@dataclass(frozen=True)
class Unresolved:
    """The last run of an interval, which did not publish it."""

    run: RunRecord
    state: Literal["halted", "failed", "abandoned", "running"]
    stands: bool
    """Whether an earlier run of the interval is published."""
    acceptable: bool
    """Whether the audit halted it, and `penstock accept` can publish it."""


@dataclass(frozen=True)
class Facts:
    """What is known of a pipeline when it is asked what it needs."""

    pipeline: Pipeline
    now: datetime
    missing: tuple[DataInterval, ...]
    unresolved: tuple[Unresolved, ...]
    last: RunRecord | None
    pause: Pause | None

    def find(self, state: str) -> list[Unresolved]:
        return [each for each in self.unresolved if each.state == state]


def list_needs(
    database: Database,
    facts: Facts,
    state: ScheduleState | None,
    promotion: PromotionStanding | None,
    released: int,
    drifting: Sequence[DriftEpisode],
) -> Iterator[Need]:
    """Yield what waits for a person.

    Args:
        state: The pipeline's schedule on a Prefect server, if one answers.
        promotion: The newest question about the model's alias.
        released: Rows that were released and wait for a run.
        drifting: The alarms of drift that last.
    """
    yield from _need_answer(facts.pipeline, promotion)
    yield from _need_runs(facts, state)
    yield from _need_release(facts, released)
    yield from _need_look_at_drift(facts, drifting)
    yield from _need_deliveries(database, facts.pipeline)


def _need_runs(facts: Facts, state: ScheduleState | None) -> Iterator[Need]:
    name = facts.pipeline.name
    told: set[DataInterval | None] = set()
    for each in facts.unresolved:
        run, label = each.run, interval_label(each.run.interval)
        since = run.finished_at or run.started_at
        if each.stands and run.reason == "restate" and each.state in ("failed", "abandoned") and run.interval:
            again = UnfinishedRun(run.run_id, name, run.interval, run.reason).command
            yield Need("restate", again, label, run.run_id, since, run.error or "")
        elif each.state in ("halted", "failed"):
            told.add(run.interval)
            show, accept = f"penstock show {run.run_id[:8]}", accept_command(run.run_id) if each.acceptable else ""
            yield Need(each.state, show, label, run.run_id, since, run.error or "", accept=accept)
    yield from _need_start(facts, [interval for interval in facts.missing if interval not in told])
    if state and state.next_run and state.next_run < facts.now - LATE:
        yield Need("not started", "penstock doctor", since=state.next_run)


def _need_start(facts: Facts, waiting: Sequence[DataInterval]) -> Iterator[Need]:
    """Say that a run is wanted: there is no schedule, or its starts have scored nothing. A pause is somebody's will."""
    pipeline, schedule, spec = facts.pipeline, facts.pipeline.schedule, facts.pipeline.interval
    start = f"penstock run {pipeline.name}"
    if facts.pause or facts.find("running"):
        return
    if spec is None:
        expected = next_start(schedule, facts.last.started_at) if schedule and facts.last else None
        if expected and expected + LATE < facts.now and not facts.unresolved:
            yield Need("late", start, since=expected)
        elif schedule is None and facts.last is None and not facts.unresolved:
            yield Need("no schedule", start, number=0)
        return
    if not waiting:
        return
    due = waiting[0].end + spec.delay
    if schedule is None:
        yield Need("no schedule", start, waiting[0].label, since=due, number=len(waiting))
        return
    expected = next_start(schedule, due - timedelta(microseconds=1))
    if expected and expected + LATE < facts.now:
        yield Need("late", start, waiting[0].label, since=expected, number=len(waiting))


def _need_answer(pipeline: Pipeline, promotion: PromotionStanding | None) -> tuple[Need, ...]:
    """Somebody must fill in the form of a promotion."""
    if promotion is None or not promotion.waits or pipeline.model is None:
        return ()
    why = describe_standing(promotion)
    return (Need("answer", f"penstock models gate {pipeline.model.name}", since=promotion.asked_at, why=why),)


def _need_release(facts: Facts, released: int) -> tuple[Need, ...]:
    """Released rows wait for the next run, which somebody must start where there is no schedule."""
    if not released or (facts.pipeline.schedule and not facts.pause):
        return ()
    return (Need("released", f"penstock run {facts.pipeline.name}", number=released),)


def _need_look_at_drift(facts: Facts, drifting: Sequence[DriftEpisode]) -> tuple[Need, ...]:
    """Drift waits for a person until it is acknowledged, or while a snooze lasts. A note of severity info does not."""
    waiting = [each for each in drifting if each.severity != "info" and not each.is_answered(facts.now)]
    if not waiting:
        return ()
    first = min(waiting, key=lambda each: each.began_at)
    columns = ", ".join(f"`{each.column}`" for each in waiting)
    command, where = f"penstock monitor drift {facts.pipeline.name}", interval_label(first.interval)
    return (Need("drift", command, where, first.run_id, first.began_at, columns, len(waiting)),)


def _need_deliveries(database: Database, pipeline: Pipeline) -> Iterator[Need]:
    for failing in find_failing(database, pipeline):
        command, why = f"penstock deliver list {pipeline.name}", f"`{failing.target}`: {failing.error}"
        yield Need("delivery", command, since=failing.since, why=why)
