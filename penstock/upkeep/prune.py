"""Remove rows that no reader can see and no run needs, by the pipeline's `retention`.

Runs stay in the ledger with their counts, validations and partitions; `rows_pruned_at` says when their rows were
removed. Rows are deleted in batches, each in its own short transaction, so a prune that was killed can be repeated. A
run's rows are deleted under its interval's lock row, and only in a state in which it can no longer be published.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.interval import gaps
from penstock.ledger.coverage import Coverage, read_coverage
from penstock.ledger.destinations import lock_run, split_name
from penstock.ledger.log_retention import move_cutoff
from penstock.ledger.migrations import migrate
from penstock.ledger.reader import RunRecord, fetch_runs, select_runs
from penstock.ledger.tables import log_lines, quarantine, runs
from penstock.run.history_table import history_name
from penstock.sources.logs.landed import landed_table
from penstock.spec.pipeline import LogSource, Pipeline

Kind = Literal["unpublished rows", "replaced rows", "refused rows", "log lines"]
BATCH_ROWS = 50_000
UNPUBLISHED = ("halted", "failed", "abandoned")
REPLACED = ("superseded", "withdrawn")
_IDS_AT_ONCE = 500
_OTHERS_TURN_SECONDS = 0.02
"""Pause between two batches, so that waiting processes get the database."""
_ROW_ADDRESS = {"postgresql": "ctid", "sqlite": "_rowid_", "duckdb": "rowid"}


@dataclass(frozen=True)
class Pruned:
    """The rows of one kind that would be removed, or were."""

    pipeline: str
    kind: Kind
    of: str
    """`3 runs`, or the name of the log source."""
    rows: int


@dataclass(frozen=True)
class Prune:
    """The runs and lines that a prune of one pipeline would remove."""

    pipeline: Pipeline
    unpublished: tuple[RunRecord, ...]
    replaced: tuple[RunRecord, ...]
    quarantine: tuple[RunRecord, ...]
    cutoffs: dict[str, datetime]
    """By log source: lines before this time are removed."""


def plan_prune(database: Database, pipeline: Pipeline, now: datetime) -> Prune:
    """Find the rows to remove by the pipeline's `retention`. Running and published runs keep their rows."""
    migrate(database)
    policy = pipeline.retention
    ended = fetch_runs(
        database,
        select_runs().where(runs.c.pipeline == pipeline.name, runs.c.state != "running").order_by(runs.c.started_at),
    )
    holding = _with_history(database, ended)
    return Prune(
        pipeline,
        tuple(r for r in holding if r.state in UNPUBLISHED and _is_older(r, now, policy.unpublished)),
        _beyond([r for r in holding if r.state in REPLACED], policy.keep_runs),
        tuple(r for r in ended if _is_older(r, now, policy.quarantine)),
        _line_cutoffs(database, pipeline, now),
    )


def count_prune(database: Database, plan: Prune) -> tuple[Pruned, ...]:
    """Count the rows that would be removed."""
    name = plan.pipeline.name
    found = [
        *_count_history(database, plan.pipeline, plan.unpublished, "unpublished rows"),
        *_count_history(database, plan.pipeline, plan.replaced, "replaced rows"),
        Pruned(name, "refused rows", *_count_of_runs(database, quarantine, plan.quarantine)),
    ]
    for source, cutoff in plan.cutoffs.items():
        rows = sum(_count_lines(database, table, where) for table, where in _line_tables(name, source, cutoff))
        found.append(Pruned(name, "log lines", source, rows))
    return tuple(each for each in found if each.rows)


def prune(database: Database, plan: Prune, batch_rows: int = BATCH_ROWS) -> tuple[Pruned, ...]:
    """Remove the rows of the plan and return their counts.

    This is safe during other runs, and safe to repeat after it was killed.
    """
    counted = count_prune(database, plan)
    for run in (*plan.unpublished, *plan.replaced):
        _prune_run(database, run, batch_rows)
    for run in plan.quarantine:
        _delete(database, quarantine, [quarantine.c.run_id == run.run_id], batch_rows)
    for each in counted:
        if each.kind == "log lines":
            cutoff = plan.cutoffs[each.of]
            move_cutoff(database, plan.pipeline.name, each.of, cutoff)
            for table, where in _line_tables(plan.pipeline.name, each.of, cutoff):
                _delete(database, table, where, batch_rows)
    return counted


def needed_from(pipeline: Pipeline, coverage: Coverage, running: Sequence[RunRecord], now: datetime) -> datetime:
    """Return the start of the oldest interval that a run may still read: unpublished, inside `lookback` or running.

    A withdrawn interval counts as done.
    """
    spec = pipeline.interval
    assert spec is not None  # a spec that prunes a snapshot's lines is refused
    over = max(spec.grid.align_down(now - spec.delay), spec.start)
    # Of `catch_up: latest`, earlier missed intervals are not scored.
    first = spec.start if spec.catch_up == "all" else max(spec.grid.previous(over), spec.start)
    lacking = [gap.start for gap in gaps(first, over, coverage.done)][:1]
    watched = max(spec.grid.previous(over, spec.lookback), spec.start)
    return min([over, watched, *lacking, *(r.interval_start for r in running if r.interval_start)])


def _is_older(run: RunRecord, now: datetime, age: timedelta | None) -> bool:
    return age is not None and (run.finished_at or run.started_at) <= now - age


def _beyond(replaced: Sequence[RunRecord], keep_runs: int | None) -> tuple[RunRecord, ...]:
    """Return all runs but the newest `keep_runs` of each interval."""
    if keep_runs is None:
        return ()
    by_interval: dict[tuple[str, str], list[RunRecord]] = {}
    for run in replaced:
        by_interval.setdefault((run.interval_key, run.variant), []).append(run)
    return tuple(run for same in by_interval.values() for run in same[: max(len(same) - keep_runs, 0)])


