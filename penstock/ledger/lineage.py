"""The runs around a run: the published one before it, the earlier tries at its interval, and who took whose place.

A run that loses its place is retired in the transaction that claims or publishes its successor: `retired_at` equals the
successor's claim or publish time.
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
            runs.c.pipeline == run.pipeline,
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
    """Return the runs whose place this one took: the one that it found dead, and the one that it superseded."""
    taken_over = sa.and_(runs.c.state == "abandoned", runs.c.retired_at == run.started_at)
    superseded = sa.and_(runs.c.state == "superseded", runs.c.retired_at == run.published_at)
    query = select_runs().where(*_same_interval(run), sa.or_(taken_over, superseded))
    return fetch_runs(database, query.order_by(runs.c.started_at))


def replaced_by(database: Database, run: RunRecord) -> RunRecord | None:
    """Return the run that took this one's place."""
    heirs = {"abandoned": runs.c.started_at, "superseded": runs.c.published_at}
    if run.state not in heirs:
        return None
    query = select_runs().where(*_same_interval(run), heirs[run.state] == run.retired_at)
    return next(iter(fetch_runs(database, query.limit(1))), None)


def _same_interval(run: RunRecord) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        runs.c.pipeline == run.pipeline,
        runs.c.interval_key == run.interval_key,
        runs.c.variant == run.variant,
        runs.c.run_id != run.run_id,
    )
