"""How a pipeline stands: what is published, what is missing, and what needs a person. Facts, read from the ledger."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import OverlappingRuns
from penstock.interval import DataInterval, covers
from penstock.labels.trend import PerformanceTrend, read_trend
from penstock.ledger.acceptance import accept_command, list_acceptable
from penstock.ledger.coverage import NOTHING_DONE, Coverage, read_coverage
from penstock.ledger.dead_runs import UnfinishedRun
from penstock.ledger.delivery_records import list_failing
from penstock.ledger.destinations import LIVE, destination_name
from penstock.ledger.drift_answers import DriftEpisode, lasting_episodes
from penstock.ledger.migrations import has_ledger
from penstock.ledger.quarantine import ENDED
from penstock.ledger.reader import RunRecord, fetch_runs, select_runs
from penstock.ledger.releases import pending_releases
from penstock.ledger.sandboxes import Sandbox, list_sandboxes
from penstock.ledger.tables import quarantine, runs
from penstock.report.promotion_standing import PromotionStanding, describe_standing, read_standing
from penstock.run.planning import plan_range
from penstock.run_types import interval_label
from penstock.spec.interval import IntervalSpec
from penstock.spec.pipeline import Pipeline
from penstock.spec.schedule_starts import next_start

LATE = timedelta(minutes=15)
"""How long after a start that should have scored an interval it is late."""
DAYS = 7
MOST_UNRESOLVED = 200
"""Newest unresolved runs of a pipeline that are looked at."""
_UNPUBLISHED = ("halted", "failed", "abandoned", "running")

Mark = Literal["published", "halted", "failed", "missing", "withdrawn", "running", "none"]
MARKS: tuple[Mark, ...] = ("halted", "failed", "missing", "running", "withdrawn", "published", "none")
"""The worst first: a day shows the worst of its intervals."""
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
class DayMark:
    """The intervals that became due on one day. Of a snapshot: the runs that began then."""

    day: date
    mark: Mark
    intervals: int


@dataclass(frozen=True)
class PipelineStatus:
    """How one pipeline stands."""

    pipeline: str
    next_run: datetime | None
    next_run_from: Literal["prefect", "schedule"] | None
    """`schedule`: computed from the pipeline's file, since no Prefect server answers."""
    pause: Pause | None
    last_interval: str | None
    """The newest published interval."""
    last_run_id: str | None
    last_published_at: datetime | None
    missing: int
    """Due intervals that are not published."""
    missing_first: str | None
    missing_since: datetime | None
    """When the first of them became due."""
    running: int
    halted: int
    """Intervals whose last run halted."""
    failed: int
    """Intervals whose last run failed, or whose process died."""
    quarantined_rows: int
    """Rows that runs of the last seven days refused, and that were not released."""
    released_rows: int
    """Released rows that wait for the next run."""
    week: tuple[DayMark, ...]
    """The last seven days, the oldest first."""
    needs: tuple[Need, ...]
    drift: tuple[DriftEpisode, ...] = ()
    """The alarms that last, by column."""
    performance: PerformanceTrend | None = None
    """By the labels that have come. None: nothing was measured."""
    sandboxes: tuple[Sandbox, ...] = ()
    """Those that have scores or a running run."""
    promotion: PromotionStanding | None = None
    """The newest question about the model's alias. None: nobody was asked, or there is no `promotion`."""


@dataclass(frozen=True)
class _Unresolved:
    """The last run of an interval, which did not publish it."""

    run: RunRecord
    state: Literal["halted", "failed", "abandoned", "running"]
    stands: bool
    """Whether an earlier run of the interval is published."""
    acceptable: bool
    """Whether the audit halted it, and `penstock accept` can publish it."""


