"""DuckDB: a file that one process at a time can write, with Arrow in and out."""

import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL

from penstock.database.dialects.base import Element, Reading, SqlDialect, TableFacts, Type, as_text
from penstock.database.dialects.files import make_folder

_MAX_DIGITS = 38
_UNIQUE = sa.text(
    """
    select constraint_column_names from duckdb_constraints()
    where constraint_type in ('PRIMARY KEY', 'UNIQUE') and database_name = current_database()
      and table_name = :table and schema_name = coalesce(:schema, current_schema())
    """
)
_COLUMNS = sa.text(
    """
    select database_name, schema_name, table_name, column_name, column_index, data_type, is_nullable
    from duckdb_columns() where lower(table_name) = lower(:table) order by all
    """
)


class DuckdbDialect(SqlDialect):
    names = ("duckdb",)
    is_warehouse = is_tested = takes_merges = True
    is_file = one_process = True
    modules = ("duckdb", "_duckdb")
    bulk = "duckdb"
    compares_zones = True
    time_types = "named"
    has_infinite_times = True
    max_digits = _MAX_DIGITS
    replaces_views = True
    keys_history = False  # its index takes four fifths of a load, and the memory of all runs
    row_address = "rowid"

    collision_words = re.compile(r"Duplicate key")
    locked_words = re.compile(r"Could not set lock")

    def is_passing(self, error: BaseException, reason: str) -> bool:
        return bool(re.search(r"TransactionContext Error|Conflict", reason)) or super().is_passing(error, reason)

    def make_engine(self, url: URL, statement_seconds: int) -> sa.Engine:
        engine = sa.create_engine(url, hide_parameters=True)
        sa.event.listen(engine, "do_connect", make_folder)
        sa.event.listen(engine, "connect", _connect)
        return engine

    def cut_by(self, element: Element) -> Element:
        if isinstance(element.type, sa.Integer | sa.String):
            return self.orderable(element)
        return as_text(element)  # a bound of another type may not compare with the column as it is

    def time_step(self, time: Element, first: int, step: int) -> Element | None:
        seconds = sa.func.epoch(sa.cast(time, sa.TIMESTAMP(timezone=True)))
        return sa.cast(sa.func.floor((seconds - first) / step), sa.BigInteger)

    def read_table_facts(self, connection: sa.Connection, table: sa.TableClause, time: str) -> TableFacts | None:
        names = {"table": table.name, "schema": table.schema}
        unique = connection.execute(_UNIQUE, names).scalars()
        return TableFacts(has_time_index=True, unique=tuple(frozenset(columns) for columns in unique))

    def share_of_keys(self, key: Sequence[Element], number: int, shares: int) -> Element | None:
        return sa.func.hash(*key) % shares == number

    def describe_table(self, connection: sa.Connection, table: str) -> tuple[tuple[Any, ...], ...]:
        return tuple(tuple(row) for row in connection.execute(_COLUMNS, {"table": table}))

    def query_columns(self, query: str) -> str | None:
        return f"describe {query}"

    def time_type_name(self, reading: Reading, column: Element) -> str | None:
        with reading() as connection:
            described: Any = connection.execute(sa.select(column).limit(0)).cursor  # reflection hides nanoseconds
            return str(described.description[0][1]).upper()

    def exact_number(self, scale: int, precision: int | None) -> Type:
        return sa.Numeric(_MAX_DIGITS, scale)

    def declared_type(self, kind: Type, declared: str) -> Type:
        if declared.startswith("TIMESTAMP WITH TIME ZONE"):
            return sa.TIMESTAMP(timezone=True)
        return sa.Double() if declared.startswith("DOUBLE") else kind

    def schema_names(self, connection: sa.Connection) -> list[str]:
        # The inspector's names have the database in front, and those of other databases are among them.
        own = "select schema_name from information_schema.schemata where catalog_name = current_database()"
        return [str(name) for name in connection.exec_driver_sql(own).scalars()]

    def grouped_number(self, number: Element) -> Element:
        return sa.func.format("{:,}", number, type_=sa.Text)

    def reads_back(self, name: str, scale: int) -> str:
        written = f"try_cast(cast({name} as varchar) as decimal({_MAX_DIGITS}, {scale}))"
        return f"cast({written} as double) = {name}"

    def convert_float(self, name: str, scale: int, compiled: str, *, key: bool) -> str:
        return f"cast(cast({name} as varchar) as {compiled})"


def _connect(connection: Any, _record: Any) -> None:
    connection.execute("SET TimeZone='UTC'")
