"""Move rows in bulk as Arrow: ADBC on Postgres and SQLite, DuckDB's own Arrow bridge, SQLAlchemy elsewhere.

Every read gives the same few types whatever the database: bool, int64, float64, string, date32 and
`timestamp[us, UTC]` (a value without zone means UTC). Decimals become float64, everything else text.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.dialects.sqlite import pysqlite

from penstock.connections import BUSY_SECONDS, Database, translated_errors
from penstock.types import EPOCH_MILLISECONDS, TIMESTAMP, UtcDateTime, arrow_type

_BATCH_BYTES = 2**30
"""A partition that is smaller arrives as one chunk: its columns go to NumPy and to the model without a copy."""


class BulkTransaction(Protocol):
    """Statements and bulk appends that take effect together, or not at all."""

    def execute(self, statement: sa.Executable) -> list[tuple[Any, ...]]: ...

    def append(self, table: sa.Table, rows: pa.Table) -> None: ...


def read(database: Database, statement: sa.Select[Any], declared: pa.Schema | None = None) -> pa.Table:
    """Read a select's rows.

    Args:
        declared: types of columns as the database declares them, where its values do not tell (SQLite).
    """
    with translated_errors(database):
        if database.dialect in _ADBC:
            with _ADBC[database.dialect](database) as transaction:
                table = transaction.fetch(statement)
        elif database.dialect == "duckdb":
            with database.engine.connect() as connection:
                table = _duckdb_fetch(connection, statement)
        else:
            with database.engine.connect() as connection:
                table = _generic_fetch(connection, statement)
    return normalised(table, declared)


@contextmanager
def bulk_transaction(database: Database) -> Iterator[BulkTransaction]:
    """Open a transaction that can append Arrow tables; committed at the end, rolled back on any error."""
    with translated_errors(database):
        if database.dialect in _ADBC:
            with _ADBC[database.dialect](database) as transaction:
                yield transaction
                transaction.commit()
        else:
            append = _duckdb_append if database.dialect == "duckdb" else _generic_append
            with database.writing() as connection:
                yield _SqlAlchemyTransaction(connection, append)


# --- types --------------------------------------------------------------------------------------


def normalised(table: pa.Table, declared: pa.Schema | None = None) -> pa.Table:
    """Return the table with every column in one of the few types; see the module's docstring."""
    columns = []
    for field, column in zip(table.schema, table.columns, strict=True):
        position = declared.get_field_index(field.name) if declared is not None else -1
        wanted = declared.field(position).type if declared is not None and position >= 0 else None
        columns.append(_normalise(column, field.name, wanted))
    return pa.table(columns, names=table.column_names)


def _normalise(column: pa.ChunkedArray, name: str, wanted: pa.DataType | None) -> pa.ChunkedArray:
    if isinstance(column.type, pa.BaseExtensionType):
        column = _storage(column)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    target = wanted if wanted is not None else _plain(column.type)
    if column.type.equals(target):
        return column
    if target.equals(TIMESTAMP):
        return _timestamps(column)
    if pa.types.is_list(column.type) or pa.types.is_struct(column.type) or pa.types.is_map(column.type):
        return pa.chunked_array([pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())])
    try:
        return column.cast(target)
    except pa.ArrowInvalid:
        if wanted is None or target.equals(pa.string()):
            raise
        # A column that holds other than it declares (SQLite lets it): text keeps the values as they are.
        return column.cast(pa.string())