def read_status(
    database: Database, pipeline: Pipeline, now: datetime, zone: str = "UTC", state: ScheduleState | None = None
) -> PipelineStatus:
    """Read how a pipeline stands. This makes no ledger.

    Args:
        zone: Time zone of the days.
        state: The pipeline's schedule on a Prefect server. None: no server answers, or it is not deployed there.
    """
    known = has_ledger(database) and _has_runs(database, pipeline)
    coverage = read_coverage(database, pipeline) if known else NOTHING_DONE
    unresolved = list(_find_unresolved(database, pipeline, coverage, now)) if known else []
    released = sum(pending_releases(database, pipeline.name).values()) if known else 0
    missing, overlap = _find_missing(pipeline, coverage, now)
    running = {each.run.interval for each in unresolved if each.state == "running"}
    missing = [interval for interval in missing if interval not in running]
    last = _find_last(database, pipeline) if known else None
    pause = _find_pause(pipeline, state)
    facts = _Facts(pipeline, now, tuple(missing), tuple(unresolved), last, pause)
    promotion = read_standing(database, pipeline, now) if known else None
    spec = pipeline.interval
    days = _list_days(now, zone)
    drifting = tuple(lasting_episodes(database, pipeline.name)) if known and pipeline.drift else ()
    marks = _mark_intervals(spec, facts, coverage, days) if spec else _mark_runs(database, facts, days, known)
    return PipelineStatus(
        pipeline=pipeline.name,
        next_run=_find_next(facts, state),
        next_run_from=None if pipeline.schedule is None or pause else "prefect" if state else "schedule",
        pause=pause,
        last_interval=interval_label(last.interval) if last else None,
        last_run_id=last.run_id if last else None,
        last_published_at=last.published_at if last else None,
        missing=len(missing),
        missing_first=missing[0].label if missing else None,
        missing_since=missing[0].end + spec.delay if missing and spec else None,
        running=len(running),
        halted=sum(each.state == "halted" for each in unresolved),
        failed=sum(each.state in ("failed", "abandoned") for each in unresolved),
        quarantined_rows=_count_quarantined(database, pipeline.name, now - DAYS * timedelta(days=1)) if known else 0,
        released_rows=released,
        week=tuple(_mark_days(days, marks, zone)),
        needs=(
            *_need_answer(pipeline, promotion),
            *_list_needs(facts, state),
            *overlap,
            *_need_release(facts, released),
            *_need_look_at_drift(facts, drifting),
            *_need_deliveries(database, pipeline),
        ),
        drift=drifting,
        performance=read_trend(database, pipeline) if known else None,
        sandboxes=tuple(list_sandboxes(database, pipeline.name)) if known else (),
        promotion=promotion,
    )


def _has_runs(database: Database, pipeline: Pipeline) -> bool:
    """Whether the ledger has a run of the pipeline or of its destination. Without one there is nothing else to read."""
    with database.reading() as connection:
        place = destination_name(connection, pipeline.destination)
        ours = sa.or_(
            sa.exists().where(runs.c.pipeline == pipeline.name), sa.exists().where(runs.c.destination == place)
        )
        return bool(connection.execute(sa.select(ours)).scalar_one())


@dataclass(frozen=True)
class _Facts:
    pipeline: Pipeline
    now: datetime
    missing: tuple[DataInterval, ...]
    unresolved: tuple[_Unresolved, ...]
    last: RunRecord | None
    pause: Pause | None

    def find(self, state: str) -> list[_Unresolved]:
        return [each for each in self.unresolved if each.state == state]


def _find_pause(pipeline: Pipeline, state: ScheduleState | None) -> Pause | None:
    """Return the pause that the server knows. Without a server, a schedule is paused if its spec says so."""
    stopped = pipeline.schedule is not None and pipeline.schedule.active is False
    if state is None:
        return Pause(in_spec=True) if stopped else None
    return Pause(in_spec=True) if stopped and state.pause == Pause() else state.pause


def _find_next(facts: _Facts, state: ScheduleState | None) -> datetime | None:
    if facts.pipeline.schedule is None or facts.pause:
        return None
    return state.next_run if state else next_start(facts.pipeline.schedule, facts.now)


