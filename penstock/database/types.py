"""The few types of rows, in Arrow and in SQL, and the conversions between them."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute
import sqlalchemy as sa

from penstock.database.dialects import find_dialect

compute: Any = pyarrow.compute
"""Arrow's compute functions, untyped, because the stubs lack some overloads."""

TIMESTAMP = pa.timestamp("us", "UTC")
MAX_DIGITS = 38
"""The most digits of a decimal in Arrow's 128 bits and in DuckDB."""
LARGEST_EXACT = 2**53
"""Every whole number up to this one is a float64."""
_INT64_DIGITS = 18
EPOCH_MILLISECONDS = 100_000_000_000
"""Epoch numbers above this are milliseconds. As seconds it would be the year 5138."""
EpochUnit = Literal["seconds", "milliseconds", "microseconds", "nanoseconds"]
EPOCH_UNITS: dict[EpochUnit, int] = {
    "seconds": 1,
    "milliseconds": 1000,
    "microseconds": 1_000_000,
    "nanoseconds": 1_000_000_000,
}
"""Units of epoch numbers, and how many there are in a second."""


def epoch_unit(number: float) -> EpochUnit:
    """Return the unit of an epoch number. Each unit covers the years 1973 to 5138."""
    thousands = (unit for unit, scale in EPOCH_UNITS.items() if number <= EPOCH_MILLISECONDS * scale)
    return next(thousands, "nanoseconds")


class UtcDateTime(sa.TypeDecorator[datetime]):
    """An aware datetime in UTC, stored with its zone if the database has such a type."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        utc = value.astimezone(UTC)
        return utc if find_dialect(dialect.name).writes_zones else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class ExactNumber(sa.types.TypeDecorator[Any]):
    """A decimal, stored exactly.

    `NUMERIC` on Postgres, `DECIMAL(38, scale)` on DuckDB. SQLite has no such type: there a whole number is an INTEGER
    if it fits into 64 bits, and any other decimal is TEXT.

    Args:
        scale: Digits after the point.
        precision: Digits in all, where the database limits them. None: no limit.
        key: Whether equal numbers must be stored alike on SQLite, whatever their digits after the point.
    """

    impl = sa.Numeric
    cache_ok = True

    def __init__(self, scale: int = 0, precision: int | None = None, *, key: bool = False) -> None:
        super().__init__()
        self.scale, self.precision, self.key = scale, precision, key

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return find_dialect(dialect.name).exact_number(self.scale, self.precision)

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        return find_dialect(dialect.name).bind_decimal(value, key=self.key) if isinstance(value, Decimal) else value


def arrow_type(kind: sa.types.TypeEngine[Any]) -> pa.DataType:
    """Return the exact Arrow type of a column of Penstock's own tables, as binary COPY needs it."""
    if isinstance(kind, UtcDateTime):
        return TIMESTAMP
    if isinstance(kind, ExactNumber):
        return pa.decimal128(kind.precision or MAX_DIGITS, kind.scale)
    for sql, arrow in (
        (sa.Boolean, pa.bool_()),
        (sa.BigInteger, pa.int64()),
        (sa.Integer, pa.int32()),
        (sa.Double, pa.float64()),
        (sa.Date, pa.date32()),
        (sa.DateTime, TIMESTAMP),
    ):
        if isinstance(kind, sql):
            return arrow
    return pa.string()


def sql_type(kind: pa.DataType, *, key: bool = False) -> sa.types.TypeEngine[Any]:
    """Return the SQL type of a column of Penstock's own tables for these values."""
    if pa.types.is_boolean(kind):
        return sa.Boolean()
    if pa.types.is_integer(kind):
        return sa.BigInteger()
    if pa.types.is_floating(kind):
        return sa.Double()
    if pa.types.is_decimal(kind):
        return (
            sa.BigInteger() if kind.scale == 0 and kind.precision <= _INT64_DIGITS else ExactNumber(kind.scale, key=key)
        )
    if pa.types.is_date(kind):
        return sa.Date()
    return UtcDateTime() if pa.types.is_timestamp(kind) else sa.Text()


def stored_type(kind: sa.types.TypeEngine[Any], dialect: str, *, key: bool = False) -> sa.types.TypeEngine[Any]:
    """Return the type of a reflected column of Penstock's own tables."""
    if not find_dialect(dialect).values_as_declared and isinstance(kind, sa.types.NullType):
        return ExactNumber(key=key)
    if isinstance(kind, sa.Numeric) and not isinstance(kind, sa.Float):
        return ExactNumber(kind.scale or 0, kind.precision, key=key)
    return sql_type(declared_arrow_type(kind) or pa.string())


def declared_arrow_type(kind: sa.types.TypeEngine[Any]) -> pa.DataType | None:
    """Return the Arrow type that a reflected column declares, or None if the values show it better."""
    if isinstance(kind, sa.Boolean):
        return pa.bool_()
    if isinstance(kind, sa.DateTime):
        return TIMESTAMP
    if isinstance(kind, sa.Date):
        return pa.date32()
    if isinstance(kind, sa.Integer):
        return pa.int64()
    if isinstance(kind, sa.Float):
        return pa.float64()
    if isinstance(kind, sa.Numeric):
        whole = kind.precision is not None and not kind.scale and kind.precision <= MAX_DIGITS
        return pa.decimal128(kind.precision or MAX_DIGITS) if whole else pa.float64()
    return pa.string() if isinstance(kind, sa.String) else None
