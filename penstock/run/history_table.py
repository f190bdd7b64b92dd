"""The append-only history table, and the two views of its live rows.

`<table>` shows the rows of published runs. `<table>_latest` shows one row for each key, from the newest interval. A new
column of the pipeline is added to the table, empty in older rows. No column is dropped. A column changes its type only
if every stored value survives it (`run/retype`): a column without a value takes any type, and a float column becomes an
exact one.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from penstock.database.bulk import BulkTransaction
from penstock.database.connections import Database
from penstock.database.dialects import SqlDialect, dialect_of
from penstock.database.types import ExactNumber, arrow_type, sql_type, stored_type
from penstock.errors import DestinationMismatch, QueryFailed
from penstock.ledger.tables import runs
from penstock.run.retype import Retype, drops_fractions, has_value, history_key, is_exact, retype_statements, wider_type
from penstock.spec.column_names import OWN_COLUMNS, RANK, STEP_MODELS
from penstock.spec.pipeline_fields import Destination

HistoryRunId = sa.Text().with_variant(sa.Uuid(as_uuid=False), "postgresql")
"""16 bytes instead of 32 in each row and its index entry, which makes loads a fifth faster."""
_INT64 = pa.decimal128(19, 0)
"""The decimal that every int64 is."""
_DECLARED = "declared"
"""What `Table.info` has: the declared types when the process looked."""
_DEPENDED_ON = "2BP01"
"""Postgres's code for an object that others depend on."""
ADVISORY_LOCK = 7_305_821_190_665
_ready: dict[tuple[str, str], sa.Table] = {}
_lock = threading.Lock()


def history_name(table: str, schema: str | None) -> sa.TableClause:
    """Return the history table by its name, with the columns that all history tables have."""
    return sa.table(f"{table}__history", sa.column("run_id", HistoryRunId), sa.column("partition"), schema=schema)


def reflect_history(connection: sa.Connection, name: str, schema: str | None) -> sa.Table:
    """Return a history table with the columns and types that it has in the database."""
    columns = sa.inspect(connection).get_columns(name, schema=schema)
    kinds = {"run_id": HistoryRunId}
    named = [sa.Column(sa.quoted_name(c["name"], quote=True), kinds.get(c["name"], c["type"])) for c in columns]
    return sa.Table(name, sa.MetaData(), *named, schema=schema)