def _find_missing(pipeline: Pipeline, coverage: Coverage, now: datetime) -> tuple[list[DataInterval], tuple[Need, ...]]:
    """Return the due intervals that are not published and that a scheduled run would take."""
    spec = pipeline.interval
    if spec is None:
        return [], ()
    try:
        plan = plan_range(pipeline, coverage, now, None, None, None)
    except OverlappingRuns as refused:
        return [], (Need("overlap", f"penstock plan {pipeline.name}", why=str(refused)),)
    missing = [planned.interval for planned in plan.intervals if planned.interval]
    return [interval for interval in missing if is_taken(interval, spec, now)], ()


def is_taken(interval: DataInterval, spec: IntervalSpec, now: datetime) -> bool:
    """Whether a scheduled run would take a due, unpublished interval. `catch_up: latest` takes only the last."""
    return spec.catch_up == "all" or interval.end >= spec.grid.align_down(now - spec.delay)


def _find_unresolved(
    database: Database, pipeline: Pipeline, coverage: Coverage, now: datetime
) -> Iterator[_Unresolved]:
    """Yield the last run of each interval that it did not publish, the newest first."""
    later = runs.alias("later")
    same = (later.c[name] == runs.c[name] for name in ("pipeline", "interval_key", "variant"))
    has_later = sa.exists().where(*same, later.c.started_at > runs.c.started_at)
    query = select_runs().where(
        runs.c.pipeline == pipeline.name, runs.c.variant == LIVE, runs.c.state.in_(_UNPUBLISHED), ~has_later
    )
    found = fetch_runs(database, query.order_by(runs.c.started_at.desc()).limit(MOST_UNRESOLVED))
    acceptable = list_acceptable(database, found)
    for run in found:
        state: Any = "abandoned" if run.state == "running" and run.lease_until < now else run.state
        live = coverage.find_live(run.interval) if run.interval else []
        if state != "running" and any(r.started_at > run.started_at and covers(r.interval, run.interval) for r in live):
            continue  # a run of another grain has scored it since
        if run.interval and (pipeline.interval is None or run.interval.end <= pipeline.interval.start):
            continue  # no run would score it again
        if run.interval and any(covers(out, run.interval) for out in coverage.withdrawn):
            continue
        stands = any(covers(r.interval, run.interval) for r in live)
        yield _Unresolved(run, state, stands, run.run_id in acceptable)


def _find_last(database: Database, pipeline: Pipeline) -> RunRecord | None:
    """Return the published run of the newest interval."""
    with database.reading() as connection:
        place = destination_name(connection, pipeline.destination)
    here = (runs.c.destination == place, runs.c.variant == LIVE, runs.c.state == "published")
    newest = (runs.c.interval_start.desc(), runs.c.started_at.desc())
    return next(iter(fetch_runs(database, select_runs().where(*here).order_by(*newest).limit(1))), None)


def _count_quarantined(database: Database, pipeline: str, since: datetime) -> int:
    """Count the rows that are held. A run that was replaced is left out: its successor has judged the rows again."""
    later = runs.alias("later")
    same = (later.c[name] == runs.c[name] for name in ("pipeline", "interval_key", "variant"))
    replaced = sa.exists().where(*same, later.c.started_at > runs.c.started_at, later.c.state.in_(ENDED))
    recent = (runs.c.pipeline == pipeline, runs.c.variant == LIVE, runs.c.started_at >= since)
    refused = sa.func.coalesce(runs.c.rows_quarantined, 1) > 0  # a run that failed early has no count
    standing = sa.select(runs.c.run_id).where(*recent, runs.c.state.in_(ENDED), refused, ~replaced)
    query = sa.select(sa.func.count()).select_from(quarantine)
    held = query.where(quarantine.c.run_id.in_(standing), quarantine.c.state == "held")
    with database.reading() as connection:
        return int(connection.execute(held).scalar_one())


def _list_needs(facts: _Facts, state: ScheduleState | None) -> Iterator[Need]:
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


def _need_start(facts: _Facts, waiting: Sequence[DataInterval]) -> Iterator[Need]:
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


def _need_release(facts: _Facts, released: int) -> tuple[Need, ...]:
    """Released rows wait for the next run, which somebody must start where there is no schedule."""
    if not released or (facts.pipeline.schedule and not facts.pause):
        return ()
    return (Need("released", f"penstock run {facts.pipeline.name}", number=released),)


