"""What readers see change when other runs become live, and whether those runs still have their rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import PublishRefused
from penstock.ledger.destinations import split_name
from penstock.ledger.pointer_moves import PointerMove, publish_again
from penstock.ledger.reader import RunRecord
from penstock.run.history_table import history_name
from penstock.run_types import interval_label
from penstock.spec.column_names import OWN_COLUMNS
from penstock.upkeep.erasure import count_forgotten
from penstock.wording import plural


@dataclass(frozen=True)
class LiveChange:
    """The rows of runs that become live, compared with those that give way to them."""

    runs: tuple[RunRecord, ...]
    replaced: tuple[RunRecord, ...]
    same: int
    changed: int
    """Rows of one key that differ in at least one column."""
    added: int
    removed: int

    @property
    def label(self) -> str:
        """The intervals for people."""
        first, last = interval_label(self.runs[0].interval), interval_label(self.runs[-1].interval)
        return first if first == last else f"{first} … {last}"


def publish_with_rows(database: Database, run_ids: Sequence[str], by: str, reason: str) -> PointerMove:
    """Make ended runs live, if they still have their rows.

    Raises:
        RunNotFound, WrongState, PublishRefused: as `publish_again`, also where rows are gone; nothing changes.
    """
    return publish_again(database, run_ids, by, reason, require_rows)


def require_rows(connection: sa.Connection, move: PointerMove) -> None:
    """Refuse runs that lack rows or have too many. Rows that were erased by `penstock forget` may be missing.

    Raises:
        PublishRefused: a run has other rows than it scored.
    """
    history = find_history(move)
    if not _exists(connection, history):  # no run has scored a row yet
        if any(run.rows_scored for run in move.runs):
            raise PublishRefused(move.runs[0].pipeline, f"the table `{history.name}` is gone", "Restore it.")
        return
    missing = {run.run_id: (run.rows_scored or 0) - _count(connection, history, [run]) for run in move.runs}
    for run in move.runs:
        if missing[run.run_id] < 0:
            more = f"run {run.run_id[:8]} has {plural(-missing[run.run_id], 'row')} more than it scored"
            raise PublishRefused(run.pipeline, more)
    if sum(missing.values()) > count_forgotten(connection, history.name):
        worst = max(move.runs, key=lambda run: missing[run.run_id])
        scored = plural(worst.rows_scored or 0, "row")
        lacking = f"run {worst.run_id[:8]} has lost {missing[worst.run_id]:,} of its {scored}"
        raise PublishRefused(worst.pipeline, lacking)


def compare_live(database: Database, move: PointerMove) -> Iterator[LiveChange]:
    """Compare the rows that would become live with those that are, one group of overlapping intervals after another.

    Raises:
        PublishRefused: a run has fewer rows than it scored.
    """
    with database.reading() as connection:
        require_rows(connection, move)
        history = find_history(move)
        if not _exists(connection, history):
            yield from (LiveChange(tuple(runs), tuple(replaced), 0, 0, 0, 0) for runs, replaced in _group(move))
            return
        described = sa.inspect(connection).get_columns(history.name, schema=history.schema)
        key = read_key(connection, history)
        others = [c["name"] for c in described if c["name"] not in (*OWN_COLUMNS, *key)]
        for runs, replaced in _group(move):
            yield _compare(connection, history, (key, others), runs, replaced)


def _group(move: PointerMove) -> Iterator[tuple[list[RunRecord], list[RunRecord]]]:
    """Yield runs with the live runs that they replace. Runs that replace one together are in one group."""
    runs: list[RunRecord] = []
    replaced: dict[str, RunRecord] = {}
    for run in move.runs:
        mine = {other.run_id: other for other in move.replaced_by(run)}
        if runs and not mine.keys() & replaced.keys():
            yield runs, list(replaced.values())
            runs, replaced = [], {}
        runs.append(run)
        replaced |= mine
    yield runs, list(replaced.values())


def _compare(
    connection: sa.Connection,
    history: sa.TableClause,
    columns: tuple[list[str], list[str]],
    runs: list[RunRecord],
    replaced: list[RunRecord],
) -> LiveChange:
    key, others = columns
    new, old = (_rows_of(history, (*key, *others), some, name) for some, name in ((runs, "new"), (replaced, "old")))
    differs = sa.or_(sa.false(), *(new.c[name].is_distinct_from(old.c[name]) for name in others))
    both = sa.select(sa.func.count(), sa.func.sum(sa.case((differs, 1), else_=0)))
    joined = new.join(old, sa.and_(*(new.c[name] == old.c[name] for name in key)))
    shared, changed = (int(n or 0) for n in connection.execute(both.select_from(joined)).one())
    now, before = _count(connection, history, runs), _count(connection, history, replaced)
    return LiveChange(tuple(runs), tuple(replaced), shared - changed, changed, now - shared, before - shared)


def _rows_of(history: sa.TableClause, columns: Sequence[str], runs: Sequence[RunRecord], name: str) -> sa.Subquery:
    quoted: list[sa.ColumnClause[Any]] = [sa.column(sa.quoted_name(column, quote=True)) for column in columns]
    return sa.select(*quoted).select_from(history).where(_of(history, runs)).subquery(name)


def _count(connection: sa.Connection, history: sa.TableClause, runs: Sequence[RunRecord]) -> int:
    return int(
        connection.execute(sa.select(sa.func.count()).select_from(history).where(_of(history, runs))).scalar_one()
    )


def _of(history: sa.TableClause, runs: Sequence[RunRecord]) -> sa.ColumnElement[bool]:
    return history.c.run_id.in_([run.run_id for run in runs])


def read_key(connection: sa.Connection, history: sa.TableClause) -> list[str]:
    """Return the columns of the pipeline's key, which are never NULL in the history table."""
    described = sa.inspect(connection).get_columns(history.name, schema=history.schema)
    return [c["name"] for c in described if not c["nullable"] and c["name"] not in OWN_COLUMNS]


def _exists(connection: sa.Connection, history: sa.TableClause) -> bool:
    return sa.inspect(connection).has_table(history.name, schema=history.schema)


def find_history(move: PointerMove) -> sa.TableClause:
    """Return the history table that has the rows of a move's runs."""
    run = move.runs[0]
    schema, _ = split_name(run.destination or "")
    return history_name(run.destination_table, schema or None)
