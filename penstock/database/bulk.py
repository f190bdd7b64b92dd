"""Move rows in bulk as Arrow: ADBC on Postgres, DuckDB's own Arrow bridge, SQLAlchemy elsewhere.

Large results of SQLite are read in a process of its own; see `sqlite_reader`. A read returns the same few types for
every database; see `normalize`.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.adbc import PostgresTransaction, Statement
from penstock.database.connections import Database
from penstock.database.dialects import dialect_of, find_dialect
from penstock.database.driver_errors import translated_errors
from penstock.database.normalize import normalized
from penstock.database.sqlite_reader import LARGE, read_apart
from penstock.database.types import MAX_DIGITS, arrow_type

_WIDE = ("UHUGEINT", "BIGNUM")
"""DuckDB's integers that its Arrow bridge gives wrongly or as bytes."""
_one_at_a_time = threading.Lock()
"""SQLite's driver releases Python's lock at every row. Two threads that read at once would slow each other down."""


class BulkTransaction(Protocol):
    """Statements and bulk appends in one transaction."""

    def execute(self, statement: Statement) -> list[tuple[Any, ...]]: ...

    def append(self, table: sa.Table, rows: pa.Table) -> None: ...


def read(
    database: Database,
    statement: sa.Select[Any],
    declared: pa.Schema | None = None,
    exact: Collection[str] = (),
    *,
    nested: bool = False,
    rows: int | None = None,
) -> pa.Table:
    """Read a select's rows.

    Args:
        declared: column types that the database declares, needed where values do not show them (SQLite).
        exact: keys and columns to keep, which must not lose a digit.
        nested: keep structs, lists and maps, which are written as JSON without this.
        rows: how many there are, if it is known.

    Raises:
        InexactColumn: a column of `exact` has values that the rows' types cannot hold.
    """
    database.require_file()
    with translated_errors(database):
        if database.sql.bulk == "adbc":
            with PostgresTransaction(database) as transaction:
                table = transaction.fetch(statement)
        elif database.sql.bulk == "duckdb":
            with database.engine.connect() as connection:
                table = _duckdb_fetch(connection, statement)
        else:
            with database.engine.connect() as connection:
                if database.sql.reads_apart:
                    table = _sqlite_fetch(connection, statement, database.name, rows)
                else:
                    table = _generic_fetch(connection, statement)
    return normalized(table, declared, exact, nested=nested)


@contextmanager
def bulk_transaction(database: Database) -> Iterator[BulkTransaction]:
    """Open a transaction that can append Arrow tables. Commit at the end, roll back on any error."""
    with translated_errors(database):
        if database.sql.bulk == "adbc":
            with PostgresTransaction(database) as transaction:
                yield transaction
                transaction.commit()
        else:
            append = _duckdb_append if database.sql.bulk == "duckdb" else _generic_append
            with database.writing() as connection:
                yield _SqlAlchemyTransaction(connection, append)


class _SqlAlchemyTransaction:
    def __init__(self, connection: sa.Connection, append: Any) -> None:
        self._connection = connection
        self._append = append

    def execute(self, statement: Statement) -> list[tuple[Any, ...]]:
        result = self._connection.execute(statement)
        return [tuple(row) for row in result] if result.returns_rows else []

    def append(self, table: sa.Table, rows: pa.Table) -> None:
        if rows.num_rows:
            self._append(self._connection, table, rows)


def append_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Append rows by column in a transaction that is open. They have all columns of the table."""
    if not rows:
        return
    if dialect_of(connection).bulk == "duckdb":
        named = {c.name: pa.array([row[c.name] for row in rows], _arrow_type(c.type)) for c in table.columns}
        _duckdb_append(connection, table, pa.table(named))
    else:
        connection.execute(table.insert(), list(rows))


def _arrow_type(kind: sa.types.TypeEngine[Any]) -> pa.DataType:
    """Return the type that a column's values travel as, which does not depend on the values."""
    if isinstance(kind, sa.Integer):
        return pa.int64()  # the database refuses those that are too large, and says so
    if isinstance(kind, sa.Float):
        return pa.float64()
    if isinstance(kind, sa.Numeric):
        return pa.decimal128(kind.precision or MAX_DIGITS, kind.scale or 0)
    return arrow_type(kind)


def _duckdb_fetch(connection: sa.Connection, statement: Statement) -> pa.Table:
    compiled = statement.compile(dialect=connection.dialect)
    parameters = [compiled.params[name] for name in compiled.positiontup or ()]
    raw: Any = connection.connection.driver_connection
    return fetch_relation(raw.sql(str(compiled), params=parameters))  # a DB-API cursor would copy the rows


def fetch_relation(relation: Any) -> pa.Table:
    """Return a DuckDB relation's rows. Integers that are too wide for Arrow become numbers written as text."""
    return prepare_fetch(relation)()