def _need_look_at_drift(facts: _Facts, drifting: Sequence[DriftEpisode]) -> tuple[Need, ...]:
    """Drift waits for a person until it is acknowledged, or while a snooze lasts. A note of severity info does not."""
    waiting = [each for each in drifting if each.severity != "info" and not each.is_answered(facts.now)]
    if not waiting:
        return ()
    first = min(waiting, key=lambda each: each.began_at)
    columns = ", ".join(f"`{each.column}`" for each in waiting)
    command, where = f"penstock monitor drift {facts.pipeline.name}", interval_label(first.interval)
    return (Need("drift", command, where, first.run_id, first.began_at, columns, len(waiting)),)


def _need_deliveries(database: Database, pipeline: Pipeline) -> Iterator[Need]:
    """A target does not get its rows. One that the spec no longer has, or of a former table, is not waited for."""
    named = {target.name for target in pipeline.deliver}
    if not named:
        return
    with database.reading() as connection:
        here = destination_name(connection, pipeline.destination)
    for failing in list_failing(database, pipeline.name):
        if failing.target in named and failing.destination == here:
            command, why = f"penstock deliver list {pipeline.name}", f"`{failing.target}`: {failing.error}"
            yield Need("delivery", command, since=failing.since, why=why)


def _list_days(now: datetime, zone: str) -> tuple[date, ...]:
    today = now.astimezone(ZoneInfo(zone)).date()
    return tuple(today - (DAYS - 1 - number) * timedelta(days=1) for number in range(DAYS))


def _mark_intervals(
    spec: IntervalSpec, facts: _Facts, coverage: Coverage, days: Sequence[date]
) -> Iterator[tuple[datetime, Mark]]:
    """Yield when each interval of the week became due, and how it stands."""
    begin = datetime.combine(days[0], time(), UTC) - timedelta(days=1) - spec.delay
    states = {each.run.interval: each.state for each in facts.unresolved if not each.stands}
    missing = set(facts.missing)
    for interval in spec.grid.covering(begin, facts.now) if begin < facts.now else []:
        due = interval.end + spec.delay
        if due > facts.now:
            continue
        state = states.get(interval)
        if state in ("halted", "failed", "running"):
            yield due, state
        elif interval in missing:
            yield due, "missing"
        elif _is_inside(interval, coverage.published):
            yield due, "published"
        elif _is_inside(interval, coverage.withdrawn):
            yield due, "withdrawn"


def _is_inside(interval: DataInterval, spans: Sequence[DataInterval]) -> bool:
    return any(span.covers(interval) for span in reversed(spans))


def _mark_runs(database: Database, facts: _Facts, days: Sequence[date], known: bool) -> Iterator[tuple[datetime, Mark]]:
    """Yield when each run of the week began, and how it ended."""
    begin = datetime.combine(days[0], time(), UTC) - timedelta(days=1)
    query = sa.select(runs.c.started_at, runs.c.state).where(
        runs.c.pipeline == facts.pipeline.name, runs.c.variant == LIVE, runs.c.started_at >= begin
    )
    if not known:
        return
    marks: dict[str, Mark] = {"superseded": "published", "abandoned": "failed"}
    with database.reading() as connection:
        for started_at, state in connection.execute(query.order_by(runs.c.started_at.desc()).limit(20_000)):
            mark: Any = marks.get(state, state)
            if mark in MARKS:
                yield started_at, mark


def _mark_days(days: Sequence[date], marks: Iterator[tuple[datetime, Mark]], zone: str) -> Iterator[DayMark]:
    clock = ZoneInfo(zone)
    found: dict[date, list[Mark]] = defaultdict(list)
    for moment, mark in marks:
        found[moment.astimezone(clock).date()].append(mark)
    for day in days:
        yield DayMark(day, _worst(found[day]), len(found[day]))


def _worst(marks: Collection[Mark]) -> Mark:
    return min(marks, key=MARKS.index, default="none")
