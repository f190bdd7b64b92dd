"""The columns of a table that scores are merged into, and whether they hold each value as it is."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import MergeRefused, nearest
from penstock.spec.deliver import MergeDelivery

Type = sa.types.TypeEngine[Any]


@dataclass(frozen=True)
class MergedTable:
    """A table of another system, with its columns that a merge reads and writes."""

    target: str
    connection: str
    table: sa.Table
    keys: dict[str, sa.Column[Any]]
    """By column of the pipeline's key."""
    values: dict[str, sa.Column[Any]]
    """By the table's column."""
    given: dict[str, str]
    """The delivered column by the table's column."""
    place: str
    """What the fences know the table by: one text, in whatever way a spec names the table."""

    @property
    def nothing(self) -> dict[sa.Column[Any], Any]:
        """NULL for each column that is set."""
        return {column: sa.null() for column in self.values.values()}

    def refused(self, reason: str, remedy: str) -> MergeRefused:
        return MergeRefused(self.target, self.table.fullname, reason, remedy)

    def check(self, rows: pa.Schema, database: Database) -> None:
        """Refuse columns that would not hold the values as they are.

        Raises:
            MergeRefused: one would not.
        """
        for name, column in self.keys.items():
            kind = rows.field(name).type
            if not _may_be_key(kind, column.type, database):
                reason = f"its column `{column.name}` is {column.type}, and `{name}` has {_describe(kind)}"
                raise self.refused(reason, "Match columns of the same type in `on`")
        for column in self.values.values():
            name = self.given[column.name]
            if name not in rows.names:
                reason = f"the scores have no column `{name}`, which is set in `{column.name}`"
                raise self.refused(reason, f"Correct `set`.{nearest(name, rows.names)}")
            kind = rows.field(name).type
            if not _holds(kind, column.type, database):
                reason = f"its column `{column.name}` is {column.type}, and `{name}` has {_describe(kind)}"
                remedy = f"Change the column's type, or convert `{name}` with an entry of `decide`, and set that"
                raise self.refused(reason, remedy)


def read_table(database: Database, spec: MergeDelivery) -> MergedTable:
    """Read the table's columns.

    Raises:
        DatabaseUnavailable: the database does not answer.
        MergeRefused: there is no table, it lacks a column, or a column that is set may not be NULL.
    """
    database.require_file()
    with database.reading() as connection:
        inspector = sa.inspect(connection)
        try:
            found = inspector.get_columns(spec.table, schema=spec.schema_)
        except sa.exc.NoSuchTableError:
            found = []
        if not found:
            names = (
                *inspector.get_table_names(schema=spec.schema_),
                *inspector.get_view_names(schema=spec.schema_),
            )
            named = spec.table if spec.schema_ is None else f"{spec.schema_}.{spec.table}"
            reason = f"connection `{database.name}` has no such table or view"
            remedy = f"Write `table` and `schema` as the database spells them.{nearest(spec.table, names)}"
            raise MergeRefused(spec.name, named, reason, remedy)
        place = f"{spec.schema_ or inspector.default_schema_name}.{spec.table}"
        plain = sa.Table(spec.table, sa.MetaData(), schema=spec.schema_)
        declared: Any = dict(connection.execute(database.sql.declared_types(plain)).tuples().all())
    columns = [_column(database, each, declared.get(each["name"]) or "") for each in found]
    schema = None if spec.schema_ is None else sa.quoted_name(spec.schema_, quote=True)
    table = sa.Table(sa.quoted_name(spec.table, quote=True), sa.MetaData(), *columns, schema=schema)
    return _choose(database, table, spec, place if database.sql.case_sensitive_tables else place.casefold())


def _column(database: Database, found: Any, declared: str) -> sa.Column[Any]:
    """Return a column of the table, with a type that says what the column holds."""
    name = sa.quoted_name(database.sql.reflected_name(found["name"]), quote=True)
    kind = database.sql.declared_type(database.sql.reflected(found["type"]), declared)
    return sa.Column(name, kind, nullable=found["nullable"])


def _choose(database: Database, table: sa.Table, spec: MergeDelivery, place: str) -> MergedTable:
    known = tuple(column.name for column in table.columns)
    for name in (*spec.matched, *spec.set):
        if name not in known:
            remedy = f"Correct `on` or `set`.{nearest(name, known)}"
            raise MergeRefused(spec.name, table.fullname, f"it has no column `{name}`", remedy)
    keys = {mine: table.c[theirs] for theirs, mine in spec.matched.items()}
    values = {theirs: table.c[theirs] for theirs in spec.set}
    chosen = MergedTable(spec.name, database.name, table, keys, values, dict(spec.set), place)
    for column in values.values():
        if not column.nullable:
            reason = f"its column `{column.name}` is NOT NULL, and a withdrawn score leaves NULL there"
            raise chosen.refused(reason, "Let the column be NULL")
    return chosen


def read_key(value: Any, kind: Type) -> Any:
    """Return a value of a key, from the outbox's JSON, as `key_type` is compared. None: no row can have it.

    The value is never rounded: a database that rounds `1.5` would find the row of `2`.
    """
    for family, given, convert in _READ_KEY:
        if isinstance(kind, family):
            try:
                return convert(value, kind) if isinstance(value, given) else None
            except (ValueError, InvalidOperation, Inexact):
                return None
    return None


