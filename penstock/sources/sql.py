"""Rows of a table or a query in a SQL database."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.database.types import declared_arrow_type
from penstock.errors import DatabaseUnavailable, MissingTable
from penstock.interval import DataInterval
from penstock.sources.postgres_types import base_type, type_of_oid
from penstock.sources.relation import Relation
from penstock.spec.pipeline import SqlSource


def sql_relation(
    name: str, source: SqlSource, database: Database, time: str | None, interval: DataInterval | None
) -> Relation:
    """Return the source's rows as a relation.

    Args:
        time: event-time column that selects the rows; None selects all.
        interval: values of `:interval_start` and `:interval_end` in a query.

    Raises:
        MissingTable: the table does not exist; the error names the nearest one that does.
    """
    if database.dialect == "sqlite" and database.url.database and not Path(database.url.database).exists():
        raise DatabaseUnavailable(database.name, f"there is no file {database.url.database}")
    rows = _table(source, database) if source.table is not None else _query(source, database, interval)
    declared = None
    if database.dialect == "sqlite":  # values may differ from the declared types, so read them as they are
        declared, rows = _declared(rows), _untyped(rows)
    partition_by = source.key[0] if source.key else None
    return Relation(name, database, rows, source.key, partition_by, time, source.updated_column, declared)


def _table(source: SqlSource, database: Database) -> sa.FromClause:
    assert source.table is not None
    with database.reading() as connection:
        inspector = sa.inspect(connection)
        try:
            columns = inspector.get_columns(source.table, schema=source.schema_)
        except sa.exc.NoSuchTableError:
            columns = []
        if not columns:
            known = (
                *inspector.get_table_names(schema=source.schema_),
                *inspector.get_view_names(schema=source.schema_),
            )
            raise MissingTable(database.name, source.table, known)
    return sa.table(
        sa.quoted_name(source.table, quote=True),
        *(sa.column(sa.quoted_name(c["name"], quote=True), base_type(c["type"])) for c in columns),
        schema=source.schema_,
    )


def _query(source: SqlSource, database: Database, interval: DataInterval | None) -> sa.FromClause:
    assert source.query is not None
    text = source.query.strip().rstrip(";")
    bound = sa.text(text)
    for parameter, moment in (
        ("interval_start", interval.start if interval else None),
        ("interval_end", interval.end if interval else None),
    ):
        if parameter in bound._bindparams:
            aware = database.dialect in ("postgresql", "duckdb")
            value = moment if aware or moment is None else moment.replace(tzinfo=None)
            bound = bound.bindparams(sa.bindparam(parameter, value, sa.DateTime(timezone=aware)))
    with database.reading() as connection:
        probe = sa.select(sa.text("*")).select_from(bound.columns().subquery("q")).limit(0)
        result = connection.execute(probe)
        names = list(result.keys())
        described: Any = result.cursor.description if result.cursor else ()
    kinds = [type_of_oid(c[1]) for c in described] if database.dialect == "postgresql" else [None] * len(names)
    columns = (sa.column(sa.quoted_name(n, quote=True), kind) for n, kind in zip(names, kinds, strict=True))
    return bound.columns(*columns).subquery("q")


def _untyped(rows: sa.FromClause) -> sa.FromClause:
    if not isinstance(rows, sa.TableClause):
        return rows
    return sa.table(rows.name, *(sa.column(column.name) for column in rows.c), schema=rows.schema)


def _declared(rows: sa.FromClause) -> pa.Schema:
    pairs = ((column.name, declared_arrow_type(column.type)) for column in rows.c)
    return pa.schema([pa.field(str(name), kind) for name, kind in pairs if kind is not None])
