"""Change the type of history columns, if every stored value survives it.

A column that has shown no value takes any type. Versions before 0.2 stored exact numbers as DOUBLE: such a column
becomes exact if no stored value has lost a digit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from penstock.database.dialects import SqlDialect, dialect_of, find_dialect
from penstock.database.types import LARGEST_EXACT, ExactNumber

_FLOAT_DIGITS = 15
"""Every decimal of so many digits can be read back from its float64."""
_REBUILT = "__rebuilt"
Kind = sa.types.TypeEngine[Any]


@dataclass(frozen=True)
class Retype:
    """One column's type, as it is and as rows need it."""

    column: str
    stored: Kind
    wanted: Kind


def wider_type(stored: Kind, given: Kind, *, key: bool) -> Kind | None:
    """Return the type that holds the stored values and the given ones. None if they have no type in common."""
    if isinstance(given, ExactNumber) and isinstance(stored, sa.Double | sa.BigInteger | ExactNumber):
        scale = max(given.scale, stored.scale) if isinstance(stored, ExactNumber) else given.scale
        return ExactNumber(scale, key=key)
    if isinstance(given, sa.BigInteger) and isinstance(stored, sa.Double):
        return given
    # Whole numbers in one file and fractions in the next are the same column. A key keeps its type.
    return given if isinstance(given, sa.Double) and isinstance(stored, sa.BigInteger) and not key else None


def has_value(connection: sa.Connection, table: sa.Table, column: str) -> bool:
    """Whether a stored row has a value in the column."""
    element = table.c[column]
    return connection.execute(sa.select(sa.literal(1)).where(element.is_not(None)).limit(1)).first() is not None


def is_exact(connection: sa.Connection, table: sa.Table, change: Retype) -> bool:
    """Whether every stored value of the column is the same after the change of its type."""
    name = connection.dialect.identifier_preparer.quote(change.column)
    return _all(connection, table, name, _survives(dialect_of(connection), name, change))


def drops_fractions(connection: sa.Connection, table: sa.Table, change: Retype) -> bool:
    """Whether stored floats have fractions, and the new type has none: then it is another kind of column."""
    if not isinstance(change.stored, sa.Double) or isinstance(change.wanted, sa.Double) or _scale(change.wanted):
        return False
    name = connection.dialect.identifier_preparer.quote(change.column)
    return not _all(connection, table, name, f"{name} = {dialect_of(connection).whole(name)}")


def _all(connection: sa.Connection, table: sa.Table, name: str, condition: str) -> bool:
    """Whether a SQL condition is true for every value of a column."""
    failing = sa.text(f"{name} is not null and not ({condition})")
    return connection.execute(sa.select(sa.literal(1)).select_from(table).where(failing).limit(1)).first() is None


def retype_statements(
    dialect: sa.Dialect, table: sa.Table, changes: Sequence[Retype], views: Sequence[str], valued: Mapping[str, bool]
) -> list[str]:
    """Return the statements that change the types. They drop the views, which the next load makes again.

    Args:
        table: the history table with all its columns, as stored.
        views: the views on it, in the order in which they can be dropped.
        valued: by column, whether it has a value.
    """
    preparer = dialect.identifier_preparer
    dropped = [f"DROP VIEW IF EXISTS {preparer.format_table(sa.table(v, schema=table.schema))}" for v in views]
    wanted = {change.column: change.wanted for change in changes}
    converted = {
        change.column: _conversion(dialect, preparer.quote(change.column), change)
        if valued[change.column]
        else f"cast(null as {_compiled(change.wanted, dialect)})"
        for change in changes
    }
    full = preparer.format_table(table)
    if find_dialect(dialect.name).alters_types:
        altered = ", ".join(
            f"ALTER COLUMN {preparer.quote(name)} TYPE {_compiled(kind, dialect)} USING {converted[name]}"
            for name, kind in wanted.items()
        )
        return [*dropped, f"ALTER TABLE {full} {altered}"]
    rebuilt = sa.Table(
        f"{table.name}{_REBUILT}",
        sa.MetaData(),
        *(_column(c, wanted.get(c.name, c.type)) for c in table.columns),
        history_key(*(c.name for c in table.primary_key.columns)),
        schema=table.schema,
    )
    created = " ".join(str(CreateTable(rebuilt).compile(dialect=dialect)).split())
    names = ", ".join(preparer.quote(c.name) for c in table.columns)
    values = ", ".join(converted.get(c.name, preparer.quote(c.name)) for c in table.columns)
    new = preparer.format_table(rebuilt)
    return [
        *dropped,
        created,
        f"INSERT INTO {new} ({names}) SELECT {values} FROM {full}",  # noqa: S608 # names, quoted
        f"DROP TABLE {full}",
        f"ALTER TABLE {new} RENAME TO {preparer.quote(table.name)}",
    ]


def history_key(*columns: str) -> sa.PrimaryKeyConstraint:
    """Return the key of a history table. A database with `keys_history` false creates the table without it."""
    return sa.PrimaryKeyConstraint(*columns).ddl_if(callable_=_is_keyed)


def _is_keyed(*_ddl: object, dialect: sa.Dialect, **_context: object) -> bool:
    return find_dialect(dialect.name).keys_history


def _column(column: "sa.Column[Any]", kind: Kind) -> "sa.Column[Any]":
    name = sa.quoted_name(column.name, quote=True)
    return sa.Column(name, kind, nullable=column.nullable, autoincrement=False)


def _compiled(kind: Kind, dialect: sa.Dialect) -> str:
    if isinstance(kind, ExactNumber):
        return find_dialect(dialect.name).exact_type(kind, dialect)
    return kind.compile(dialect)


def _survives(dialect: SqlDialect, name: str, change: Retype) -> str:
    """Return the SQL condition under which a stored value is the same after the change."""
    stored, wanted = change.stored, change.wanted
    scale = _scale(wanted)
    if isinstance(stored, sa.BigInteger) and isinstance(wanted, sa.Double):
        return f"abs({name}) <= {LARGEST_EXACT}"
    if isinstance(stored, sa.BigInteger | ExactNumber):
        return "1 = 1" if dialect.max_digits is None else f"abs({name}) < 1e{dialect.max_digits - scale}"
    if scale == 0:
        return f"abs({name}) < {LARGEST_EXACT} and {name} = {dialect.whole(name)}"
    return f"abs({name}) < 1e{_FLOAT_DIGITS - scale} and {dialect.reads_back(name, scale)}"


def _conversion(dialect: sa.Dialect, name: str, change: Retype) -> str:
    """Return the SQL expression of a stored value in its new type, rounded where it must be."""
    wanted, known = change.wanted, find_dialect(dialect.name)
    compiled = wanted.compile(dialect)
    if not isinstance(wanted, ExactNumber):
        return f"cast({name} as {compiled})"
    if not isinstance(change.stored, sa.Double):
        return known.convert_exact(name, compiled)
    return known.convert_float(name, wanted.scale, compiled, key=wanted.key)


def _scale(kind: Kind) -> int:
    return kind.scale if isinstance(kind, ExactNumber) else 0
