"""The runs around a run: the published one before it, earlier runs of its interval, and which run replaced which.

The transaction that claims or publishes a run retires the runs that it replaces, and writes its id into their
`replaced_by_run_id`.
"""

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.ledger.reader import RunRecord, fetch_runs, select_runs
from penstock.ledger.tables import runs


def previous_published(database: Database, run: RunRecord) -> RunRecord | None:
    """Return the pipeline's published run of the interval before, for comparison."""
    query = (
        select_runs()
        .where(
            runs.c.destination == run.destination,
            runs.c.variant == run.variant,
            runs.c.run_id != run.run_id,
            runs.c.state.in_(("published", "superseded")),
            runs.c.started_at <= run.started_at,
        )
        .order_by(runs.c.interval_start.desc(), runs.c.started_at.desc())
    )
    if run.interval_start is not None:
        query = query.where(runs.c.interval_start < run.interval_start)
    return next(iter(fetch_runs(database, query.limit(1))), None)


def earlier_runs(database: Database, run: RunRecord, limit: int = 5) -> list[RunRecord]:
    """Return the runs of the same interval that started before, newest first."""
    query = select_runs().where(*_same_interval(run), runs.c.started_at < run.started_at)
    return fetch_runs(database, query.order_by(runs.c.started_at.desc()).limit(limit))


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
