"""SQLite: a file with one writer at a time, whose columns take any value and whose times are texts or numbers."""

import re
import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from penstock.database.dialects.base import BUSY_SECONDS, Element, SqlDialect, Type
from penstock.database.dialects.files import make_folder


class _Untyped(sa.types.UserDefinedType[Any]):
    """A column of SQLite that stores each value as it comes. Any numeric type would change large numbers."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return ""


class SqliteDialect(SqlDialect):
    names = ("sqlite",)
    is_warehouse = is_tested = takes_merges = True
    is_file = one_writer = True
    modules = ("sqlite3",)
    # ADBC's driver contains a second SQLite library, and two of them in one process break each other's POSIX locks on a
    # file (https://www.sqlite.org/howtocorrupt.html, 2.2.1). So it reads in another process. See docs/adr/0032.
    bulk = "rows"
    reads_apart = True
    reads_one_at_a_time = True  # the driver releases Python's lock at every row
    values_as_declared = False
    time_types = "none"
    has_schemas = False
    mixes_types = True
    has_partial_indexes = True
    row_address = "_rowid_"

    collision_words = re.compile(r"UNIQUE constraint failed")
    full_words = re.compile(r"database or disk is full|No space left on device")
    locked_words = re.compile(r"database is locked")

    def is_passing(self, error: BaseException, reason: str) -> bool:
        # sqlite3 raises OperationalError for wrong SQL too
        mistake = isinstance(error, sqlite3.OperationalError) and not re.search(
            r"locked|disk|unable to open|I/O", reason
        )
        return super().is_passing(error, reason) and not mistake

    def make_engine(self, url: URL, statement_seconds: int) -> sa.Engine:
        if "timeout" not in url.query:
            url = url.update_query_dict({"timeout": str(BUSY_SECONDS)})
        engine = sa.create_engine(url, hide_parameters=True, poolclass=NullPool)
        sa.event.listen(engine, "do_connect", make_folder)
        sa.event.listen(engine, "connect", _connect)
        sa.event.listen(engine, "begin", _begin)
        return engine

    def original_names(self, names: Sequence[str]) -> list[str]:
        plain = {n.casefold() for n in names}
        renamed = {n: n.rpartition(":")[0] for n in names if re.search(r":\d+$", n)}
        return [renamed[n] if renamed.get(n, "").casefold() in plain else n for n in names]

    def without_time(self, time: Element) -> "sa.ColumnElement[bool]":
        return sa.func.nullif(sa.type_coerce(time, sa.Text()), "").is_(None)

    def exact_number(self, scale: int, precision: int | None) -> Type:
        return _Untyped()

    def bind_decimal(self, value: Decimal, *, key: bool) -> int | str:
        """Return a decimal as SQLite stores it exactly."""
        if value.as_tuple().exponent == 0 or (key and value == value.to_integral_value()):
            return int(value) if -(2**63) <= value < 2**63 else str(int(value))
        text = format(value, "f")
        return text.rstrip("0") if key else text

    def declared_types(self, table: sa.Table) -> "sa.Select[Any]":
        described = sa.func.pragma_table_info(table.name).table_valued("name", "type")
        return sa.select(described.c.name, described.c.type)

    def holds_double(self, kind: Type) -> bool:
        return isinstance(kind, sa.Float)

    def whole(self, name: str) -> str:
        return f"round({name})"

    def reads_back(self, name: str, scale: int) -> str:
        return f"cast(printf('%.{scale}f', {name}) as real) = {name}"

    def exact_type(self, kind: Type, dialect: sa.Dialect) -> str:
        return "TEXT"

    def convert_exact(self, name: str, compiled: str) -> str:
        return name

    def convert_float(self, name: str, scale: int, compiled: str, *, key: bool) -> str:
        whole = f"cast({name} as integer)"
        if scale == 0:
            return whole
        text = f"printf('%.{scale}f', {name})"
        if not key:
            return text
        return f"case when {name} = {whole} then {whole} else rtrim({text}, '0') end"


def _connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's "begin" event decides how a transaction starts


def _begin(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("penstock_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
