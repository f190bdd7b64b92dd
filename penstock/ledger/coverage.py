"""Which spans of event time a destination has scores for. A plan reads this instead of all runs."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.interval import DataInterval, merge
from penstock.ledger.destinations import PlacedRun, destination_name, find_overlapping
from penstock.ledger.migrations import has_ledger
from penstock.ledger.reader import fetch_runs, select_runs
from penstock.ledger.tables import runs
from penstock.spec.pipeline import Pipeline


@dataclass(frozen=True)
class Coverage:
    """What of a destination is done."""

    published: tuple[DataInterval, ...]
    """Spans without a gap of published runs, the earliest first."""
    withdrawn: tuple[DataInterval, ...]
    """Intervals whose scores were withdrawn and not published again."""
    find_live: Callable[[DataInterval], list[PlacedRun]]
    """Returns the published runs that overlap an interval, a snapshot's among them."""
    find_scored_by: Callable[[str], list[DataInterval]] = lambda _: []
    """Returns the intervals of the published runs that a version scored, as `name/version`, the earliest first."""

    @property
    def done(self) -> list[DataInterval]:
        """Spans that only a restate scores again."""
        return merge((*self.published, *self.withdrawn))


NOTHING_DONE = Coverage((), (), lambda _: [])
"""The coverage of a destination without runs."""


def read_coverage(database: Database, pipeline: Pipeline) -> Coverage:
    """Read from the ledger what of the pipeline's destination is done."""
    if not has_ledger(database):
        return NOTHING_DONE
    variant = pipeline.destination.variant
    with database.reading() as connection:
        place = destination_name(connection, pipeline.destination)
        published = _read_spans(connection, place, variant)
        columns = (runs.c.interval_start, runs.c.interval_end)
        taken_out = sa.select(*columns).where(*_in_state(place, variant, "withdrawn")).distinct().order_by(*columns)
        withdrawn = [DataInterval(start, end) for start, end in connection.execute(taken_out)]
    if pipeline.is_sandbox:
        withdrawn = []  # one that has ended may begin anew

    def find_live(interval: DataInterval) -> list[PlacedRun]:
        with database.reading() as connection:
            return find_overlapping(connection, place, variant, interval)

    def find_scored_by(version: str) -> list[DataInterval]:
        query = select_runs().where(*_in_state(place, variant, "published")).order_by(runs.c.interval_start)
        scored = (run for run in fetch_runs(database, query) if version in map(str, run.pins.values()))
        return [run.interval for run in scored if run.interval]

    starts = [span.start for span in published]

    def is_published(interval: DataInterval) -> bool:
        before = bisect_right(starts, interval.start)
        return before > 0 and published[before - 1].covers(interval)

    return Coverage(published, tuple(i for i in withdrawn if not is_published(i)), find_live, find_scored_by)


@dataclass(frozen=True)
class LiveScores:
    """What readers see of some intervals."""

    runs: int
    rows: int
    models: tuple[str, ...]
    """The versions that scored it, as `name/version`."""


def read_live_scores(database: Database, pipeline: Pipeline, intervals: Sequence[DataInterval | None]) -> LiveScores:
    """Count the live runs that runs of these intervals would replace, and their rows. None is a snapshot."""
    if not intervals or not has_ledger(database):
        return LiveScores(0, 0, ())
    with database.reading() as connection:
        place = destination_name(connection, pipeline.destination)
    live = (runs.c.destination == place, runs.c.variant == pipeline.destination.variant, runs.c.state == "published")
    query = select_runs().where(*live)
    spans = merge(interval for interval in intervals if interval)
    if spans and None not in intervals:
        query = query.where(runs.c.interval_start < spans[-1].end, runs.c.interval_end > spans[0].start)
    found = [
        run
        for run in fetch_runs(database, query.order_by(runs.c.interval_start))
        if None in intervals or run.interval is None or any(span.overlaps(run.interval) for span in spans)
    ]
    models = dict.fromkeys(run.models for run in found)
    return LiveScores(len(found), sum(run.rows_scored or 0 for run in found), tuple(models))


def _read_spans(connection: sa.Connection, place: str, variant: str) -> tuple[DataInterval, ...]:
    """Return the spans of published runs. A span begins where a run begins after the end of all runs before it.

    The database reads one index in its order. A join of the runs with their neighbours is slow in a Postgres without
    statistics. If the runs of an older ledger overlap, the last span may be too short.
    """
    published = _in_state(place, variant, "published")
    before = sa.func.max(runs.c.interval_end).over(order_by=runs.c.interval_start, rows=(None, -1)).label("before")
    ordered = sa.select(runs.c.interval_start, before).where(*published).subquery()
    begins = sa.or_(ordered.c.before.is_(None), ordered.c.before < ordered.c.interval_start)
    edges = connection.execute(sa.select(ordered).where(begins).order_by(ordered.c.interval_start)).all()
    last_run = sa.select(runs.c.interval_end).where(*published).order_by(runs.c.interval_start.desc()).limit(1)
    ends = [*(end for _, end in edges[1:]), *connection.execute(last_run).scalars()]
    return tuple(DataInterval(start, end) for (start, _), end in zip(edges, ends, strict=True))


def _in_state(place: str, variant: str, state: str) -> tuple[sa.ColumnElement[bool], ...]:
    here = (runs.c.destination == place, runs.c.variant == variant, runs.c.state == state)
    return (*here, runs.c.interval_start.is_not(None))
