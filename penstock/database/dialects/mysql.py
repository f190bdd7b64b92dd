"""MariaDB and MySQL: servers to read from. Each connection sees a moment of its own.

Their texts compare by a collation that may ignore case, accents and trailing blanks, their ENUM columns sort by number,
and their FLOAT columns print six digits. So columns are compared and read by expressions that are exact.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import URL

from penstock.database.dialects import base
from penstock.database.dialects.base import BUSY_SECONDS, Element, SqlDialect, Type, as_text

UNSIGNED, ENUM, SET = 32, 256, 2048
"""Flags of a column in a result (`include/mysql_com.h`)."""
BINARY = 63
"""The character set of bytes."""
_WHOLE, _DECIMAL, _BYTES = (1, 2, 3, 9, 13), (0, 246), (249, 250, 251, 252, 253, 254)
_LONG, _FLOAT, _DOUBLE, _BIT, _TIME, _DATE, _JSON = 8, 4, 5, 16, 11, 10, 245
_TIMESTAMPS = (7, 12)
_ARROW_DIGITS = 38
_NUMERIC: Any = pa.opaque(pa.string(), "numeric", "Penstock")
_MINUS_INFINITY = {pa.timestamp("us"): -(2**63) + 1, pa.date32(): -(2**31) + 1}
"""Stands for a date that no calendar has, such as `0000-00-00`: the number that DuckDB reads as minus infinity."""


class MysqlDialect(SqlDialect):
    names = ("mariadb", "mysql")
    title = "MariaDB or MySQL"
    is_tested = True
    driver = "pymysql"
    only_driver = True  # `describe` and `as_array` read its results
    extra = "mysql"
    modules = ("pymysql",)
    changes_between_reads = True
    takes_driver_values = True
    time_types = "named"

    collision_codes = ("1062",)
    denied_codes = ("1044", "1045", "1049", "1142", "1143", "1227", "1370", "1698", "2059", "3118")
    full_codes = ("1021", "1114")
    locked_codes = ("1205",)
    transient_codes = (
        *("1205", "1213", "1412", "1020", "3572"),  # locks, deadlocks, a table or a row that changed meanwhile
        *("1040", "1203", "1226"),  # too many connections
        *("1021", "1114"),  # no space
        *("1053", "1152", "1153", "1158", "1159", "1160", "1161", "1184", "1317", "1927", "1969", "3024", "4031"),
        *("2002", "2003", "2006", "2013", "2014", "2055"),  # no connection, or a lost one
    )

    def identify(self, connection: sa.Connection) -> str | None:
        return str(connection.execute(sa.text("select concat(@@hostname, ' ', @@port, '/', database())")).scalar_one())

    def error_code(self, error: BaseException) -> str:
        first = error.args[0] if error.args else None
        return str(first) if isinstance(first, int) and first else ""  # 0 is PyMySQL's for a closed connection

    def error_text(self, error: BaseException) -> str:
        code = self.error_code(error)
        return f"{error.args[1]} ({code})" if code and len(error.args) > 1 else str(error)

    def make_engine(self, url: URL, statement_seconds: int) -> sa.Engine:
        answer_seconds = statement_seconds + base.ANSWER_SECONDS
        defaults = {"charset": "utf8mb4", "connect_timeout": "10", "read_timeout": str(answer_seconds)}
        engine = sa.create_engine(
            url.update_query_dict({k: v for k, v in defaults.items() if k not in url.query}),
            hide_parameters=True,
            pool_pre_ping=True,
            isolation_level="REPEATABLE READ",
            execution_options={"penstock_answer_seconds": answer_seconds},
        )

        def set_up(connection: Any, _record: Any) -> None:
            with connection.cursor() as cursor:
                cursor.execute("select version()")
                is_mariadb = "mariadb" in str(cursor.fetchone()[0]).lower()
                limit = f"max_statement_time = {statement_seconds}"
                if not is_mariadb:
                    limit = f"max_execution_time = {statement_seconds * 1000}"
                waits = f"lock_wait_timeout = {BUSY_SECONDS}, innodb_lock_wait_timeout = {BUSY_SECONDS}"
                cursor.execute(f"set session time_zone = '+00:00', {limit}, {waits}")

        sa.event.listen(engine, "connect", set_up)
        return engine

    def reflected_name(self, name: str) -> str:
        return name.replace("``", "`")  # SQLAlchemy 2.0 leaves it as `SHOW CREATE TABLE` quotes it

    def describe(self, cursor: Any, names: Sequence[str]) -> list[Type | None]:
        fields = getattr(getattr(cursor, "_result", None), "fields", ())  # PyMySQL's description has no flags
        if len(fields) != len(names):
            return [None] * len(names)
        return [_type_of(each.type_code, each.flags, each.charsetnr, each.length, each.scale) for each in fields]

    def readable(self, column: Element) -> Element:
        name = sa.quoted_name(str(getattr(column, "name", "")), quote=True)
        kind = column.type
        if isinstance(kind, mysql.BIT):
            return _number_of_bits(column).label(name)
        if _is_single(kind):
            return _as_double(column).label(name)
        return as_text(column).label(name) if isinstance(kind, sa.Time) else column

    def orderable(self, element: Element) -> Element:
        kind = element.type
        if isinstance(kind, mysql.BIT):
            return _number_of_bits(element)
        if _is_single(kind):
            return _as_double(element)
        if isinstance(kind, sa.types._Binary):
            return sa.func.hex(element, type_=sa.Text)
        plain = isinstance(kind, sa.Integer | sa.Numeric | sa.String | sa.Date | sa.DateTime | mysql.YEAR)
        return element if plain and not isinstance(kind, sa.Enum | mysql.SET) else as_text(element)

    def extreme(self, function: Callable[[Element], Element], element: Element) -> Element:
        kind = element.type
        if isinstance(kind, sa.Date | sa.DateTime):
            return as_text(function(element))  # Python has no `0000-00-00`
        # Of `a` and `A`, which may be equal in the database, either could be the smallest.
        is_text = isinstance(kind, sa.String) and not isinstance(kind, sa.Enum | mysql.SET)
        return function(sa.func.hex(element, type_=sa.Text)) if is_text else super().extreme(function, element)

    def sum_of_changes(self, changed: Element) -> Element | None:
        return sa.func.sum(sa.func.crc32(as_text(changed)))

    def time_step(self, time: Element, first: int, step: int) -> Element | None:
        start: Element = sa.literal_column(f"timestamp'{datetime.fromtimestamp(first, UTC):%Y-%m-%d %H:%M:%S}'")
        seconds = sa.func.timestampdiff(sa.text("second"), start, time, type_=sa.BigInteger)
        return seconds.op("div")(sa.literal_column(str(step)))

    def without_time(self, time: Element) -> "sa.ColumnElement[bool]":
        first: Element = sa.literal_column("timestamp'0001-01-01 00:00:00'")
        return sa.or_(time.is_(None), sa.type_coerce(time, sa.DateTime()) < first)

    def as_time(self, column: str, *, is_number: bool) -> str:
        return f"from_unixtime({column})" if is_number else f"cast({column} as datetime)"

    def as_array(self, values: Sequence[Any], kind: Type | None) -> "pa.Array[Any] | None":
        if isinstance(kind, mysql.BIGINT) and kind.unsigned:
            return pa.array([None if v is None else Decimal(v) for v in values], pa.decimal128(20, 0))
        if isinstance(kind, sa.Integer):
            return pa.array(values, pa.int64())
        if isinstance(kind, sa.Float):
            return pa.array(values, pa.float64())
        if isinstance(kind, sa.Numeric):
            if (kind.precision or 0) <= _ARROW_DIGITS:
                return pa.array(values, pa.decimal128(kind.precision or 1, kind.scale or 0))
            # up to 65 digits, so they come as numbers written as text
            texts = pa.array([None if v is None else format(v, "f") for v in values], pa.string())
            return pa.ExtensionArray.from_storage(_NUMERIC, texts)
        if isinstance(kind, sa.DateTime):
            return _as_times(values, pa.timestamp("us"))
        if isinstance(kind, sa.Date):
            return _as_times(values, pa.date32())
        if isinstance(kind, sa.types._Binary):
            return pa.array(values, pa.binary())
        return pa.array(values, pa.string()) if isinstance(kind, sa.String) else None


def _type_of(code: int, flags: int, charset: int, length: int, scale: int) -> Type | None:
    """Return the type of a result's column."""
    if flags & (ENUM | SET):
        return mysql.SET() if flags & SET else mysql.ENUM()
    if code == _LONG:
        return mysql.BIGINT(unsigned=True) if flags & UNSIGNED else sa.BigInteger()
    if code in _WHOLE:
        return sa.Integer()
    if code in _DECIMAL:
        digits = length - (scale > 0) - (not flags & UNSIGNED)  # the length counts the point and the sign
        return mysql.DECIMAL(max(digits, 1), scale)
    if code in _TIMESTAMPS:
        return sa.DateTime()
    if code in _BYTES:
        return sa.LargeBinary() if charset == BINARY else sa.Text()
    others: dict[int, Type] = {
        _FLOAT: mysql.FLOAT(),
        _DOUBLE: sa.Double(),
        _BIT: mysql.BIT(length),
        _TIME: sa.Time(),
        _DATE: sa.Date(),
        _JSON: sa.Text(),
    }
    return others.get(code)


