"""Find the rows of one key in the tables of a destination: its history, and the reasons of its scores."""

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from penstock.database.types import MAX_DIGITS, UtcDateTime
from penstock.errors import SettingsError
from penstock.interval import as_utc
from penstock.ledger.destinations import destination_name, split_name
from penstock.ledger.tables import runs
from penstock.privacy.key_forms import TypedValue, read_number
from penstock.privacy.row_key import RowKey
from penstock.run.history_table import reflect_history
from penstock.spec.pipeline import Pipeline
from penstock.wording import write_decimal

HISTORY, REASONS = "__history", "__reasons"


def row_tables(connection: sa.Connection, pipeline: Pipeline) -> list[sa.Table]:
    """Return the tables of rows and of reasons that runs of the pipeline wrote to and that have its key."""
    own = (pipeline.destination.table, destination_name(connection, pipeline.destination))
    columns = (runs.c.destination_table, runs.c.destination)
    written = connection.execute(sa.select(*columns).where(runs.c.pipeline == pipeline.name).distinct())
    named = [own, *map(tuple, written)]
    places = dict.fromkeys(
        (table + ending, split_name(name)[0]) for table, name in named for ending in (HISTORY, REASONS)
    )
    there = [place for place in places if sa.inspect(connection).has_table(place[0], schema=place[1])]
    found = (reflect_history(connection, *place) for place in there)
    return [table for table in found if all(column in table.c for column in pipeline.key)]


def find_texts(connection: sa.Connection, pipeline: Pipeline, row_key: RowKey) -> RowKey:
    """Return the key with its columns that are text wherever the pipeline's rows are stored. As it is before a load."""
    tables = row_tables(connection, pipeline)
    if not tables:
        return row_key
    are_text = (c for c in row_key.values if all(isinstance(t.c[c].type, sa.String) for t in tables))
    return replace(row_key, texts=frozenset(are_text))


def match_key(
    connection: sa.Connection, table: sa.FromClause, row_key: RowKey, *, own: bool = True
) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that a row has the typed key.

    Args:
        own: whether it is a table of Penstock, where a column without a type has exact numbers. Elsewhere it may be
            text.

    Raises:
        SettingsError: a value is not of its column's type.
    """
    return [_matches(connection, table.c[column], text, own=own) for column, text in row_key.values.items()]


def _matches(connection: sa.Connection, column: Any, text: str, *, own: bool) -> sa.ColumnElement[bool]:
    """Return the condition that a column has exactly a typed value.

    Raises:
        SettingsError: the text is not a value of the column's type, or the column is a float that has lost its digits.
    """
    kind, number = column.type, read_number(text)
    if isinstance(kind, sa.Float) and number is not None and Decimal(str(float(text))) != number:
        rounded = write_decimal(Decimal(str(float(text))))
        near = sa.select(sa.literal(1)).select_from(column.table).where(column == float(text)).limit(1)
        if connection.execute(near).first() is not None:
            raise SettingsError(
                f"`{column.table}` has `{column.name}` as floats, and its row {rounded} may be of `{text}` "
                "or of a neighbour",
                "Find out whose row it is and delete it there by hand, or write that number instead.",
            )
        return sa.false()
    if isinstance(kind, sa.Integer) and number is not None and not _is_int64(number):
        return sa.false()
    if isinstance(kind, sa.types.NullType) and number is None and not own:
        kind = sa.Text()
    if isinstance(kind, sa.types.NullType):  # exact numbers in SQLite: integers, and text beyond 64 bits
        exact = read_value(text, sa.Numeric())
        whole = exact == exact.to_integral_value() and _is_int64(exact)
        integer = [sa.type_coerce(column, sa.BigInteger) == int(exact)] if whole else []
        return sa.or_(*integer, sa.type_coerce(column, sa.Text).in_(with_zeros(text)))
    is_text = isinstance(kind, sa.String)
    values = TypedValue(text, is_text=True).canonical if is_text else [read_value(text, kind)]
    typed = sa.type_coerce(column, kind) if is_text else column
    same: sa.ColumnElement[bool] = typed.in_(values) if len(values) > 1 else typed == values[0]
    return same


def _is_int64(number: Decimal) -> bool:
    return -(2**63) <= number < 2**63


def with_zeros(text: str) -> list[str]:
    """Return the ways to write a typed number: it may have zeros at its end. A text that is no number has one."""
    number = read_number(text)
    if number is None or abs(number.adjusted()) > MAX_DIGITS:
        return [text]
    plain = write_decimal(number)
    point = plain if "." in plain else f"{plain}."
    zeros = range(1, MAX_DIGITS + 1 - len(point.partition(".")[2]))
    return list(dict.fromkeys([text, plain, *(f"{point}{'0' * count}" for count in zeros)]))


def read_value(text: str, kind: sa.types.TypeEngine[Any]) -> Any:
    """Read a typed key as a value of its column's type.

    Raises:
        SettingsError: the text is not a value of that type.
    """
    try:
        if isinstance(kind, sa.Boolean):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(kind, sa.Integer | sa.Numeric):
            return _read_number(text, kind)
        if isinstance(kind, sa.DateTime | sa.Date) and read_number(text) is not None:
            raise ValueError(text)
        if isinstance(kind, sa.DateTime | sa.Date):
            moment = as_utc(datetime.fromisoformat(text))
            return sa.literal(moment, UtcDateTime()) if isinstance(kind, sa.DateTime) else date.fromisoformat(text)
        return text
    except (ValueError, KeyError):
        raise SettingsError(
            f"`{text}` is not a value of type {type(kind).__name__.lower()}", "Write the key as the table shows it."
        ) from None


def _read_number(text: str, kind: sa.types.TypeEngine[Any]) -> int | float | Decimal:
    """Read a number with all its digits. Raise ValueError if the column's type cannot hold it."""
    number = read_number(text)
    if number is None and isinstance(kind, sa.Float):
        return float(text)  # infinite
    if number is None:
        raise ValueError(text)
    if isinstance(kind, sa.Float):
        return float(text)
    if isinstance(kind, sa.Integer):
        if number != number.to_integral_value():
            raise ValueError(text)
        return int(number)
    return number
