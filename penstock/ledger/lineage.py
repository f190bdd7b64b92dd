"""The runs around a run: the published one before it, earlier runs of its interval, and which run replaced which.

The transaction that claims or publishes a run retires the runs that it replaces, and writes its id into their
`replaced_by_run_id`.
"""

from datetime import UTC, datetime

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.ledger.reader import RunRecord, fetch_runs, select_runs
from penstock.ledger.tables import runs

_PUBLISHED_ONCE = ("published", "superseded")
_EARLIEST = datetime.min.replace(tzinfo=UTC)


def previous_published(database: Database, run: RunRecord) -> RunRecord | None:
    """Return the pipeline's published run of the interval before, for comparison."""
    query = select_runs().where(
        runs.c.destination == run.destination,
        runs.c.variant == run.variant,
        runs.c.run_id != run.run_id,
        runs.c.started_at <= run.started_at,
    )
    if run.interval_start is not None:
        query = query.where(runs.c.interval_start < run.interval_start)
    newest = query.order_by(runs.c.interval_start.desc(), runs.c.started_at.desc()).limit(1)
    # One query a state: an index has each state's runs in this order.
    found = [r for state in _PUBLISHED_ONCE for r in fetch_runs(database, newest.where(runs.c.state == state))]
    return max(found, key=lambda r: (r.interval_start or _EARLIEST, r.started_at), default=None)


def earlier_runs(database: Database, run: RunRecord, limit: int = 5) -> list[RunRecord]:
    """Return the runs of the same interval that started before, newest first."""
    query = select_runs().where(*_same_interval(run), runs.c.started_at < run.started_at)
    return fetch_runs(database, query.order_by(runs.c.started_at.desc()).limit(limit))


def count_earlier_runs(database: Database, run: RunRecord) -> int:
    """Count the runs of the same interval that started before."""
    earlier = sa.select(sa.func.count()).select_from(runs)
    with database.reading() as connection:
        counted = connection.execute(earlier.where(*_same_interval(run), runs.c.started_at < run.started_at))
        return int(counted.scalar_one())


def replaced_runs(database: Database, run: RunRecord) -> list[RunRecord]:
    """Return the runs that this run replaced, oldest first: a dead one at its claim, a published one at its publish."""
    query = select_runs().where(*_same_interval(run), runs.c.replaced_by_run_id == run.run_id)
    return fetch_runs(database, query.order_by(runs.c.started_at))


def replaced_by(database: Database, run: RunRecord) -> RunRecord | None:
    """Return the run that replaced this one."""
    if run.replaced_by_run_id is None:
        return None
    query = select_runs().where(runs.c.run_id == run.replaced_by_run_id)
    return next(iter(fetch_runs(database, query)), None)


def _same_interval(run: RunRecord) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        runs.c.pipeline == run.pipeline,
        runs.c.interval_key == run.interval_key,
        runs.c.variant == run.variant,
        runs.c.run_id != run.run_id,
    )