def _number_of_bits(column: Element) -> Element:
    length = getattr(column.type, "length", None) or 1
    kind = mysql.BIGINT(unsigned=True) if length > 63 else sa.BigInteger()
    return sa.type_coerce(sa.cast(column, mysql.INTEGER(unsigned=length > 63)), kind)


def _is_single(kind: Type) -> bool:
    return isinstance(kind, sa.Float) and not isinstance(kind, sa.Double)


def _as_double(column: Element) -> Element:
    """Return a float32 as the float64 that it is. The server writes a float32 with six digits."""
    return sa.type_coerce(column.op("+")(sa.literal_column("0e0")), sa.Double())


def _as_times(values: Sequence[Any], kind: pa.DataType) -> "pa.Array[Any]":
    """Return dates or times. The driver gives one that no calendar has as text."""
    if not any(isinstance(value, str) for value in values):
        return pa.array(values, kind)
    epoch, unit = (date(1970, 1, 1), timedelta(days=1))
    if pa.types.is_timestamp(kind):
        epoch, unit = datetime(1970, 1, 1), timedelta(microseconds=1)  # noqa: DTZ001 # the server's times are in UTC
    numbers = [
        None if v is None else _MINUS_INFINITY[kind] if isinstance(v, str) else (v - epoch) // unit for v in values
    ]
    counted = pa.int64() if pa.types.is_timestamp(kind) else pa.int32()
    return pa.array(numbers, counted).view(kind)
