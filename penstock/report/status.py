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
from penstock.ledger.acceptance import list_acceptable
from penstock.ledger.coverage import NOTHING_DONE, Coverage, read_coverage
from penstock.ledger.destinations import LIVE, destination_name
from penstock.ledger.drift_answers import DriftEpisode, lasting_episodes
from penstock.ledger.migrations import has_ledger
from penstock.ledger.quarantine import ENDED
from penstock.ledger.reader import RunRecord, fetch_runs, select_runs
from penstock.ledger.releases import pending_releases
from penstock.ledger.sandboxes import Sandbox, list_sandboxes
from penstock.ledger.tables import quarantine, runs
from penstock.report.needs import Facts, Need, Pause, ScheduleState, Unresolved, list_needs
from penstock.report.promotion_standing import PromotionStanding, read_standing
from penstock.run.planning import plan_range
from penstock.run_types import interval_label
from penstock.spec.interval import IntervalSpec
from penstock.spec.pipeline import Pipeline
from penstock.spec.schedule_starts import next_start

DAYS = 7
MOST_UNRESOLVED = 200
"""Newest unresolved runs of a pipeline that are looked at."""
_UNPUBLISHED = ("halted", "failed", "abandoned", "running")

Mark = Literal["published", "halted", "failed", "missing", "withdrawn", "running", "none"]
MARKS: tuple[Mark, ...] = ("halted", "failed", "missing", "running", "withdrawn", "published", "none")
"""The worst first: a day shows the worst of its intervals."""


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
    facts = Facts(pipeline, now, tuple(missing), tuple(unresolved), last, pause)
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
        needs=(*overlap, *list_needs(database, facts, state, promotion, released, drifting)),
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


def _find_pause(pipeline: Pipeline, state: ScheduleState | None) -> Pause | None:
    """Return the pause that the server knows. Without a server, a schedule is paused if its spec says so."""
    stopped = pipeline.schedule is not None and pipeline.schedule.active is False
    if state is None:
        return Pause(in_spec=True) if stopped else None
    return Pause(in_spec=True) if stopped and state.pause == Pause() else state.pause


def _find_next(facts: Facts, state: ScheduleState | None) -> datetime | None:
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


def _find_unresolved(database: Database, pipeline: Pipeline, coverage: Coverage, now: datetime) -> Iterator[Unresolved]:
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
        yield Unresolved(run, state, stands, run.run_id in acceptable)


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


def _list_days(now: datetime, zone: str) -> tuple[date, ...]:
    today = now.astimezone(ZoneInfo(zone)).date()
    return tuple(today - (DAYS - 1 - number) * timedelta(days=1) for number in range(DAYS))


def _mark_intervals(
    spec: IntervalSpec, facts: Facts, coverage: Coverage, days: Sequence[date]
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


def _mark_runs(database: Database, facts: Facts, days: Sequence[date], known: bool) -> Iterator[tuple[datetime, Mark]]:
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