def history_table(destination: Destination, key: tuple[str, ...], rows: pa.Schema) -> sa.Table:
    """Return the table with all runs' rows: `(run_id, partition, key…, scores…, kept…)`."""
    columns = [
        sa.Column(
            sa.quoted_name(f.name, quote=True),
            sql_type(f.type, key=f.name in key),
            nullable=f.name not in key,
            autoincrement=False,
        )
        for f in rows
    ]
    return sa.Table(
        f"{destination.table}__history",
        sa.MetaData(),
        sa.Column("run_id", HistoryRunId, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        *columns,
        history_key("run_id", *key),
        schema=destination.schema_,
    )


def prepare(
    database: Database,
    destination: Destination,
    key: tuple[str, ...],
    rows: pa.Table,
    *,
    steps: bool = False,
    again: bool = False,
) -> sa.Table:
    """Create the history table and its views if they are missing. Add new columns, and drop none.

    Args:
        steps: Whether several models score, so that the views show each one's version.
        again: Whether to look at the table even if this process knows it.

    Raises:
        DestinationMismatch: the table has another key, or a column of another type.
        QueryFailed: the name is taken by something that is not Penstock's.
    """
    identity = _identify(database, destination)
    wanted = history_table(destination, key, rows.schema)
    with _lock:
        known = _ready.get(identity)
        if again or known is None or not takes(known, wanted, rows):
            known = _ready[identity] = _prepare(database, destination, wanted, rows, steps)
        return known


def stored_columns(connection: sa.Connection, history: sa.TableClause) -> "list[sa.Column[Any]]":
    """Return the columns of an existing history table, with the types of its values. Those of the key are not NULL."""
    own: dict[str, Any] = {"run_id": HistoryRunId, "partition": sa.Integer()}
    dialect = connection.dialect.name
    return [
        sa.Column(
            sa.quoted_name(c["name"], quote=True),
            own.get(c["name"]) or stored_type(c["type"], dialect, key=not c["nullable"]),
            nullable=c["nullable"],
            autoincrement=False,
        )
        for c in sa.inspect(connection).get_columns(history.name, schema=history.schema)
    ]


def require_fit(
    database: Database, destination: Destination, key: tuple[str, ...], rows: pa.Table, *, again: bool = False
) -> sa.Table:
    """Return the history table as it is, for rows that must not change it.

    Args:
        again: Whether to look at the table even if this process knows it.

    Raises:
        DestinationMismatch: it would need another column or another type.
    """
    identity = _identify(database, destination)
    wanted = history_table(destination, key, rows.schema)
    with _lock:
        known = _ready.get(identity)
    if not again and known is not None and takes(known, wanted, rows):
        return known
    with database.reading() as connection:
        stored, new, statements = match_existing(connection, wanted, rows, _view_names(destination))
    if new or statements:
        reason = "the rows of a challenger would change a column of the table, or add one"
        raise DestinationMismatch(
            destination.table, reason, "Promote the version, or score it in a pipeline of its own"
        )
    return stored


def _identify(database: Database, destination: Destination) -> tuple[str, str]:
    return database.url.render_as_string(hide_password=False), f"{destination.schema_}.{destination.table}"


def check_rows(database: Database, destination: Destination, key: tuple[str, ...], rows: pa.Table) -> None:
    """Check that an existing history table can take such rows. Change nothing.

    Raises:
        DestinationMismatch: it has another key, or a column of another type.
    """
    wanted = history_table(destination, key, rows.schema)
    with database.reading() as connection:
        if sa.inspect(connection).has_table(wanted.name, schema=wanted.schema):
            match_existing(connection, wanted, rows, _view_names(destination))


def keeps_types(transaction: BulkTransaction, dialect: SqlDialect, history: sa.Table) -> bool:
    """Whether the table still has the types that `prepare` saw. They cannot change before the transaction ends."""
    columns = [column for column in history.columns if column.name not in OWN_COLUMNS]
    if (keeping := dialect.keep_types(columns)) is not None:
        transaction.execute(keeping)
    declared: Any = transaction.execute(dialect.declared_types(history))
    return {str(name): kind for name, kind in declared} == dict(history.info[_DECLARED])


def fit_rows(rows: pa.Table, table: sa.Table) -> pa.Table | None:
    """Return the rows in the types of the table. None if a value would not be the same there."""
    columns = []
    for name in rows.column_names:
        column = fit_column(rows[name], table.c[name].type) if name in table.c else None
        if column is None:
            return None
        columns.append(column)
    return pa.table(columns, names=rows.column_names)


def fit_column(column: "pa.ChunkedArray[Any]", stored: sa.types.TypeEngine[Any]) -> "pa.ChunkedArray[Any] | None":
    """Return the values in the Arrow type of a stored column. None if one of them would not be the same."""
    given, target = column.type, arrow_type(stored)
    if given == target:
        return column
    if column.null_count == len(column):
        return pa.chunked_array([pa.array([None] * len(column), target)])
    exact = pa.types.is_integer(given) or pa.types.is_decimal(given)
    if isinstance(stored, ExactNumber) and exact and stored.precision is None:
        return column if pa.types.is_decimal(given) else column.cast(_INT64)
    if not exact or not isinstance(stored, sa.Integer | ExactNumber | sa.Double):
        return None
    try:
        if isinstance(stored, sa.Double):
            return column.cast(target) if pa.types.is_integer(given) else None
        return (column if pa.types.is_decimal(given) else column.cast(_INT64)).cast(target)
    except pa.ArrowInvalid:
        return None


def _prepare(database: Database, destination: Destination, wanted: sa.Table, rows: pa.Table, steps: bool) -> sa.Table:
    with database.writing() as connection:
        if (lock := database.sql.lock_transaction(ADVISORY_LOCK)) is not None:
            connection.execute(lock)
        inspector = sa.inspect(connection)
        name, schema = destination.table, destination.schema_
        if name in inspector.get_table_names(schema=schema):
            raise QueryFailed(
                database.name,
                f"`{name}` is a table, and the view of the live rows needs its name",
                "Rename the table, or choose another `destination.table`.",
            )
        if not inspector.has_table(wanted.name, schema=schema):
            connection.execute(CreateTable(wanted))
            stored, _, _ = match_existing(connection, wanted, rows, _view_names(destination))
            _write_views(connection, destination, stored, steps)
            return stored
        stored, new, statements = match_existing(connection, wanted, rows, _view_names(destination))
        preparer = connection.dialect.identifier_preparer
        order, grants = _view_columns(connection, destination), _view_grants(connection, destination)
        execute_all(connection, wanted.name, statements)
        for column in new:
            kind, quoted = column.type.compile(connection.dialect), preparer.format_column(column)
            connection.exec_driver_sql(f"ALTER TABLE {preparer.format_table(wanted)} ADD COLUMN {quoted} {kind}")
        if new or statements:
            stored, _, _ = match_existing(connection, wanted, rows, _view_names(destination))
        views = sa.inspect(connection).get_view_names(schema=schema)
        if new or not all(view in views for view in _view_names(destination)):
            _write_views(connection, destination, stored, steps, order)
            execute_all(connection, wanted.name, grants if statements else ())
        return stored


def execute_all(connection: sa.Connection, table: str, statements: Sequence[str]) -> None:
    """Execute statements that change the table's types.

    Raises:
        DestinationMismatch: something that is not Penstock's depends on the views.
    """
    try:
        for statement in statements:
            connection.exec_driver_sql(statement)
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _DEPENDED_ON:
            raise
        raise DestinationMismatch(
            table,
            "a column gets another type, and other views depend on the views of its rows",
            f"Drop those views, run again, and create them anew. Penstock will run: {'; '.join(statements)}",
        ) from None


def takes(known: sa.Table, wanted: sa.Table, rows: pa.Table) -> bool:
    """Whether a table has the wanted key, and its types hold the rows."""
    same_key = set(known.primary_key.columns.keys()) == set(wanted.primary_key.columns.keys())
    return same_key and fit_rows(rows, known) is not None


def match_existing(
    connection: sa.Connection, wanted: sa.Table, rows: pa.Table, views: Sequence[str]
) -> tuple[sa.Table, list[sa.Column[Any]], list[str]]:
    """Return the table as it is stored, the columns that must be added, and the statements that change its types.

    Args:
        views: The views on it. The statements drop them.

    Raises:
        DestinationMismatch: the key differs, or a type differs and a stored value would not survive the change.
    """
    columns = stored_columns(connection, wanted)
    kinds = {column.name: column.type for column in columns}
    key = {column.name for column in columns if not column.nullable} - set(OWN_COLUMNS)
    asked = {c.name for c in wanted.primary_key.columns} - set(OWN_COLUMNS)
    if key != asked:
        raise DestinationMismatch(
            wanted.name,
            f"its key is {_listed(key)}, and the pipeline's is {_listed(asked)}",
            "Name another `destination.table` for the new key; the old table stays as it is",
        )
    primary = sa.PrimaryKeyConstraint(*(c.name for c in wanted.primary_key.columns))
    stored = sa.Table(wanted.name, sa.MetaData(), *columns, primary, schema=wanted.schema)
    declared = connection.execute(dialect_of(connection).declared_types(stored))
    stored.info[_DECLARED] = {str(name): kind for name, kind in declared}
    unfit = [n for n in rows.column_names if n in kinds and fit_column(rows[n], kinds[n]) is None]
    changes = [Retype(n, kinds[n], wanted.c[n].type) for n in unfit]
    statements = _plan_retype(connection, stored, changes, key, rows, views) if changes else []
    return stored, [c for c in wanted.columns if c.name not in kinds], statements


def _plan_retype(
    connection: sa.Connection,
    stored: sa.Table,
    changes: Sequence[Retype],
    key: set[str],
    rows: pa.Table,
    views: Sequence[str],
) -> list[str]:
    """Return the statements that change the types.

    Raises:
        DestinationMismatch: a stored value would not survive it.
    """
    valued = {c.column: has_value(connection, stored, c.column) for c in changes}
    planned, retyped, rounded = [], [], []
    for change in changes:
        kind = wider_type(change.stored, change.wanted, key=change.column in key) if valued[change.column] else None
        planned.append(replace(change, wanted=kind) if kind is not None else change)
        if isinstance(kind, ExactNumber) and (digits := dialect_of(connection).max_digits) is not None:
            limited = ExactNumber(kind.scale, digits, key=kind.key)
            kind = kind if fit_column(rows[change.column], limited) is not None else None
        if valued[change.column] and (kind is None or drops_fractions(connection, stored, planned[-1])):
            retyped.append(
                f"`{change.column}` is {_described(change.stored)} there, and {_described(change.wanted)} now"
            )
        elif valued[change.column] and not is_exact(connection, stored, planned[-1]):
            rounded.append(change.column)
    if retyped:
        raise DestinationMismatch(
            stored.name,
            ", ".join(retyped),
            "Cast it back or rename it in the features query, or name another `destination.table`",
        )
    statements = retype_statements(connection.dialect, stored, planned, tuple(reversed(views)), valued)
    if rounded:
        kinds = {change.column: _described(change.stored) for change in changes}
        raise DestinationMismatch(
            stored.name,
            ", ".join(f"`{name}` is {kinds[name]} there, and some of its values have lost digits" for name in rounded),
            "New rows are exact. To keep the stored values as they are, run these statements and then the pipeline: "
            f"{'; '.join(statements)}. Or name another `destination.table` and score the intervals again",
        )
    return statements


def _described(kind: sa.types.TypeEngine[Any]) -> str:
    return "decimal" if isinstance(kind, ExactNumber) else str(arrow_type(kind))


def _listed(names: set[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _view_names(destination: Destination) -> tuple[str, str]:
    return destination.table, f"{destination.table}_latest"


def _view_columns(connection: sa.Connection, destination: Destination) -> list[str]:
    """Return the columns of the views in their order. Empty without a view."""
    inspector, schema = sa.inspect(connection), destination.schema_
    there = [name for name in _view_names(destination) if name in inspector.get_view_names(schema=schema)]
    return [c["name"] for c in inspector.get_columns(there[0], schema=schema)] if there else []


def _view_grants(connection: sa.Connection, destination: Destination) -> list[str]:
    """Return the statements that give others their rights on the views again."""
    preparer, schema = connection.dialect.identifier_preparer, destination.schema_
    views = [preparer.format_table(sa.table(name, schema=schema)) for name in _view_names(destination)]
    return [grant for view in views for grant in dialect_of(connection).view_grants(connection, view)]


def _write_views(
    connection: sa.Connection, destination: Destination, history: sa.Table, steps: bool, order: Sequence[str] = ()
) -> None:
    """Write both views. Columns in `order` keep their positions, and new ones come last."""
    names, schema = _view_names(destination), destination.schema_
    there = [name for name in names if name in sa.inspect(connection).get_view_names(schema=schema)]
    live, latest = _view_queries(destination.variant, history, order, steps)
    preparer = connection.dialect.identifier_preparer
    replacing = dialect_of(connection).replaces_views
    for name, query in zip(names, (live, latest), strict=True):
        body = query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        view = preparer.format_table(sa.table(name, schema=schema))
        if name in there and not replacing:
            connection.exec_driver_sql(f"DROP VIEW {view}")
        create = "CREATE OR REPLACE VIEW" if replacing else "CREATE VIEW"
        connection.exec_driver_sql(f"{create} {view} AS {body}")


def _view_queries(
    variant: str, history: sa.Table, order: Sequence[str], steps: bool
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
    columns = {c.name: c for c in history.columns if c.name not in OWN_COLUMNS} | about
    chosen = [columns[name] for name in (*(o for o in order if o in columns), *(n for n in columns if n not in order))]
    joined = history.join(runs, sa.cast(runs.c.run_id, HistoryRunId) == history.c.run_id)
    live = sa.select(*chosen).select_from(joined).where(runs.c.state == "published", runs.c.variant == variant)
    key = [c for c in history.primary_key.columns if c.name != "run_id"]
    newest = sa.func.row_number().over(
        partition_by=key, order_by=[runs.c.interval_start.desc(), runs.c.published_at.desc()]
    )
    ranked = live.add_columns(newest.label(RANK)).subquery("ranked")
    latest = sa.select(*(c for c in ranked.c if c.name != RANK)).where(ranked.c[RANK] == 1)
    return live, latest
