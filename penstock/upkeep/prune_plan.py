"""Find what a prune of a pipeline would remove, by its `retention`. Nothing is removed here."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from sys import intern
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.interval import gaps
from penstock.ledger.coverage import Coverage, read_coverage
from penstock.ledger.destinations import split_name
from penstock.ledger.migrations import has_ledger
from penstock.ledger.tables import quarantine, runs
from penstock.run.history_table import history_name
from penstock.run.reasons_table import reasons_name
from penstock.sources.logs.landed import landed_table
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import LogSource
from penstock.upkeep.sandboxes import SandboxTables, find_ended

UNPUBLISHED = ("halted", "failed", "abandoned")
REPLACED = ("superseded", "withdrawn")


@dataclass(frozen=True, slots=True)
class PrunableRun:
    """An ended run, and where its rows are."""

    run_id: str
    destination: str | None
    destination_table: str

    @property
    def history(self) -> sa.TableClause:
        schema, _ = split_name(self.destination or "")
        return history_name(self.destination_table, schema or None)

    @property
    def reasons(self) -> sa.TableClause:
        schema, _ = split_name(self.destination or "")
        return reasons_name(self.destination_table, schema or None)


@dataclass(frozen=True)
class Prune:
    """The runs and lines that a prune of one pipeline would remove."""

    pipeline: Pipeline
    unpublished: tuple[PrunableRun, ...]
    replaced: tuple[PrunableRun, ...]
    quarantine: tuple[str, ...]
    """The runs that have refused rows to remove."""
    cutoffs: dict[str, datetime]
    """By log source: lines before this time are removed."""
    labels_before: datetime | None = None
    """Labels that were seen before this time are removed. None: all stay."""
    deliveries_before: datetime | None = None
    """Deliveries that ended before this time are removed, with their batches. None: all stay."""
    sandboxes: tuple[SandboxTables, ...] = ()
    """Sandboxes that have ended. All of their rows are removed, and their tables."""
    served_before: datetime | None = None
    """Rows of requests, and answers, that were recorded before this time are removed. None: all stay."""


def plan_prune(database: Database, pipeline: Pipeline, now: datetime) -> Prune:
    """Find the rows to remove by the pipeline's `retention`. Running and published runs keep their rows.

    The ledger's database chooses the runs, because a pipeline may have hundreds of thousands.
    """
    if not has_ledger(database):
        return Prune(pipeline, (), (), (), {})
    policy = pipeline.retention
    with database.reading() as connection:
        ended = tuple(find_ended(connection, pipeline.name))
        holding = _with_history(connection, pipeline.name, {each.destination for each in ended})
        unpublished = (
            () if policy.unpublished is None else _list_unpublished(connection, holding, now - policy.unpublished)
        )
        replaced = () if policy.keep_runs is None else _list_replaced(connection, holding, policy.keep_runs)
        refusing = () if policy.quarantine is None else _list_refusing(connection, pipeline, now - policy.quarantine)
    labels_before = None if policy.labels is None else now - policy.labels
    cutoffs = _line_cutoffs(database, pipeline, now)
    ended_before = None if policy.deliveries is None else now - policy.deliveries
    served_before = None if pipeline.serve is None else now - pipeline.serve.retention
    return Prune(pipeline, unpublished, replaced, refusing, cutoffs, labels_before, ended_before, ended, served_before)


def needed_from(pipeline: Pipeline, coverage: Coverage, running: datetime | None, now: datetime) -> datetime:
    """Return the start of the oldest interval that a run may still read: unpublished, inside `lookback` or running.

    A withdrawn interval counts as done.

    Args:
        running: start of the oldest interval of a running run.
    """
    spec = pipeline.interval
    assert spec is not None  # a spec that prunes a snapshot's lines is refused
    over = max(spec.grid.align_down(now - spec.delay), spec.start)
    # Of `catch_up: latest`, earlier missed intervals are not scored.
    first = spec.start if spec.catch_up == "all" else max(spec.grid.previous(over), spec.start)
    lacking = [gap.start for gap in gaps(first, over, coverage.done)][:1]
    watched = max(spec.grid.previous(over, spec.lookback), spec.start)
    return min([over, watched, *lacking, *([running] if running else [])])


def _with_history(connection: sa.Connection, pipeline: str, ended: Collection[str]) -> sa.ColumnElement[bool]:
    """Return the condition for the pipeline's replaced and unpublished runs that may have rows in an existing table.

    Args:
        ended: Destinations of sandboxes that have ended, which are left out.
    """
    mine = (runs.c.pipeline == pipeline, runs.c.state.in_((*UNPUBLISHED, *REPLACED)), runs.c.rows_pruned_at.is_(None))
    places = connection.execute(sa.select(runs.c.destination, runs.c.destination_table).where(*mine).distinct())
    inspector = sa.inspect(connection)
    there = [
        sa.and_(runs.c.destination.is_not_distinct_from(destination), runs.c.destination_table == table)
        for destination, table in places.all()
        if destination not in ended and exists(inspector, PrunableRun("", destination, table).history)
    ]
    return sa.and_(*mine, sa.or_(sa.false(), *there))


def exists(inspector: sa.Inspector, table: sa.TableClause) -> bool:
    """Whether a table is there."""
    return inspector.has_table(table.name, schema=table.schema)


def _list_unpublished(
    connection: sa.Connection, holding: sa.ColumnElement[bool], before: datetime
) -> tuple[PrunableRun, ...]:
    query = sa.select(*_PRUNABLE).where(holding, runs.c.state.in_(UNPUBLISHED), _ended_at <= before)
    return _read_prunable(connection, query.order_by(runs.c.started_at))


def _list_replaced(
    connection: sa.Connection, holding: sa.ColumnElement[bool], keep_runs: int
) -> tuple[PrunableRun, ...]:
    """Return all runs but the newest `keep_runs` of each interval."""
    newest = (runs.c.started_at.desc(), runs.c.run_id.desc())
    age = sa.func.row_number().over(partition_by=(runs.c.interval_key, runs.c.variant), order_by=newest)
    columns = (*_PRUNABLE, runs.c.started_at, age.label("age"))
    ranked = sa.select(*columns).where(holding, runs.c.state.in_(REPLACED)).subquery()
    query = sa.select(*(ranked.c[column.name] for column in _PRUNABLE)).where(ranked.c.age > keep_runs)
    return _read_prunable(connection, query.order_by(ranked.c.started_at))


def _list_refusing(connection: sa.Connection, pipeline: Pipeline, before: datetime) -> tuple[str, ...]:
    """Return the runs that ended before a time and have rows in the quarantine."""
    refused = sa.exists().where(quarantine.c.run_id == runs.c.run_id)
    mine = (runs.c.pipeline == pipeline.name, runs.c.state != "running", _ended_at <= before)
    return tuple(
        connection.execute(sa.select(runs.c.run_id).where(*mine, refused).order_by(runs.c.started_at)).scalars()
    )


_PRUNABLE = (runs.c.run_id, runs.c.destination, runs.c.destination_table)
_ended_at = sa.func.coalesce(runs.c.finished_at, runs.c.started_at)


def _read_prunable(connection: sa.Connection, query: sa.Select[Any]) -> tuple[PrunableRun, ...]:
    return tuple(
        PrunableRun(run_id, destination and intern(destination), intern(table))
        for run_id, destination, table in connection.execute(query)
    )


def _line_cutoffs(database: Database, pipeline: Pipeline, now: datetime) -> dict[str, datetime]:
    kept = pipeline.retention.log_lines
    logs = {name: source for name, source in pipeline.sources.items() if isinstance(source, LogSource)}
    if kept is None or not logs:
        return {}
    with database.reading() as connection:
        there = sa.inspect(connection).get_table_names()
        first = sa.select(sa.func.min(runs.c.interval_start))
        mine = (runs.c.pipeline == pipeline.name, runs.c.state == "running")
        running = connection.execute(first.where(*mine)).scalar()
    needed = needed_from(pipeline, read_coverage(database, pipeline), running, now)
    return {
        name: min(now - kept, needed - (timedelta(0) if name == pipeline.primary else source.lookback))
        for name, source in logs.items()
        if landed_table(pipeline.name, name).name in there
    }