def _line_cutoffs(database: Database, pipeline: Pipeline, now: datetime) -> dict[str, datetime]:
    kept = pipeline.retention.log_lines
    logs = {name: source for name, source in pipeline.sources.items() if isinstance(source, LogSource)}
    if kept is None or not logs:
        return {}
    with database.reading() as connection:
        there = sa.inspect(connection).get_table_names()
    running = fetch_runs(database, select_runs().where(runs.c.pipeline == pipeline.name, runs.c.state == "running"))
    needed = needed_from(pipeline, read_coverage(database, pipeline), running, now)
    return {
        name: min(now - kept, needed - (timedelta(0) if name == pipeline.primary else source.lookback))
        for name, source in logs.items()
        if landed_table(pipeline.name, name).name in there
    }


def _line_tables(pipeline: str, source: str, cutoff: datetime) -> list[tuple[sa.Table, list[sa.ColumnElement[bool]]]]:
    landed = landed_table(pipeline, source)
    owner = [log_lines.c.pipeline == pipeline, log_lines.c.source == source]
    return [(landed, [landed.c.time < cutoff]), (log_lines, [*owner, log_lines.c.time < cutoff])]


def _history_of(run: RunRecord) -> sa.TableClause:
    schema, _ = split_name(run.destination or "")
    return history_name(run.destination_table, schema or None)


def _with_history(database: Database, ended: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the runs that may still have rows in an existing table."""
    unpruned = [run for run in ended if run.rows_pruned_at is None]
    with database.reading() as connection:
        inspector = sa.inspect(connection)
        tables = {(table.schema, table.name) for table in map(_history_of, unpruned)}
        there = {(schema, name) for schema, name in tables if inspector.has_table(name, schema=schema)}
    return [run for run in unpruned if (_history_of(run).schema, _history_of(run).name) in there]


def _count_of_runs(database: Database, table: sa.FromClause, ended: Sequence[RunRecord]) -> tuple[str, int]:
    """Return (`3 runs`, rows) for the runs that have rows in a table."""
    runs_with, rows = 0, 0
    count = sa.select(table.c.run_id, sa.func.count()).group_by(table.c.run_id)
    with database.reading() as connection:
        for begin in range(0, len(ended), _IDS_AT_ONCE):
            ids = [run.run_id for run in ended[begin : begin + _IDS_AT_ONCE]]
            for _, number in connection.execute(count.where(table.c.run_id.in_(ids))):
                runs_with, rows = runs_with + 1, rows + int(number)
    return f"{runs_with:,} run{'s' if runs_with != 1 else ''}", rows


def _count_history(database: Database, pipeline: Pipeline, ended: Sequence[RunRecord], kind: Kind) -> list[Pruned]:
    by_table: dict[str, list[RunRecord]] = {}
    for run in ended:
        by_table.setdefault(run.destination or run.destination_table, []).append(run)
    return [
        Pruned(pipeline.name, kind, *_count_of_runs(database, _history_of(same[0]), same)) for same in by_table.values()
    ]


def _count_lines(database: Database, table: sa.Table, where: Sequence[sa.ColumnElement[bool]]) -> int:
    with database.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar_one())


def _prune_run(database: Database, run: RunRecord, batch_rows: int) -> None:
    """Delete one run's rows from the history table, then mark the run."""
    history, mine = _history_of(run), runs.c.run_id == run.run_id
    done = False
    while not done:
        with database.writing() as connection:
            row = connection.execute(sa.select(runs).where(mine)).mappings().one()
            lock_run(connection, row)
            if connection.execute(sa.select(runs.c.state).where(mine)).scalar_one() not in (*UNPUBLISHED, *REPLACED):
                return
            done = _delete_batch(connection, history, [history.c.run_id == run.run_id], batch_rows)
            if done:
                connection.execute(sa.update(runs).where(mine).values(rows_pruned_at=database.now(connection)))
        time.sleep(_OTHERS_TURN_SECONDS)


def _delete(database: Database, table: sa.Table, where: Sequence[sa.ColumnElement[bool]], batch_rows: int) -> None:
    done = False
    while not done:
        with database.writing() as connection:
            done = _delete_batch(connection, table, where, batch_rows)
        time.sleep(_OTHERS_TURN_SECONDS)


def _delete_batch(
    connection: sa.Connection, table: sa.FromClause, where: Sequence[sa.ColumnElement[bool]], batch_rows: int
) -> bool:
    """Delete at most `batch_rows` rows. Return whether no rows are left."""
    target: sa.TableClause = table  # type: ignore[assignment] # what `delete` takes
    first = sa.select(sa.literal(1)).select_from(table).where(*where).limit(batch_rows).subquery()
    found = int(connection.execute(sa.select(sa.func.count()).select_from(first)).scalar_one())
    address = _ROW_ADDRESS.get(connection.dialect.name)
    if address is None or found < batch_rows:
        connection.execute(sa.delete(target).where(*where))
        return True
    place: sa.ColumnClause[str] = sa.literal_column(address)
    chosen = sa.select(place).select_from(table).where(*where).limit(batch_rows).correlate(None)
    # With an array Postgres goes straight to the addresses. With a subquery it would read the whole table.
    here = place == sa.func.any(sa.func.array(chosen.scalar_subquery())) if address == "ctid" else place.in_(chosen)
    connection.execute(sa.delete(target).where(*where, here))
    return False
