"""All pipelines, and one with its calendar of intervals."""

import calendar as months
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response

from penstock.database.connections import Database
from penstock.interval import Grain
from penstock.ledger.destinations import LIVE
from penstock.ledger.reader import RunRecord, list_published, list_runs
from penstock.report.calendar import IntervalStanding, Standing, read_calendar, worst
from penstock.report.delivery import describe_failing, read_targets
from penstock.report.document import shift_between
from penstock.report.status import PipelineStatus, read_status
from penstock.report.status_sections import build_status
from penstock.spec.pipeline import Pipeline
from penstock.web.all_pipelines import read_all
from penstock.web.context import WebContext
from penstock.web.pages.answers import PageError, show
from penstock.web.prefect import read_states

RUNS = 30
"""Newest runs that a page looks at."""
_DAY = timedelta(days=1)
_FIRST_YEAR, _LAST_YEAR = 1970, 2999
"""Of the calendar's months."""


@dataclass(frozen=True)
class PipelineRow:
    """One line of the list."""

    status: PipelineStatus
    last: RunRecord | None
    """The newest run, however it ended."""
    shifts: tuple[float, ...]
    """PSI of the scores of each published run to those of the interval before, the oldest first."""

    @property
    def shift_words(self) -> str:
        return f"PSI from interval to interval, the newest last: {_list(self.shifts)}"

    @property
    def metric_values(self) -> tuple[float, ...]:
        trend = self.status.performance
        return tuple(point.estimate.value for point in trend.points) if trend else ()

    @property
    def metric_words(self) -> str:
        trend = self.status.performance
        return f"{trend.metric} by interval, the newest last: {_list(self.metric_values)}" if trend else ""


@dataclass(frozen=True)
class Cell:
    """One day of the calendar, or one interval that is a day or longer."""

    label: str
    standings: tuple[IntervalStanding, ...]

    @property
    def standing(self) -> Standing:
        return worst(each.standing for each in self.standings)

    @property
    def words(self) -> str:
        """How many intervals of the cell stand how."""
        names = [each.standing for each in self.standings]
        if len(names) == 1:
            return names[0]
        return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))


def list_pipelines(context: WebContext, request: Request) -> Response:
    """Show all pipelines: freshness, last run, drift and performance."""
    now = context.now()
    states = read_states(context.prefect_api, context.load_all()[0])

    def read(database: Database, pipeline: Pipeline) -> PipelineRow:
        status = read_status(database, pipeline, now, context.zone, states.get(pipeline.name))
        return _make_row(database, pipeline, status)

    found = read_all(context, read)
    sections = build_status([row.status for row in found.rows], now, context.zone)[1:]
    facts = {"rows": found.rows, "sections": sections, "broken": found.broken, "unread": found.unread, "now": now}
    return show(context, request, "pipelines.html", facts)


def _make_row(database: Database, pipeline: Pipeline, status: PipelineStatus) -> PipelineRow:
    newest = list_runs(database, pipeline.name, limit=1, variant=LIVE)
    published = list_published(database, pipeline.name, newest=RUNS)
    shifts = (shift_between(run, before) for before, run in pairwise(r for r in published if r.score_quantiles))
    return PipelineRow(status, next(iter(newest), None), tuple(shift.psi for shift in shifts if shift))


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values[-8:]) or "none yet"


def show_pipeline(context: WebContext, request: Request) -> Response:
    """Show one pipeline: a calendar of its intervals, and its newest runs."""
    now, pipeline = context.now(), context.load(request.path_params["name"])
    zone = pipeline.timezone
    month = _read_month(request.query_params.get("month", ""), now, zone)
    start, end = _bounds(month, zone)
    with context.open_of(pipeline) as database:
        status = read_status(database, pipeline, now, zone)
        standings = read_calendar(database, pipeline, start, end, now)
        runs = list_runs(database, pipeline.name, limit=RUNS)
        targets = read_targets(database, pipeline)
    grain = pipeline.interval.grain if pipeline.interval else None
    day = _read_day(request.query_params.get("day", ""))
    chosen = [each for each in standings if day and _date_of(each, zone) == day]
    facts = {
        "pipeline": pipeline,
        "status": status,
        "runs": runs,
        "targets": targets,
        "failing": [describe_failing(each.failing, context.zone) for each in targets if each.failing],
        "month": f"{month:%B %Y}",
        "before": f"{month - _DAY:%Y-%m}",
        "after": f"{month + 31 * _DAY:%Y-%m}",
        "weeks": _lay_weeks(standings, month, zone) if grain and not _is_long(grain) else [],
        "long": [Cell(each.interval.label, (each,)) for each in standings] if grain and _is_long(grain) else [],
        "day": day,
        "chosen": chosen,
        "page_zone": zone,
        "this_month": f"{month:%Y-%m}",
    }
    return show(context, request, "pipeline.html", facts)


def _is_long(grain: Grain) -> bool:
    """Whether an interval is longer than a day, so that a grid of days would repeat it."""
    return not isinstance(grain, timedelta) or grain > _DAY


def _lay_weeks(standings: Sequence[IntervalStanding], month: date, zone: str) -> list[list[Cell | None]]:
    """Lay the intervals out in weeks from Monday. None is a day of another month."""
    by_day: dict[date, list[IntervalStanding]] = {}
    for each in standings:
        by_day.setdefault(_date_of(each, zone), []).append(each)
    weeks = months.Calendar().monthdatescalendar(month.year, month.month)
    return [[_make_cell(day, month, by_day) for day in week] for week in weeks]


def _make_cell(day: date, month: date, by_day: dict[date, list[IntervalStanding]]) -> Cell | None:
    return Cell(day.isoformat(), tuple(by_day.get(day, ()))) if day.month == month.month else None


def _date_of(each: IntervalStanding, zone: str) -> date:
    return each.interval.start.astimezone(ZoneInfo(zone)).date()


def _read_month(text: str, now: datetime, zone: str) -> date:
    """Read the month that is asked for. Default: that of now."""
    if not text:
        return now.astimezone(ZoneInfo(zone)).date().replace(day=1)
    try:
        month = date.fromisoformat(f"{text}-01")
    except ValueError:
        month = None
    if month is None or not _FIRST_YEAR <= month.year <= _LAST_YEAR:
        raise PageError(400, "This month cannot be read", "Write it as 2026-03.")
    return month


def _read_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise PageError(400, "This day cannot be read", "Write it as 2026-03-14.") from None


def _bounds(month: date, zone: str) -> tuple[datetime, datetime]:
    """Return the begin and the end of a month in a zone."""
    after = (month + 31 * _DAY).replace(day=1)
    begin, end = (datetime.combine(day, time(), ZoneInfo(zone)) for day in (month, after))
    return begin, end
