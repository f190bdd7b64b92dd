"""Write the reasons of a run and their counts, in one transaction that changes nothing when it is repeated.

Each row that `when` chooses has been loaded with the text `budget`. The reasons take the place of that row for the keys
that are explained, so a key says `budget` or why it has its score, whatever happens meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from penstock.database.bulk import BulkTransaction
from penstock.database.connections import Database
from penstock.errors import ReconciliationFailed, TakenOver
from penstock.ledger.tables import runs
from penstock.run.fitted_transaction import Tables, fitted_transaction
from penstock.run.history_table import fit_rows
from penstock.run.load import own_rows
from penstock.run.reasons_table import UNEXPLAINED, is_over_budget, prepare_reasons
from penstock.run_types import ScoringRun, interval_label
from penstock.wording import plural

_FIRST = 1
"""Rank of the first line of a key. Each explained key has one while the transaction is open."""


@dataclass(frozen=True)
class ReasonCounts:
    """How many of a run's chosen rows have reasons."""

    explained: int
    """Rows with reasons."""
    over_budget: int
    """Rows that the budget left without."""


def read_reason_counts(database: Database, run: ScoringRun) -> ReasonCounts | None:
    """Return what the run has recorded. None: its reasons are not written yet."""
    with database.reading() as connection:
        found = connection.execute(_select_counts(run)).one()
    return ReasonCounts(found[2], found[3]) if found[2] is not None else None


def write_reasons(
    database: Database, run: ScoringRun, reasons: Sequence[pa.Table], counts: ReasonCounts
) -> ReasonCounts:
    """Write the reasons of a run in place of the lines that say `budget`, and their counts. Return what is stored.

    Args:
        reasons: tables of key columns and `rank`, `feature`, `contribution`, `value`, `text`.
        counts: the number of explained keys in these tables, and of the other chosen rows.

    Raises:
        TakenOver: the run is no longer running; nothing is written.
        ReconciliationFailed: an explained key was not loaded, or other numbers of rows were; nothing is written.
    """
    pipeline = run.pipeline
    wanted = [table for table in reasons if table.num_rows]

    def prepare(again: bool) -> Tables:
        tables = [prepare_reasons(database, pipeline.destination, pipeline.key, rows, again=again) for rows in wanted]
        return tuple(tables[-1:])  # the last one has types that hold the rows of all

    with fitted_transaction(database, pipeline.destination, prepare) as (transaction, tables):
        stored = _record(transaction, run, counts)
        if stored is not None:
            return stored
        for table in tables:
            assert table is not None
            _replace(transaction, run, table, wanted, counts)
    return counts


def _select_counts(run: ScoringRun) -> "sa.Select[tuple[str, str, int | None, int | None]]":
    columns = (runs.c.state, runs.c.lease_token, runs.c.rows_explained, runs.c.rows_over_budget)
    return sa.select(*columns).where(runs.c.run_id == run.run_id)


def _record(transaction: BulkTransaction, run: ScoringRun, counts: ReasonCounts) -> ReasonCounts | None:
    """Write the counts into the run's row. Return those that are there already, of a try whose answer was lost."""
    mine = runs.c.run_id == run.run_id
    transaction.execute(sa.update(runs).where(mine).values(lease_token=runs.c.lease_token))  # wait for another copy
    [(state, token, explained, over_budget)] = transaction.execute(_select_counts(run))
    if explained is not None:
        return ReasonCounts(explained, over_budget)
    if state != "running" or token != run.lease_token:
        raise TakenOver(run.run_id, state)
    values = {"rows_explained": counts.explained, "rows_over_budget": counts.over_budget}
    transaction.execute(sa.update(runs).where(mine).values(**values))
    return None


def _replace(
    transaction: BulkTransaction, run: ScoringRun, table: sa.Table, reasons: Sequence[pa.Table], counts: ReasonCounts
) -> None:
    """Put the reasons in the place of the lines that say `budget`. Count these before and after."""
    mine = table.c.run_id == run.run_id
    _compare_left(transaction, run, table, counts.explained + counts.over_budget, "chosen")
    for rows in reasons:
        fitted = fit_rows(_start_at_one(rows), table)
        assert fitted is not None
        transaction.append(table, own_rows(fitted, run.run_id))
    first = table.alias("explained")
    same = (first.c[name] == table.c[name] for name in run.pipeline.key)
    explained = sa.exists().where(first.c.run_id == run.run_id, first.c.rank == _FIRST, *same)
    transaction.execute(sa.delete(table).where(mine, is_over_budget(table), explained))
    _compare_left(transaction, run, table, counts.over_budget, "over the budget")
    stated = (mine, table.c.rank == _FIRST, table.c.feature.is_(None))
    transaction.execute(sa.update(table).where(*stated).values(rank=UNEXPLAINED))


def _compare_left(transaction: BulkTransaction, run: ScoringRun, table: sa.Table, expected: int, what: str) -> None:
    """Count the lines that say `budget`. An erased key, or one that another copy has loaded, makes a difference."""
    count = sa.select(sa.func.count()).select_from(table)
    [(found,)] = transaction.execute(count.where(table.c.run_id == run.run_id, is_over_budget(table)))
    if found != expected:
        difference = f"{plural(expected, 'row is', 'rows are')} {what}, but the table of reasons has {found:,} of them"
        raise ReconciliationFailed(run.pipeline.name, interval_label(run.interval), difference)


def _start_at_one(rows: pa.Table) -> pa.Table:
    """Give the only line of a key without reasons the first rank, for the line that it replaces has rank 0."""
    ranks = pc.max_element_wise(rows["rank"], pa.scalar(_FIRST, pa.int32()))
    return rows.set_column(rows.schema.get_field_index("rank"), "rank", ranks)