def _whole(value: int, _kind: Any) -> int:
    """Return a whole number, if it has at most 64 bits.

    Raises:
        ValueError: it has more.
    """
    if not -(2**63) <= value < 2**63:
        raise ValueError("a number of more than 64 bits")
    return value


def _exact(value: str | int, kind: Any) -> Decimal:
    """Return a number with the digits that a column has, if none is lost.

    Raises:
        InvalidOperation, Inexact: the column has fewer digits, before or after the point, or it is a text.
    """
    number = Decimal(value)
    if kind.precision is None:
        return number
    column = Context(prec=kind.precision, traps=[Inexact, InvalidOperation])
    return column.quantize(number, Decimal(1).scaleb(-(kind.scale or 0)))


_READ_KEY: Sequence[tuple[Any, tuple[type, ...], Any]] = (
    (sa.Uuid, (str,), lambda value, _: str(uuid.UUID(value))),
    (sa.Integer, (int,), _whole),
    (sa.Float, (), None),
    (sa.Numeric, (str, int), _exact),
    (sa.String, (str,), lambda value, _: value),
    (sa.Date, (str,), lambda value, _: date.fromisoformat(value)),
)


def key_type(kind: Type, database: Database) -> Type:
    """Return the type that keys are compared as: one that holds keys too which no row of the table has."""
    if isinstance(kind, sa.Uuid):
        return sa.Uuid(as_uuid=False)
    if isinstance(kind, sa.String):
        return sa.Text(collation=kind.collation)
    if isinstance(kind, sa.Integer) or (_is_exact(kind) and not database.sql.values_as_declared):
        return sa.BigInteger()
    return kind


def read_value(value: Any, kind: Type) -> Any:
    """Return a value that is set, from the outbox's JSON, for a column.

    Raises:
        ValueError: it is of another type.
    """
    if value is None:
        return None
    for family, given, convert in _READ:
        if isinstance(kind, family):
            if not isinstance(value, given) or (isinstance(value, bool) and bool not in given):
                raise ValueError(f"a {type(value).__name__} for {kind}")
            try:
                return convert(value, kind)
            except (ValueError, OverflowError, InvalidOperation, Inexact):  # the error's text may quote the value
                raise ValueError(f"a value does not fit into {kind}") from None
    raise ValueError(f"a value for {kind}")


_READ: Sequence[tuple[Any, tuple[type, ...], Any]] = (
    (sa.Boolean, (bool,), lambda value, _: value),
    (sa.Integer, (int,), _whole),
    (sa.Float, (int, float), lambda value, _: float(value)),
    (sa.Numeric, (str, int), _exact),
    (sa.String, (str,), lambda value, _: value),
    (sa.DateTime, (str,), lambda value, _: datetime.fromisoformat(value)),
    (sa.Date, (str,), lambda value, _: date.fromisoformat(value)),
)


def _is_text(kind: Type) -> bool:
    return isinstance(kind, sa.String) and not isinstance(kind, sa.Enum)


def _is_exact(kind: Type) -> bool:
    return isinstance(kind, sa.Numeric) and not isinstance(kind, sa.Float)


def _may_be_key(given: pa.DataType, kind: Type, database: Database) -> bool:
    if pa.types.is_integer(given) or pa.types.is_decimal(given):
        whole = pa.types.is_integer(given) or given.scale <= 0
        return isinstance(kind, sa.Integer) or (_is_exact(kind) and (whole or database.sql.values_as_declared))
    if pa.types.is_string(given) or pa.types.is_large_string(given):
        return _is_text(kind) or isinstance(kind, sa.Uuid)
    return pa.types.is_date(given) and isinstance(kind, sa.Date)


def _holds(given: pa.DataType, kind: Type, database: Database) -> bool:
    """Whether a column holds each value of a type as it is, or refuses it."""
    if pa.types.is_null(given):
        return True
    if pa.types.is_boolean(given):
        return isinstance(kind, sa.Boolean) or database.sql.is_boolean(kind)
    if pa.types.is_integer(given):
        return isinstance(kind, sa.Integer) and not database.sql.is_boolean(kind)
    if pa.types.is_floating(given):
        return database.sql.holds_double(kind)
    if pa.types.is_decimal(given):
        exact = database.sql.values_as_declared and _is_exact(kind)
        return exact and (kind.scale is None or kind.scale >= given.scale)  # type: ignore[attr-defined]
    if pa.types.is_timestamp(given):
        return isinstance(kind, sa.DateTime) and kind.timezone and given.tz is not None
    if pa.types.is_date(given):
        return isinstance(kind, sa.Date)
    return (pa.types.is_string(given) or pa.types.is_large_string(given)) and _is_text(kind)


def _describe(given: pa.DataType) -> str:
    if pa.types.is_decimal(given):
        return f"exact numbers with {given.scale} digits after the point"
    for is_such, words in _WORDS:
        if is_such(given):
            return words
    return f"values of the type {given}"


_WORDS: Sequence[tuple[Any, str]] = (
    (pa.types.is_boolean, "true and false"),
    (pa.types.is_integer, "whole numbers of 64 bits"),
    (pa.types.is_floating, "floats of 64 bits"),
    (pa.types.is_timestamp, "times in UTC"),
    (pa.types.is_date, "dates"),
    (pa.types.is_string, "texts"),
    (pa.types.is_large_string, "texts"),
)
