"""Read and write rows in the quickest known way, without Penstock. The floors use this.

SQLite is read with Python's own driver. ADBC's driver has a second SQLite library, which breaks the locks of the first
(docs/adr/0007).
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

_TYPES = {pa.int64(): "bigint", pa.float64(): "double precision", pa.string(): "text"}


def read_rows(url: str, query: str, types: "pa.Schema | None" = None) -> pa.Table:
    """Read a query.

    Args:
        types: types of the columns, for SQLite, which does not give them; columns not named are doubles.
    """
    kind = sa.make_url(url).get_backend_name()
    if kind == "postgresql":
        with _adbc(url) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            fetched: pa.Table = cursor.fetch_arrow_table()
            return fetched
    if kind == "duckdb":
        with _duckdb(url) as connection:
            read: pa.Table = connection.sql(query).to_arrow_table()
            return read
    with _sqlite(url) as connection:
        cursor = connection.execute(query)
        names = [column[0] for column in cursor.description]
        columns = list(zip(*cursor.fetchall(), strict=True)) or [()] * len(names)
        kinds = [pa.float64() if types is None or n not in types.names else types.field(n).type for n in names]
        return pa.table([pa.array(c, k) for c, k in zip(columns, kinds, strict=True)], names=names)


def create_table(url: str, table: str, rows: pa.Table, key: str | None = None, analyze: bool = False) -> None:
    """Create a table, with a primary key if one is given, append the rows and commit."""
    kinds = [f'"{f.name}" {_type(f.type)}{" primary key" if f.name == key else ""}' for f in rows.schema]
    create = f"create table {table} ({', '.join(kinds)})"
    kind = sa.make_url(url).get_backend_name()
    if kind == "postgresql":
        with _adbc(url) as connection, connection.cursor() as cursor:
            cursor.execute(create)
            cursor.adbc_ingest(table, rows, mode="append")
            connection.commit()
        if analyze:
            with _adbc(url, autocommit=True) as connection, connection.cursor() as cursor:
                cursor.execute(f"VACUUM ANALYZE {table}")
    elif kind == "duckdb":
        with _duckdb(url) as connection:
            connection.execute(create)
            connection.register("rows_to_append", rows)
            connection.execute(f"insert into {table} select * from rows_to_append")
    else:
        with _sqlite(url) as connection, connection:
            connection.execute(create)
            places = ", ".join("?" * rows.num_columns)
            for batch in rows.to_batches(max_chunksize=50_000):
                values = [column.to_pylist() for column in batch.cast(_stored(batch.schema)).columns]
                connection.executemany(f"insert into {table} values ({places})", zip(*values, strict=True))


def create_index(url: str, table: str, column: str) -> None:
    """Create an index on Postgres."""
    with _adbc(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"create index on {table} ({column})")


def append_rows(url: str, table: str, rows: pa.Table) -> None:
    """Append to a table on Postgres and commit."""
    with _adbc(url) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(table, rows, mode="append")
        connection.commit()


def read_scores(url: str, table: str, key: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return keys and scores in the order of the keys."""
    rows = read_rows(url, f"select {key}, score from {table} order by {key}", pa.schema([(key, pa.int64())]))
    return rows[key].to_numpy(), rows["score"].to_numpy()


def _type(kind: pa.DataType) -> str:
    return "timestamptz" if pa.types.is_timestamp(kind) else _TYPES[kind]


def _stored(schema: pa.Schema) -> pa.Schema:
    """Replace times by text: SQLite has no time type, and SQLAlchemy writes text too."""
    return pa.schema([pa.field(f.name, pa.string() if pa.types.is_timestamp(f.type) else f.type) for f in schema])


def _adbc(url: str, autocommit: bool = False) -> Any:
    from adbc_driver_postgresql import dbapi

    libpq = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return dbapi.connect(libpq, autocommit=autocommit)


@contextmanager
def _duckdb(url: str) -> Iterator[Any]:
    import duckdb

    with duckdb.connect(str(sa.make_url(url).database)) as connection:
        connection.execute("SET TimeZone='UTC'")
        yield connection


@contextmanager
def _sqlite(url: str) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(str(sa.make_url(url).database))
    try:
        yield connection
    finally:
        connection.close()