def _storage(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if kind.extension_name == "arrow.uuid":
        return pa.chunked_array([pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())])
    storage = pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
    if getattr(kind, "type_name", "") == "numeric":
        return storage.cast(pa.float64())
    return storage if pa.types.is_string(storage.type) else storage.cast(pa.string())


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_boolean(kind) or pa.types.is_date32(kind):
        return kind
    if pa.types.is_uint64(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return pa.float64()
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_timestamp(kind):
        return TIMESTAMP
    return pa.date32() if pa.types.is_date(kind) else pa.string()


def _timestamps(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_timestamp(kind):
        micro = column.cast(pa.timestamp("us", kind.tz), safe=False)
        return micro if kind.tz == "UTC" else micro.cast(TIMESTAMP) if kind.tz else pc.assume_timezone(micro, "UTC")
    if pa.types.is_integer(kind):
        largest = max(abs(v.as_py() or 0) for v in pc.min_max(column).values())
        unit = "ms" if largest > EPOCH_MILLISECONDS else "s"
        return column.cast(pa.timestamp(unit)).cast(pa.timestamp("us")).cast(TIMESTAMP)
    if pa.types.is_null(kind):
        return column.cast(TIMESTAMP)
    naive = pc.replace_substring_regex(column.cast(pa.string()), r"(Z|\+00:?00)$", "")
    return pc.assume_timezone(naive.cast(pa.timestamp("us")), "UTC")


# --- ADBC ---------------------------------------------------------------------------------------


class _AdbcTransaction:
    """One ADBC connection in one transaction."""

    def __init__(self, database: Database) -> None:
        self._connection = self._connect(database)
        self._cursor = self._connection.cursor()

    def __enter__(self) -> "_AdbcTransaction":
        return self

    def __exit__(self, *_: object) -> None:
        self._cursor.close()
        self._connection.close()

    def _connect(self, database: Database) -> Any:
        raise NotImplementedError

    def _compile(self, statement: sa.Executable) -> tuple[str, tuple[Any, ...]]:
        raise NotImplementedError

    def fetch(self, statement: sa.Executable) -> pa.Table:
        return self._fetch(*self._compile(statement))

    def _fetch(self, sql: str, parameters: tuple[Any, ...]) -> pa.Table:
        self._cursor.execute(sql, parameters or None)
        return self._cursor.fetch_arrow_table()

    def execute(self, statement: sa.Executable) -> list[tuple[Any, ...]]:
        sql, parameters = self._compile(statement)
        self._cursor.execute(sql, parameters or None)
        return [tuple(row) for row in self._cursor.fetchall()] if isinstance(statement, sa.Select) else []

    def append(self, table: sa.Table, rows: pa.Table) -> None:
        if rows.num_rows:
            self._cursor.adbc_ingest(table.name, self._typed(table, rows), mode="append", db_schema_name=table.schema)

    def _typed(self, table: sa.Table, rows: pa.Table) -> pa.Table:
        return rows.cast(pa.schema([(name, arrow_type(table.c[name].type)) for name in rows.column_names]))

    def commit(self) -> None:
        self._connection.commit()


class _TypedLiterals(asyncpg.PGCompiler_asyncpg):
    """Write values into the statement, each with the cast that it would have as a parameter."""

    def render_literal_value(self, value: Any, type_: sa.types.TypeEngine[Any]) -> str:
        kind = type_._unwrapped_dialect_impl(self.dialect)
        literal = super().render_literal_value(value, type_)  # type: ignore[no-untyped-call]
        return str(self.render_bind_cast(type_, kind, f"({literal})"))  # type: ignore[no-untyped-call]


class _LiteralDialect(asyncpg.dialect):
    statement_compiler = _TypedLiterals


class _PostgresTransaction(_AdbcTransaction):
    def _connect(self, database: Database) -> Any:
        from adbc_driver_postgresql import dbapi

        url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        server, mark, options = url.partition("?")
        return dbapi.connect(server + mark + options.replace("+", "%20"), autocommit=False)  # libpq reads no `+` as a blank

    def _compile(self, statement: sa.Executable) -> tuple[str, tuple[Any, ...]]:
        compiled = statement.compile(dialect=asyncpg.dialect())  # type: ignore[no-untyped-call] # SQLAlchemy's own
        return str(compiled), tuple(compiled.params[name] for name in compiled.positiontup or ())

    def fetch(self, statement: sa.Executable) -> pa.Table:
        # Without parameters the driver reads by COPY: a quarter less time, and the result is not held twice.
        sql, parameters = self._compile(statement)
        if parameters and all(_is_plain(value) for value in parameters):
            dialect = _LiteralDialect()  # type: ignore[no-untyped-call]
            literal = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})  # type: ignore[attr-defined]
            sql, parameters = str(literal), ()
        self._cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(_BATCH_BYTES)})
        return self._fetch(sql, parameters)


