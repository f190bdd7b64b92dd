"""Find keys that a run has loaded twice, in a history table without a unique key.

DuckDB's history table has none: see ADR 34. Other tables may have lost it.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.database.dialects import SqlDialect, dialect_of
from penstock.ledger.tables import partitions
from penstock.run.history_table import history_name
from penstock.run.keys import SHOWN, describe_duplicates, show_duplicate
from penstock.run_types import ScoringRun

SHARE_ROWS = 4_000_000
"""About how many rows are searched at once. DuckDB takes 65 bytes of memory for each."""


def find_doubled_keys(database: Database, run: ScoringRun) -> str | None:
    """Describe keys that a run has loaded twice. Looks for them only if the history table has no unique key."""
    with database.reading() as connection:
        twice = list_doubled_keys(connection, run.run_id, run.pipeline.key, stored_keys(run))
    if not twice:
        return None
    return describe_duplicates(run.pipeline, [show_duplicate(run.pipeline, row[:-1], row[-1]) for row in twice])


def list_doubled_keys(
    connection: sa.Connection, run_id: str, key: Sequence[str], stored: sa.TableClause
) -> Sequence[sa.Row[Any]]:
    """Return the first keys that a run has loaded twice, each with the number of its rows.

    Args:
        stored: the history table with the columns of the key. If it has a unique key, nothing is searched.
    """
    dialect = dialect_of(connection)
    if not sa.inspect(connection).has_table(stored.name, schema=stored.schema):
        return ()
    facts = dialect.read_table_facts(connection, stored, "")
    if facts is not None and any(columns <= {"run_id", *key} for columns in facts.unique):
        return ()
    if not dialect.keys_history and _rises_by_partition(connection, run_id, key[0], stored):
        return ()
    columns: list[sa.ColumnElement[Any]] = [stored.c[c] for c in key]
    for share in _shares(dialect, connection, stored.c.run_id == run_id, columns):
        counted = sa.select(*columns, sa.func.count()).where(*share).group_by(*columns)
        twice = connection.execute(counted.having(sa.func.count() > 1).order_by(*columns).limit(SHOWN)).all()
        if twice:
            return twice
    return ()


def stored_keys(run: ScoringRun) -> sa.TableClause:
    """Return the history table of a run with the columns of the key."""
    destination = run.pipeline.destination
    return with_keys(history_name(destination.table, destination.schema_), run.pipeline.key)


def with_keys(history: sa.TableClause, key: Sequence[str]) -> sa.TableClause:
    """Return the history table with the columns of the key."""
    own = [sa.column(column.name, column.type) for column in history.c]
    quoted: list[sa.ColumnClause[Any]] = [sa.column(sa.quoted_name(c, quote=True)) for c in key]
    return sa.table(history.name, *own, *quoted, schema=history.schema)


def _rises_by_partition(connection: sa.Connection, run_id: str, column: str, stored: sa.TableClause) -> bool:
    """Whether each partition has its own range of a column of the key, and as many rows as it loaded.

    Then no key stands twice in the run, because validation has seen that none stands twice in a partition.
    """
    first = stored.c[column]
    lowest, highest = sa.func.min(first), sa.func.max(first)
    before = sa.func.lag(highest).over(order_by=lowest)
    ranges = sa.select(
        stored.c.partition, sa.func.count().label("rows"), lowest.label("lowest"), before.label("before")
    )
    each = ranges.where(stored.c.run_id == run_id).group_by(stored.c.partition).subquery()
    loaded = (partitions.c.run_id == run_id) & (partitions.c.partition == each.c.partition)
    is_proved = sa.and_(
        partitions.c.rows_scored == each.c.rows, sa.or_(each.c.before.is_(None), each.c.before < each.c.lowest)
    )
    disputed = sa.select(sa.func.count()).select_from(each.outerjoin(partitions, loaded))
    return connection.execute(disputed.where(is_proved.is_not(sa.true()))).scalar_one() == 0


def _shares(
    dialect: SqlDialect, connection: sa.Connection, mine: sa.ColumnElement[bool], key: list[sa.ColumnElement[Any]]
) -> list[list[sa.ColumnElement[bool]]]:
    """Return the conditions for the shares of a run's rows that are searched one after the other."""
    rows = int(connection.execute(sa.select(sa.func.count()).where(mine)).scalar_one())
    shares = -(-rows // SHARE_ROWS)
    conditions = [dialect.share_of_keys(key, number, shares) for number in range(shares)]
    return [[mine, condition] for condition in conditions if condition is not None] or [[mine]]
