"""The append-only history table, and the two views of its live rows.

`<table>` shows the rows of published runs. `<table>_latest` shows one row for each key, from the newest interval. A new
column of the pipeline is added to the table, empty in older rows. No column is dropped or changes its type.
"""

import threading
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from penstock.database.connections import Database
from penstock.database.types import arrow_type, declared_arrow_type, sql_type
from penstock.errors import DestinationMismatch, QueryFailed
from penstock.ledger.tables import runs
from penstock.spec.column_names import RANK, STEP_MODELS
from penstock.spec.pipeline import Destination

HistoryRunId = sa.Text().with_variant(sa.Uuid(as_uuid=False), "postgresql")
"""16 bytes instead of 32 in each row and its index entry, which makes loads a fifth faster."""
_OWN = ("run_id", "partition")
_REPLACING = ("postgresql", "duckdb")
"""Databases that replace a view in place, so that it keeps its grants and the views on it."""
_ADVISORY_LOCK = 7_305_821_190_665
_ready: dict[tuple[str, str], sa.Table] = {}
_lock = threading.Lock()


def history_name(table: str, schema: str | None) -> sa.TableClause:
    """Return the history table by its name, with the columns that all history tables have."""
    return sa.table(f"{table}__history", sa.column("run_id", HistoryRunId), sa.column("partition"), schema=schema)


