"""Which spans of event time a destination has scores for. A plan reads this instead of all runs."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.interval import DataInterval, merge
from penstock.ledger.destinations import LIVE, PlacedRun, destination_name, find_overlapping
from penstock.ledger.migrations import migrate
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

    @property
    def done(self) -> list[DataInterval]:
        """Spans that only a restate scores again."""
        return merge((*self.published, *self.withdrawn))


NOTHING_DONE = Coverage((), (), lambda _: [])
"""The coverage of a destination without runs."""


def has_ledger(database: Database) -> bool:
    """Whether the warehouse has a ledger. A command that only looks does not make one."""
    with database.reading() as connection:
        return sa.inspect(connection).has_table(runs.name)


def read_coverage(database: Database, pipeline: Pipeline) -> Coverage:
    """Read from the ledger what of the pipeline's destination is done."""
    migrate(database)
    with database.reading() as connection:
        place = destination_name(connection, pipeline.destination)
        published = _read_spans(connection, place)
        columns = (runs.c.interval_start, runs.c.interval_end)
        taken_out = sa.select(*columns).where(*_in_state(place, "withdrawn")).distinct().order_by(*columns)
        withdrawn = [DataInterval(start, end) for start, end in connection.execute(taken_out)]

    def find_live(interval: DataInterval) -> list[PlacedRun]:
        with database.reading() as connection:
            return find_overlapping(connection, place, LIVE, interval)

    starts = [span.start for span in published]

    def is_published(interval: DataInterval) -> bool:
        before = bisect_right(starts, interval.start)
        return before > 0 and published[before - 1].covers(interval)

    return Coverage(published, tuple(i for i in withdrawn if not is_published(i)), find_live)


def _read_spans(connection: sa.Connection, place: str) -> tuple[DataInterval, ...]:
    """Return the spans of published runs: a span ends where no run begins, and the next one begins with the next run.

    Published runs do not overlap, so an index finds both. If the runs of an older ledger overlap, the spans leave out
    a part of them.
    """
    run, other = runs.alias("run"), runs.alias("other")
    there = _in_state(place, "published", other)
    touching = sa.exists().where(*there, other.c.interval_start == run.c.interval_end)
    following = sa.select(sa.func.min(other.c.interval_start)).where(*there)
    following_start = following.where(other.c.interval_start > run.c.interval_end).scalar_subquery()
    last_runs = sa.select(run.c.interval_end, following_start).where(*_in_state(place, "published", run), ~touching)
    start, spans = connection.execute(following).scalar(), []
    for end, next_start in sorted(connection.execute(last_runs).tuples(), key=lambda row: row[0]):
        if start is not None and start < end:
            spans.append(DataInterval(start, end))
            start = next_start
    return tuple(spans)


def _in_state(place: str, state: str, table: sa.FromClause = runs) -> tuple[sa.ColumnElement[bool], ...]:
    here = (table.c.destination == place, table.c.variant == LIVE, table.c.state == state)
    return (*here, table.c.interval_start.is_not(None))