def _is_plain(value: Any) -> bool:
    """Whether a value has one safe way to be written: text never, it stays bound."""
    return type(value) in (int, datetime) or (type(value) is float and math.isfinite(value))


class _SqliteTransaction(_AdbcTransaction):
    def _connect(self, database: Database) -> Any:
        from adbc_driver_sqlite import dbapi

        connection = dbapi.connect(database.url.database or ":memory:", autocommit=False)
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
            cursor.fetchall()
        return connection

    def _compile(self, statement: sa.Executable) -> tuple[str, tuple[Any, ...]]:
        compiled = statement.compile(dialect=pysqlite.dialect(paramstyle="qmark"))  # type: ignore[no-untyped-call]
        processors = compiled._bind_processors
        names = compiled.positiontup or ()
        return str(compiled), tuple(
            processors[name](compiled.params[name]) if name in processors else compiled.params[name] for name in names
        )

    def fetch(self, statement: sa.Executable) -> pa.Table:
        # The driver infers types from the first batch, and reserves memory for a batch: so the batch is the whole result.
        assert isinstance(statement, sa.Select)
        sql, parameters = self._compile(sa.select(sa.func.count()).select_from(statement.subquery()))
        self._cursor.execute(sql, parameters or None)
        rows = max(self._cursor.fetchone()[0], 1)
        self._cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": str(rows)})
        return super().fetch(statement)

    def _typed(self, table: sa.Table, rows: pa.Table) -> pa.Table:
        typed = super()._typed(table, rows)
        for position, field in enumerate(typed.schema):
            if pa.types.is_timestamp(field.type):  # as SQLAlchemy writes them
                text = pc.strftime(typed.column(position).cast(pa.timestamp("us")), "%Y-%m-%d %H:%M:%S")
                typed = typed.set_column(position, field.name, text)
        return typed


_ADBC: dict[str, type[_AdbcTransaction]] = {"postgresql": _PostgresTransaction, "sqlite": _SqliteTransaction}


# --- SQLAlchemy and DuckDB ----------------------------------------------------------------------


class _SqlAlchemyTransaction:
    def __init__(self, connection: sa.Connection, append: Any) -> None:
        self._connection = connection
        self._append = append

    def execute(self, statement: sa.Executable) -> list[tuple[Any, ...]]:
        result = self._connection.execute(statement)
        return [tuple(row) for row in result] if result.returns_rows else []

    def append(self, table: sa.Table, rows: pa.Table) -> None:
        if rows.num_rows:
            self._append(self._connection, table, rows)


def _duckdb_fetch(connection: sa.Connection, statement: sa.Executable) -> pa.Table:
    compiled = statement.compile(dialect=connection.dialect)
    parameters = [compiled.params[name] for name in compiled.positiontup or ()]
    raw: Any = connection.connection.driver_connection
    return raw.sql(str(compiled), params=parameters).to_arrow_table()  # a DB-API cursor would copy the rows once more


def _duckdb_append(connection: sa.Connection, table: sa.Table, rows: pa.Table) -> None:
    quote = connection.dialect.identifier_preparer
    names = ", ".join(f'"{name}"' for name in rows.column_names)
    raw: Any = connection.connection.driver_connection
    raw.register("penstock_rows", rows)
    raw.execute(f"insert into {quote.format_table(table)} ({names}) select {names} from penstock_rows")
    raw.unregister("penstock_rows")  # after an error the transaction is dead, and the registration with it


def _generic_fetch(connection: sa.Connection, statement: sa.Executable) -> pa.Table:
    result = connection.execute(statement)
    names, rows = list(result.keys()), result.fetchall()
    return pa.table([pa.array([row[i] for row in rows]) for i in range(len(names))], names=names)


def _generic_append(connection: sa.Connection, table: sa.Table, rows: pa.Table) -> None:
    for batch in rows.to_batches(max_chunksize=10_000):
        connection.execute(table.insert(), batch.to_pylist())


__all__ = ["BulkTransaction", "UtcDateTime", "bulk_transaction", "normalised", "read"]
