"""Which columns of Postgres arrive as what they are; the others are read as the text that Postgres itself writes.

The bulk reader hands out a type that it does not know (a network address, a range) in Postgres's own binary form, and
others without what makes them: an amount of money in cents, an array of arrays flat.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

_ARRIVING = (sa.Boolean, sa.Integer, sa.Numeric, sa.String, sa.Date, sa.DateTime, sa.Uuid, sa.JSON)
_ORDERED = (sa.Integer, sa.Numeric, sa.String, sa.Date, sa.DateTime)
_BY_OID: dict[int, type[sa.types.TypeEngine[Any]]] = {
    16: sa.Boolean,
    18: sa.Text,
    19: sa.Text,
    20: sa.BigInteger,
    21: sa.SmallInteger,
    23: sa.Integer,
    25: sa.Text,
    26: pg.OID,
    114: sa.JSON,
    700: sa.REAL,
    701: sa.Double,
    790: pg.MONEY,
    1042: sa.Text,
    1043: sa.Text,
    1082: sa.Date,
    1114: sa.DateTime,
    1184: pg.TIMESTAMP,
    1700: sa.Numeric,
    2950: sa.Uuid,
    3802: sa.JSON,
}
"""Numbers that Postgres gives its own types for ever; of a domain it tells the type below."""


def type_of_oid(oid: int) -> sa.types.TypeEngine[Any]:
    """Return the type of a column of a query, as far as it matters here."""
    return _BY_OID.get(oid, sa.types.NullType)()


def base_type(kind: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    """Return what a domain is made of; other types are what they are."""
    while isinstance(kind, pg.DOMAIN):
        kind = kind.data_type
    return kind


def readable(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return what to select for a column."""
    name = sa.quoted_name(str(getattr(column, "name", "")), quote=True)
    if isinstance(column.type, pg.MONEY):
        return sa.cast(column, sa.Numeric).label(name)
    if isinstance(column.type, pg.OID):
        return sa.cast(column, sa.BigInteger).label(name)
    return column if isinstance(column.type, _ARRIVING) else sa.cast(column, sa.Text).label(name)


def is_ordered(kind: sa.types.TypeEngine[Any]) -> bool:
    """Whether values can be compared as they are with one that was written down."""
    return isinstance(kind, _ORDERED) and not isinstance(kind, sa.Enum)