def history_table(destination: Destination, key: tuple[str, ...], rows: pa.Schema) -> sa.Table:
    """Return the table with all runs' rows: `(run_id, partition, key…, scores…, kept…)`."""
    columns = [
        sa.Column(sa.quoted_name(f.name, quote=True), sql_type(f.type), nullable=f.name not in key, autoincrement=False)
        for f in rows
    ]
    return sa.Table(
        f"{destination.table}__history",
        sa.MetaData(),
        sa.Column("run_id", HistoryRunId, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("run_id", *key),
        schema=destination.schema_,
    )


def prepare(
    database: Database, destination: Destination, key: tuple[str, ...], rows: pa.Table, *, steps: bool = False
) -> sa.Table:
    """Create the history table and its views if they are missing. Add new columns, and drop none.

    Args:
        steps: Whether several models score, so that the views show each one's version.

    Raises:
        DestinationMismatch: the table has another key, or a column of another type.
        QueryFailed: the name is taken by something that is not Penstock's.
    """
    identity = (database.url.render_as_string(hide_password=False), f"{destination.schema_}.{destination.table}")
    wanted = history_table(destination, key, rows.schema)
    with _lock:
        known = _ready.get(identity)
        if known is None or not _takes(known, wanted, _empty_columns(rows)):
            known = _ready[identity] = _prepare(database, destination, wanted, _empty_columns(rows), steps)
        return known


def check_rows(database: Database, destination: Destination, key: tuple[str, ...], rows: pa.Table) -> None:
    """Check that an existing history table can take such rows. Change nothing.

    Raises:
        DestinationMismatch: it has another key, or a column of another type.
    """
    wanted = history_table(destination, key, rows.schema)
    with database.reading() as connection:
        inspector = sa.inspect(connection)
        if inspector.has_table(wanted.name, schema=wanted.schema):
            _match_existing(inspector, destination, wanted, _empty_columns(rows))


def _prepare(
    database: Database, destination: Destination, wanted: sa.Table, empty: Sequence[str], steps: bool
) -> sa.Table:
    with database.writing() as connection:
        if database.dialect == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        inspector = sa.inspect(connection)
        name, schema = destination.table, destination.schema_
        if name in inspector.get_table_names(schema=schema):
            raise QueryFailed(database.name, f"`{name}` is a table, and the view of the live rows needs its name")
        if not inspector.has_table(wanted.name, schema=schema):
            connection.execute(CreateTable(wanted))
            _write_views(connection, destination, wanted, steps)
            return wanted
        whole, new = _match_existing(inspector, destination, wanted, empty)
        preparer = connection.dialect.identifier_preparer
        for column in new:
            kind, quoted = column.type.compile(connection.dialect), preparer.format_column(column)
            connection.exec_driver_sql(f"ALTER TABLE {preparer.format_table(wanted)} ADD COLUMN {quoted} {kind}")
        views = inspector.get_view_names(schema=schema)
        if new or not all(view in views for view in _view_names(destination)):
            _write_views(connection, destination, whole, steps)
        return whole


def _takes(known: sa.Table, wanted: sa.Table, empty: Sequence[str]) -> bool:
    same_key = set(known.primary_key.columns.keys()) == set(wanted.primary_key.columns.keys())
    return same_key and all(
        c.name in known.c and (c.name in empty or _fits(arrow_type(c.type), arrow_type(known.c[c.name].type)))
        for c in wanted.columns
    )


def _match_existing(
    inspector: sa.Inspector, destination: Destination, wanted: sa.Table, empty: Sequence[str]
) -> tuple[sa.Table, list[sa.Column[Any]]]:
    """Return the table with all its columns, and the columns that must be added.

    Args:
        empty: Columns without a value. They match any type.

    Raises:
        DestinationMismatch: the key or a type differs.
    """
    there = {c["name"]: c for c in inspector.get_columns(wanted.name, schema=wanted.schema)}
    key = {name for name, column in there.items() if not column["nullable"]} - set(_OWN)
    asked = {c.name for c in wanted.primary_key.columns} - set(_OWN)
    if key != asked:
        raise DestinationMismatch(
            wanted.name,
            f"its key is {_listed(key)}, and the pipeline's is {_listed(asked)}",
            "Name another `destination.table` for the new key; the old table stays as it is",
        )
    kinds = {name: declared_arrow_type(column["type"]) or pa.string() for name, column in there.items()}
    retyped = [
        f"`{c.name}` is {kinds[c.name]} there, and {arrow_type(c.type)} now"
        for c in wanted.columns
        if c.name in there and c.name not in (*_OWN, *empty) and not _fits(arrow_type(c.type), kinds[c.name])
    ]
    if retyped:
        raise DestinationMismatch(
            wanted.name,
            ", ".join(retyped),
            "Cast it back or rename it in the features query, or name another `destination.table`",
        )
    new = [c for c in wanted.columns if c.name not in there]
    columns = [_copied(c, kinds.get(c.name)) for c in wanted.columns]
    older = [sa.Column(sa.quoted_name(n, quote=True), sql_type(kinds[n])) for n in there if n not in wanted.c]
    primary = sa.PrimaryKeyConstraint(*(c.name for c in wanted.primary_key.columns))
    return sa.Table(wanted.name, sa.MetaData(), *columns, *older, primary, schema=wanted.schema), new


def _copied(column: "sa.Column[Any]", kind: pa.DataType | None) -> "sa.Column[Any]":
    """Return the column with the type in the table. Integers may be stored as floats, and empty columns as any type."""
    stored = column.type if kind is None or column.name in _OWN else sql_type(kind)
    return sa.Column(column.name, stored, nullable=column.nullable, autoincrement=False)


def _fits(kind: pa.DataType, stored: pa.DataType) -> bool:
    return kind == stored or (pa.types.is_integer(kind) and pa.types.is_floating(stored))


def _empty_columns(rows: pa.Table) -> tuple[str, ...]:
    return tuple(name for name in rows.column_names if rows[name].null_count == rows.num_rows)


def _listed(names: set[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _view_names(destination: Destination) -> tuple[str, str]:
    return destination.table, f"{destination.table}_latest"


def _write_views(connection: sa.Connection, destination: Destination, history: sa.Table, steps: bool) -> None:
    """Write both views. Existing columns keep their positions, and new ones come last."""
    names, schema = _view_names(destination), destination.schema_
    inspector = sa.inspect(connection)
    there = [name for name in names if name in inspector.get_view_names(schema=schema)]
    order = [c["name"] for c in inspector.get_columns(there[0], schema=schema)] if there else []
    live, latest = _view_queries(history, order, steps)
    preparer = connection.dialect.identifier_preparer
    replacing = connection.dialect.name in _REPLACING
    for name, query in zip(names, (live, latest), strict=True):
        body = query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        view = preparer.format_table(sa.table(name, schema=schema))
        if name in there and not replacing:
            connection.exec_driver_sql(f"DROP VIEW {view}")
        create = "CREATE OR REPLACE VIEW" if replacing else "CREATE VIEW"
        connection.exec_driver_sql(f"{create} {view} AS {body}")


def _view_queries(
    history: sa.Table, order: Sequence[str], steps: bool
) -> "tuple[sa.Select[tuple[object]], sa.Select[tuple[object]]]":
    about: dict[str, sa.ColumnElement[Any]] = {
        "interval_start": runs.c.interval_start,
        "interval_end": runs.c.interval_end,
        "model_name": runs.c.model_name,
        "model_version": runs.c.model_version,
        "model_digest": runs.c.model_digest,
        "scored_at": runs.c.published_at.label("scored_at"),
        "run_id": runs.c.run_id,
        **({STEP_MODELS: runs.c.step_models} if steps or STEP_MODELS in order else {}),
    }
    columns = {c.name: c for c in history.columns if c.name not in _OWN} | about
    chosen = [columns[name] for name in (*(o for o in order if o in columns), *(n for n in columns if n not in order))]
    joined = history.join(runs, sa.cast(runs.c.run_id, HistoryRunId) == history.c.run_id)
    live = sa.select(*chosen).select_from(joined).where(runs.c.state == "published", runs.c.variant == "live")
    key = [c for c in history.primary_key.columns if c.name != "run_id"]
    newest = sa.func.row_number().over(
        partition_by=key, order_by=[runs.c.interval_start.desc(), runs.c.published_at.desc()]
    )
    ranked = live.add_columns(newest.label(RANK)).subquery("ranked")
    latest = sa.select(*(c for c in ranked.c if c.name != RANK)).where(ranked.c[RANK] == 1)
    return live, latest
