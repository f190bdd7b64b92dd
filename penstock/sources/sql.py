"""Rows of a table or a query in a SQL database."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.database.dialects import SqlDialect, dialect_of
from penstock.database.types import declared_arrow_type
from penstock.errors import AmbiguousColumns, MissingTable
from penstock.interval import DataInterval
from penstock.sources.relation import Relation
from penstock.spec.parts import twin_names
from penstock.spec.query_text import PARAMETERS, bindable
from penstock.spec.sources import SqlSource


def sql_relation(
    name: str,
    source: SqlSource,
    database: Database,
    time: str | None,
    interval: DataInterval | None,
    partition_by: str | None = None,
) -> Relation:
    """Return the source's rows as a relation.

    Args:
        time: event-time column that selects the rows; None selects all.
        interval: values of `:interval_start` and `:interval_end` in a query.
        partition_by: the column whose values partitions keep whole. Default: partitions are cut along the key.

    Raises:
        MissingTable: the table does not exist; the error names the nearest one that does.
        AmbiguousColumns: two columns have one name.
    """
    database.require_file()
    rows = _table(source, database) if source.table is not None else _query(name, source, database, interval)
    if twins := twin_names([str(column.name) for column in rows.c]):
        raise AmbiguousColumns(f"source `{name}`", twins)
    declared = None
    if not database.sql.values_as_declared:  # read them as they are
        declared, rows = declared_types(rows), without_types(rows)
    along = partition_by or (source.key[0] if source.key else None)
    return Relation(
        name, database, rows, source.key, along, time, source.updated_column, declared, partition_by is not None
    )


def _table(source: SqlSource, database: Database) -> sa.FromClause:
    assert source.table is not None
    read = _read_columns if database.snapshot is None else _read_columns_once
    columns = read(database, source.table, source.schema_)
    dialect = database.sql
    names = (sa.quoted_name(dialect.reflected_name(c["name"]), quote=True) for c in columns)
    typed = (sa.column(name, dialect.reflected(c["type"])) for name, c in zip(names, columns, strict=True))
    return sa.table(sa.quoted_name(source.table, quote=True), *typed, schema=source.schema_)


_KnownColumns = dict[tuple[str, str | None], tuple[tuple[Any, ...], list[Any]]]
_known_columns: WeakKeyDictionary[sa.Engine, _KnownColumns] = WeakKeyDictionary()
"""By engine and table: the short description of a table, and its columns at that time."""


def _read_columns(database: Database, table: str, schema: str | None) -> list[Any]:
    """Return a table's columns as SQLAlchemy describes them."""
    with database.reading() as connection:
        described = database.sql.describe_table(connection, table)
        known = _known_columns.setdefault(database.engine, {})
        before, columns = known.get((table, schema), ((), []))
        if described and before == described:
            return columns
        inspector = sa.inspect(connection)
        try:
            columns = inspector.get_columns(table, schema=schema)
        except sa.exc.NoSuchTableError:
            columns = []
        if not columns:
            names = (*inspector.get_table_names(schema=schema), *inspector.get_view_names(schema=schema))
            raise MissingTable(database.name, table, names)
        if described:
            known[table, schema] = described, columns
    return columns


_read_columns_once = lru_cache(maxsize=256)(_read_columns)
"""For a snapshot, in which a table's columns are always the same. Each partition would read them again."""


def _query(name: str, source: SqlSource, database: Database, interval: DataInterval | None) -> sa.FromClause:
    assert source.query is not None
    bound = sa.text(bindable(source.query, sqlite=database.sql.time_types == "none"))
    for parameter, moment in zip(PARAMETERS, (interval.start, interval.end) if interval else (None, None), strict=True):
        if parameter in bound._bindparams:
            bound = bound.bindparams(_bind(parameter, moment, database.sql))
    with database.reading() as connection:
        probe = sa.select(sa.text("*")).select_from(bound.columns().subquery("q")).limit(0)
        result = connection.execute(probe)
        names = list(result.keys())
        if twins := _twins_of_query(bound, names, connection):
            raise AmbiguousColumns(f"source `{name}`", twins)
        kinds = database.sql.describe(result.cursor, names)
    columns = (sa.column(sa.quoted_name(n, quote=True), kind) for n, kind in zip(names, kinds, strict=True))
    return bound.columns(*columns).subquery("q")


def _bind(parameter: str, moment: datetime | None, dialect: SqlDialect) -> sa.BindParameter[Any]:
    if dialect.time_types == "none":
        # As short as it can be: SQLite compares texts, and `10:00:00` would be before `10:00:00.000000`.
        text = None if moment is None else moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ")
        return sa.bindparam(parameter, text, sa.Text())
    aware = dialect.compares_zones
    value = moment if aware or moment is None else moment.replace(tzinfo=None)
    return sa.bindparam(parameter, value, sa.DateTime(timezone=aware))


def _twins_of_query(query: sa.TextClause, names: Sequence[str], connection: sa.Connection) -> tuple[str, ...]:
    """Return the names that two of a query's columns have. SQLite and DuckDB rename such columns of a subquery."""
    dialect = dialect_of(connection)
    if (description := dialect.query_columns(query.text)) is not None:
        described = sa.text(description)
        described._bindparams = query._bindparams
        return twin_names([str(row[0]) for row in connection.execute(described)])
    return twin_names(dialect.original_names(names))


def without_types(rows: sa.FromClause) -> sa.FromClause:
    """Return a table whose values are read as they are."""
    if not isinstance(rows, sa.TableClause):
        return rows
    return sa.table(rows.name, *(sa.column(column.name) for column in rows.c), schema=rows.schema)


def declared_types(rows: sa.FromClause) -> pa.Schema:
    """Return the Arrow types of the columns that declare one."""
    pairs = ((column.name, declared_arrow_type(column.type)) for column in rows.c)
    return pa.schema([pa.field(str(name), kind) for name, kind in pairs if kind is not None])
