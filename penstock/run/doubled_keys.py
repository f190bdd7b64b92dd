"""Find keys that a run has loaded twice, in a history table without a unique key.

DuckDB's history table has none: see ADR 34. Other tables may have lost it.
"""

from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.ledger.tables import partitions
from penstock.run.history_table import history_name
from penstock.run.keys import SHOWN, describe_duplicates, show_duplicate
from penstock.run_types import ScoringRun

SHARE_ROWS = 4_000_000
"""About how many rows are searched at once. DuckDB takes 65 bytes of memory for each."""


def find_doubled_keys(database: Database, run: ScoringRun) -> str | None:
    """Describe keys that a run has loaded twice. Looks for them only if the history table has no unique key."""
    key, stored = run.pipeline.key, stored_keys(run)
    with database.reading() as connection:
        if not sa.inspect(connection).has_table(stored.name, schema=stored.schema):
            return None
        facts = database.sql.read_table_facts(connection, stored, "")
        if facts is not None and any(columns <= {"run_id", *key} for columns in facts.unique):
            return None
        if not database.sql.keys_history and _rises_by_partition(connection, run, stored):
            return None
        columns: list[sa.ColumnElement[Any]] = [stored.c[c] for c in key]
        for share in _shares(database, connection, stored.c.run_id == run.run_id, columns):
            counted = sa.select(*columns, sa.func.count()).where(*share).group_by(*columns)
            twice = connection.execute(counted.having(sa.func.count() > 1).order_by(*columns).limit(SHOWN)).all()
            if twice:
                shown = [show_duplicate(run.pipeline, row[:-1], row[-1]) for row in twice]
                return describe_duplicates(run.pipeline, shown)
    return None


def stored_keys(run: ScoringRun) -> sa.TableClause:
    """Return the history table with the columns of the key."""
    name = history_name(run.pipeline.destination.table, run.pipeline.destination.schema_)
    key: list[sa.ColumnClause[Any]] = [sa.column(sa.quoted_name(c, quote=True)) for c in run.pipeline.key]
    own = [sa.column(column.name, column.type) for column in name.c]
    return sa.table(name.name, *own, *key, schema=name.schema)


def _rises_by_partition(connection: sa.Connection, run: ScoringRun, stored: sa.TableClause) -> bool:
    """Whether each partition has its own range of the key's first column, and as many rows as it loaded.

    Then no key stands twice in the run, because validation has seen that none stands twice in a partition.
    """
    first = stored.c[run.pipeline.key[0]]
    lowest, highest = sa.func.min(first), sa.func.max(first)
    before = sa.func.lag(highest).over(order_by=lowest)
    ranges = sa.select(
        stored.c.partition, sa.func.count().label("rows"), lowest.label("lowest"), before.label("before")
    )
    each = ranges.where(stored.c.run_id == run.run_id).group_by(stored.c.partition).subquery()
    loaded = (partitions.c.run_id == run.run_id) & (partitions.c.partition == each.c.partition)
    is_proved = sa.and_(
        partitions.c.rows_scored == each.c.rows, sa.or_(each.c.before.is_(None), each.c.before < each.c.lowest)
    )
    disputed = sa.select(sa.func.count()).select_from(each.outerjoin(partitions, loaded))
    return connection.execute(disputed.where(is_proved.is_not(sa.true()))).scalar_one() == 0


def _shares(
    database: Database, connection: sa.Connection, mine: sa.ColumnElement[bool], key: list[sa.ColumnElement[Any]]
) -> list[list[sa.ColumnElement[bool]]]:
    """Return the conditions for the shares of a run's rows that are searched one after the other."""
    rows = int(connection.execute(sa.select(sa.func.count()).where(mine)).scalar_one())
    shares = -(-rows // SHARE_ROWS)
    conditions = [database.sql.share_of_keys(key, number, shares) for number in range(shares)]
    return [[mine, condition] for condition in conditions if condition is not None] or [[mine]]
