"""Choose which Postgres columns are read as they are, and which as the text that Postgres writes.

The bulk reader returns unknown types (a network address, a range) in Postgres's binary form. It loses part of others:
money comes in cents, an array of arrays comes flat.
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
"""Postgres's fixed numbers of its own types. For a domain it reports the base type."""


def type_of_oid(oid: int) -> sa.types.TypeEngine[Any]:
    """Return the type of a query's column, if it matters here."""
    return _BY_OID.get(oid, sa.types.NullType)()


def base_type(kind: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    """Return the base type of a domain, and other types unchanged."""
    while isinstance(kind, pg.DOMAIN):
        kind = kind.data_type
    return kind


def readable(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return the expression to select for a column."""
    name = sa.quoted_name(str(getattr(column, "name", "")), quote=True)
    if isinstance(column.type, pg.MONEY):
        return sa.cast(column, sa.Numeric).label(name)
    if isinstance(column.type, pg.OID):
        return sa.cast(column, sa.BigInteger).label(name)
    kind = column.type.impl if isinstance(column.type, sa.TypeDecorator) else column.type
    return column if isinstance(kind, _ARRIVING) else sa.cast(column, sa.Text).label(name)


def is_ordered(kind: sa.types.TypeEngine[Any]) -> bool:
    """Whether values can be compared directly with one that was stored as text."""
    return isinstance(kind, _ORDERED) and not isinstance(kind, sa.Enum)
