"""Remove rows that no reader can see and no run needs, by the pipeline's `retention`.

Runs stay in the ledger with their counts, validations and partitions; `rows_pruned_at` says when their rows, their
profiles and their seals were removed. Rows are deleted in batches, each in its own short transaction, so a prune that
was killed can be repeated. A run's rows are deleted under its interval's lock row, and only in a state in which it can
no longer be published.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.database.dialects import dialect_of
from penstock.ledger.destinations import lock_run
from penstock.ledger.label_sources import move_labels_pruned
from penstock.ledger.log_retention import move_cutoff
from penstock.ledger.served_spool import Spool
from penstock.ledger.tables import (
    deliveries,
    delivery_batches,
    erased_seals,
    labels,
    log_lines,
    profiles,
    quarantine,
    runs,
    seals,
)
from penstock.sources.logs.landed import landed_table
from penstock.spec.pipeline import Pipeline
from penstock.upkeep.old_served_rows import count_old, find_old, mark_old_runs
from penstock.upkeep.prune_plan import REPLACED, UNPUBLISHED, PrunableRun, Prune, exists
from penstock.upkeep.sandboxes import count_rows, drop_tables
from penstock.wording import plural

Kind = Literal[
    "unpublished rows",
    "replaced rows",
    "reasons",
    "refused rows",
    "log lines",
    "labels",
    "sandbox",
    "deliveries",
    "recorded rows",
    "answers",
]
BATCH_ROWS = 50_000
_IDS_AT_ONCE = 500
_OTHERS_TURN_SECONDS = 0.02
"""Pause between two batches, so that waiting processes get the database."""


@dataclass(frozen=True)
class Pruned:
    """The rows of one kind that would be removed, or were."""

    pipeline: str
    kind: Kind
    of: str
    """`3 runs`, or the name of the log source or of the sandbox."""
    rows: int


def count_prune(database: Database, plan: Prune) -> tuple[Pruned, ...]:
    """Count the rows that would be removed."""
    name = plan.pipeline.name
    found = [
        *_count_history(database, plan.pipeline, plan.unpublished, "unpublished rows"),
        *_count_history(database, plan.pipeline, plan.replaced, "replaced rows"),
        *_count_reasons(database, plan),
        Pruned(name, "refused rows", *_count_of_runs(database, quarantine, plan.quarantine)),
    ]
    for source, cutoff in plan.cutoffs.items():
        rows = sum(_count_where(database, table, where) for table, where in _line_tables(name, source, cutoff))
        found.append(Pruned(name, "log lines", source, rows))
    if plan.labels_before is not None:
        rows = _count_where(database, labels, _labels_before(plan, plan.labels_before))
        found.append(Pruned(name, "labels", "the pipeline", rows))
    if plan.deliveries_before is not None:
        rows = _count_where(database, deliveries, _deliveries_before(plan, plan.deliveries_before))
        found.append(Pruned(name, "deliveries", "the pipeline", rows))
    if plan.served_before is not None:
        found += [Pruned(name, *counted) for counted in count_old(database, plan.pipeline, plan.served_before)]
    with database.reading() as connection:
        ended = [Pruned(name, "sandbox", each.name, count_rows(connection, each)) for each in plan.sandboxes]
    return (*(each for each in found if each.rows), *ended)


def prune(database: Database, plan: Prune, batch_rows: int = BATCH_ROWS) -> tuple[Pruned, ...]:
    """Remove the rows of the plan and return their counts.

    This is safe during other runs, and safe to repeat after it was killed.
    """
    counted = count_prune(database, plan)
    for run in (*plan.unpublished, *plan.replaced):
        _prune_run(database, run, batch_rows)
    for sandbox in plan.sandboxes:
        drop_tables(database, sandbox)
    for run_ids in _chunks(plan.quarantine):
        _delete(database, quarantine, [quarantine.c.run_id.in_(run_ids)], batch_rows)
    for each in counted:
        if each.kind == "labels" and plan.labels_before is not None:
            move_labels_pruned(database, plan.pipeline.name, plan.labels_before)
            _delete(database, labels, _labels_before(plan, plan.labels_before), batch_rows)
        if each.kind == "deliveries" and plan.deliveries_before is not None:
            _delete_deliveries(database, _deliveries_before(plan, plan.deliveries_before))
        if each.kind == "recorded rows" and plan.served_before is not None:
            mark_old_runs(database, plan.pipeline, plan.served_before)
        if each.kind in ("recorded rows", "answers") and plan.served_before is not None:
            for old_rows, where in find_old(database, plan.pipeline, plan.served_before, each.kind):
                _delete(database, old_rows, where, batch_rows)
        if each.kind == "log lines":
            cutoff = plan.cutoffs[each.of]
            move_cutoff(database, plan.pipeline.name, each.of, cutoff)
            for table, where in _line_tables(plan.pipeline.name, each.of, cutoff):
                _delete(database, table, where, batch_rows)
    return counted


def prune_spooled(spool: Spool, plan: Prune, *, dry_run: bool) -> tuple[Pruned, ...]:
    """Remove the old answers in the spool of this machine and return their count. A dry run only counts them."""
    before, name = plan.served_before, plan.pipeline.name
    number = 0 if before is None else spool.prune(name, before, dry_run=dry_run)
    return (Pruned(name, "answers", "the spool", number),) if number else ()


def _line_tables(pipeline: str, source: str, cutoff: datetime) -> list[tuple[sa.Table, list[sa.ColumnElement[bool]]]]:
    landed = landed_table(pipeline, source)
    owner = [log_lines.c.pipeline == pipeline, log_lines.c.source == source]
    return [(landed, [landed.c.time < cutoff]), (log_lines, [*owner, log_lines.c.time < cutoff])]


def _labels_before(plan: Prune, before: datetime) -> list[sa.ColumnElement[bool]]:
    return [labels.c.pipeline == plan.pipeline.name, labels.c.seen_at < before]


def _deliveries_before(plan: Prune, before: datetime) -> list[sa.ColumnElement[bool]]:
    """Return the condition for deliveries that ended before a time. Those that are open stay."""
    return [
        deliveries.c.pipeline == plan.pipeline.name,
        deliveries.c.state.in_(("acknowledged", "replaced")),
        deliveries.c.ended_at < before,
    ]


def _count_of_runs(database: Database, table: sa.FromClause, run_ids: Sequence[str]) -> tuple[str, int]:
    """Return (`3 runs`, rows) for the runs that have rows in a table."""
    runs_with, rows = 0, 0
    count = sa.select(table.c.run_id, sa.func.count()).group_by(table.c.run_id)
    with database.reading() as connection:
        for chunk in _chunks(run_ids):
            for _, number in connection.execute(count.where(table.c.run_id.in_(chunk))):
                runs_with, rows = runs_with + 1, rows + int(number)
    return f"{plural(runs_with, 'run')}", rows


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[begin : begin + _IDS_AT_ONCE] for begin in range(0, len(ids), _IDS_AT_ONCE))


def _count_history(database: Database, pipeline: Pipeline, ended: Sequence[PrunableRun], kind: Kind) -> list[Pruned]:
    by_table: dict[str, list[PrunableRun]] = {}
    for run in ended:
        by_table.setdefault(run.destination or run.destination_table, []).append(run)
    return [
        Pruned(pipeline.name, kind, *_count_of_runs(database, same[0].history, [run.run_id for run in same]))
        for same in by_table.values()
    ]


def _count_reasons(database: Database, plan: Prune) -> list[Pruned]:
    """Count the reasons of the runs whose rows are removed."""
    by_table: dict[str, list[PrunableRun]] = {}
    for run in (*plan.unpublished, *plan.replaced):
        by_table.setdefault(run.destination or run.destination_table, []).append(run)
    with database.reading() as connection:
        inspector = sa.inspect(connection)
        there = [same for same in by_table.values() if exists(inspector, same[0].reasons)]
    return [
        Pruned(plan.pipeline.name, "reasons", *_count_of_runs(database, same[0].reasons, [run.run_id for run in same]))
        for same in there
    ]


def _count_where(database: Database, table: sa.Table, where: Sequence[sa.ColumnElement[bool]]) -> int:
    with database.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar_one())


def _prune_run(database: Database, run: PrunableRun, batch_rows: int) -> None:
    """Delete one run's reasons and seals, then its rows from the history table, then its profiles, and mark the run."""
    history, mine = run.history, runs.c.run_id == run.run_id
    done = False
    with database.reading() as connection:
        reasons = run.reasons if exists(sa.inspect(connection), run.reasons) else None
    while not done:
        with database.writing() as connection:
            row = connection.execute(sa.select(runs).where(mine)).mappings().one()
            lock_run(connection, row)
            if connection.execute(sa.select(runs.c.state).where(mine)).scalar_one() not in (*UNPUBLISHED, *REPLACED):
                return
            if reasons is not None:
                if not _delete_batch(connection, reasons, [reasons.c.run_id == run.run_id], batch_rows):
                    continue
                reasons = None
            for table in (
                seals,
                erased_seals,
            ):  # first: rows without seals are no forgery of a run that is being pruned
                connection.execute(sa.delete(table).where(table.c.run_id == run.run_id))
            done = _delete_batch(connection, history, [history.c.run_id == run.run_id], batch_rows)
            if done:
                connection.execute(sa.delete(profiles).where(profiles.c.run_id == run.run_id))
                connection.execute(sa.update(runs).where(mine).values(rows_pruned_at=database.now(connection)))
        time.sleep(_OTHERS_TURN_SECONDS)


def _delete_deliveries(database: Database, gone: Sequence[sa.ColumnElement[bool]]) -> None:
    """Delete deliveries with their batches, some in each transaction, so that none is left without the others."""
    with database.reading() as connection:
        found = connection.execute(sa.select(deliveries.c.delivery_id).where(*gone)).scalars().all()
    for ids in _chunks(found):
        with database.writing() as connection:
            for table in (delivery_batches, deliveries):
                connection.execute(sa.delete(table).where(table.c.delivery_id.in_(ids)))
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
    dialect = dialect_of(connection)
    address = dialect.row_address
    if address is None or found < batch_rows:
        connection.execute(sa.delete(target).where(*where))
        return True
    place: sa.ColumnClause[str] = sa.literal_column(address)
    chosen = sa.select(place).select_from(table).where(*where).limit(batch_rows).correlate(None)
    connection.execute(sa.delete(target).where(*where, dialect.at_addresses(place, chosen)))
    return False