def prepare_fetch(relation: Any, plan: Callable[[Any], Callable[[], pa.Table]] | None = None) -> Callable[[], pa.Table]:
    """Return what fetches a DuckDB relation's rows, as `fetch_relation` does, again and again.

    Args:
        plan: gives what fetches a relation.
    """
    kinds = [str(kind) for kind in relation.types]
    wide = [name for name, kind in zip(relation.columns, kinds, strict=True) if kind in _WIDE]
    if not wide:
        fetch: Callable[[], pa.Table] = plan(relation) if plan else relation.to_arrow_table
        return fetch
    quoted = {name: '"' + name.replace('"', '""') + '"' for name in relation.columns}
    narrowed = relation.project(
        ", ".join(f"cast({q} as varchar) as {q}" if name in wide else q for name, q in quoted.items())
    )
    return lambda: _name_numbers(narrowed.to_arrow_table(), wide)


def _name_numbers(table: pa.Table, wide: list[str]) -> pa.Table:
    """Return the table with the columns of wide integers as numbers that are written as text."""
    numeric: Any = pa.opaque(pa.string(), "numeric", "Penstock")
    for position, name in enumerate(table.column_names):
        if name in wide:
            chunks = [pa.ExtensionArray.from_storage(numeric, chunk) for chunk in table.column(position).chunks]
            table = table.set_column(position, name, pa.chunked_array(chunks, numeric))
    return table


def _duckdb_append(connection: sa.Connection, table: sa.Table, rows: pa.Table) -> None:
    names: list[sa.ColumnClause[Any]] = [sa.column(sa.quoted_name(name, quote=True)) for name in rows.column_names]
    copied = sa.insert(table).from_select(rows.column_names, sa.select(*names).select_from(sa.table("penstock_rows")))
    raw: Any = connection.connection.driver_connection
    raw.register("penstock_rows", rows)
    connection.execute(copied)
    raw.unregister("penstock_rows")  # not needed after an error, which ends the transaction and the registration


def _sqlite_fetch(connection: sa.Connection, statement: Statement, name: str, rows: int | None) -> pa.Table:
    """Read a large result in the other process. `rows` may be unknown: then look whether there are many."""
    if not isinstance(statement, sa.Select) or not _comes_as_it_is(statement, connection.dialect):
        return _generic_fetch(connection, statement)
    result = connection.execute(statement)
    cursor: Any = result.cursor
    names = list(result.keys())
    most = LARGE // len(names)
    if rows is None or rows <= most:
        with _one_at_a_time:
            fetched = cursor.fetchmany(most + 1)
        if len(fetched) <= most:
            return pa.table([_as_array(values) for values in _columns(fetched, names)], names=names)
        del fetched
    result.close()
    table = read_apart(name, connection, statement)
    return _generic_fetch(connection, statement) if table is None else table.rename_columns(names)


def _generic_fetch(connection: sa.Connection, statement: Statement) -> pa.Table:
    dialect, result = dialect_of(connection), connection.execute(statement)
    # Columns of SQLite sources have no types (`sources.sql`), so SQLAlchemy changes no value. This saves half the time.
    plain: Any = result.cursor if _comes_as_it_is(statement, connection.dialect) else result
    with _one_at_a_time if dialect.reads_one_at_a_time else nullcontext():
        names = list(result.keys())
        kinds = dialect.describe(result.cursor, names)
        rows = plain.fetchall()
    arrays = []
    for values, kind in zip(_columns(rows, names), kinds, strict=True):
        described = dialect.as_array(values, kind)
        arrays.append(_as_array(values) if described is None else described)
    return pa.table(arrays, names=names)


def _columns(rows: Sequence[Any], names: Sequence[str]) -> Iterable[Sequence[Any]]:
    return zip(*rows, strict=True) if rows else ((),) * len(names)


def _comes_as_it_is(statement: Statement, dialect: sa.Dialect) -> bool:
    """Whether to take the driver's values. SQLAlchemy converts SQLite's times and booleans of a typed table."""
    known = find_dialect(dialect.name)
    if known.takes_driver_values:
        return True
    if known.values_as_declared or not isinstance(statement, sa.Select):
        return False
    kinds = [column.type.dialect_impl(dialect) for column in statement.selected_columns]
    return all(kind.result_processor(dialect, None) is None for kind in kinds)


def _as_array(values: Sequence[Any]) -> "pa.Array[Any]":
    """Make an Arrow array of a column's values. Mixed types, which SQLite allows, become text."""
    try:
        array: pa.Array[Any] = pa.array(values)
        return array
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if v is None else str(v) for v in values], pa.string())


def _generic_append(connection: sa.Connection, table: sa.Table, rows: pa.Table) -> None:
    """Insert by position, because dictionaries by name take three times as long."""
    names: list[str] = rows.column_names
    compiled = table.insert().compile(dialect=connection.dialect, column_keys=names)
    columns = [(name, _bound(table.c[name].type, connection.dialect)) for name in compiled.positiontup or ()]
    for batch in rows.to_batches(max_chunksize=10_000):
        values = [
            [bind(v) for v in batch[name].to_pylist()] if bind else batch[name].to_pylist() for name, bind in columns
        ]
        connection.exec_driver_sql(str(compiled), list(zip(*values, strict=True)))


def _bound(kind: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> Callable[[Any], Any] | None:
    """Return the function that converts a value for the driver, or None if no conversion is needed."""
    return kind.dialect_impl(dialect).bind_processor(dialect)
