"""The append-only table `<table>__reasons`, and the view `<table>_reasons` of the live runs' reasons.

A row of the history table whose reasons were asked for has at least one row here, with the same run and key. A
partition loads that row with the text `budget`; `run/explained_rows` puts the reasons in its place.
"""

import threading

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from penstock.database.connections import Database
from penstock.database.types import sql_type
from penstock.ledger.tables import runs
from penstock.run.history_table import ADVISORY_LOCK, HistoryRunId, execute_all, match_existing, takes
from penstock.run.retype import history_key
from penstock.spec.pipeline_fields import Destination

UNEXPLAINED = 0
"""Rank of the one row of a key that says in its text why there are no reasons."""
BUDGET = "budget"
"""Text of a row that the budget leaves without reasons."""
NONE = "none"
"""Text of a row where no feature moves the score in the wanted direction."""
NOT_SCORED = "not scored"
"""Text of a row that the deciding step's `when` leaves out."""
REASON = ("rank", "feature", "contribution", "value", "text")
"""The columns beside run and key."""

_ready: dict[tuple[str, str], sa.Table] = {}
_lock = threading.Lock()


def reasons_name(table: str, schema: str | None) -> sa.TableClause:
    """Return the table of reasons by its name, with the columns that all such tables have."""
    columns = (sa.column("run_id", HistoryRunId), *map(sa.column, REASON))
    return sa.table(f"{table}__reasons", *columns, schema=schema)


def reasons_table(destination: Destination, key: tuple[str, ...], rows: pa.Schema) -> sa.Table:
    """Return the table: `(run_id, key…, rank, feature, contribution, value, text)`."""
    columns = [
        sa.Column(
            sa.quoted_name(f.name, quote=True),
            sql_type(f.type, key=f.name in key),
            nullable=f.name not in (*key, "rank"),
            autoincrement=False,
        )
        for f in rows
    ]
    return sa.Table(
        f"{destination.table}__reasons",
        sa.MetaData(),
        sa.Column("run_id", HistoryRunId, nullable=False),
        *columns,
        history_key("run_id", *key, "rank"),
        schema=destination.schema_,
    )


def prepare_reasons(
    database: Database, destination: Destination, key: tuple[str, ...], rows: pa.Table, *, again: bool = False
) -> sa.Table:
    """Create the table and its view if they are missing. A key gets a type that holds all its values.

    Args:
        again: Whether to look at the table even if this process knows it.

    Raises:
        DestinationMismatch: the table has another key, or one of another type.
    """
    identity = (database.url.render_as_string(hide_password=False), f"{destination.schema_}.{destination.table}")
    wanted = reasons_table(destination, key, rows.schema)
    with _lock:
        known = _ready.get(identity)
        if again or known is None or not takes(known, wanted, rows):
            known = _ready[identity] = _prepare(database, destination, wanted, rows)
        return known


def _prepare(database: Database, destination: Destination, wanted: sa.Table, rows: pa.Table) -> sa.Table:
    view = f"{destination.table}_reasons"
    with database.writing() as connection:
        if (lock := database.sql.lock_transaction(ADVISORY_LOCK)) is not None:
            connection.execute(lock)
        if not sa.inspect(connection).has_table(wanted.name, schema=wanted.schema):
            connection.execute(CreateTable(wanted))
        stored, _, statements = match_existing(connection, wanted, rows, (view,))
        if statements:
            execute_all(connection, wanted.name, statements)
            stored, _, _ = match_existing(connection, wanted, rows, (view,))
        if view not in sa.inspect(connection).get_view_names(schema=wanted.schema):
            _write_view(connection, view, stored, destination.variant)
        return stored


def _write_view(connection: sa.Connection, name: str, stored: sa.Table, variant: str) -> None:
    preparer = connection.dialect.identifier_preparer
    columns = [column for column in stored.columns if column.name != "run_id"]
    joined = stored.join(runs, sa.cast(runs.c.run_id, HistoryRunId) == stored.c.run_id)
    query = sa.select(*columns, runs.c.run_id).select_from(joined)
    live = query.where(runs.c.state == "published", runs.c.variant == variant)
    body = live.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
    view = preparer.format_table(sa.table(name, schema=stored.schema))
    connection.exec_driver_sql(f"CREATE VIEW {view} AS {body}")


def is_explained(table: sa.TableClause | sa.Table) -> sa.ColumnElement[bool]:
    """Whether a row is the first of an explained key. Each of them has one such row."""
    return sa.or_(table.c.rank == 1, sa.and_(table.c.rank == UNEXPLAINED, table.c.text == NONE))


def is_over_budget(table: sa.TableClause | sa.Table) -> sa.ColumnElement[bool]:
    """Whether a row is the one of a key that the budget leaves without reasons, or that is not explained yet."""
    return sa.and_(table.c.rank == UNEXPLAINED, table.c.text == BUDGET)
