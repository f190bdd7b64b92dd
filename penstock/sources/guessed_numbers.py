"""Undo DuckDB's guesses where they change keys and columns to keep: floats of text files, wide decimals, JSON values.

DuckDB reads numbers of unlike sizes as float64, decimals of more than 38 digits too, and a JSON column of mixed types
as JSON, where text has quotation marks.
"""

from collections.abc import Collection, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import sqlalchemy as sa

from penstock.database.types import MAX_DIGITS
from penstock.errors import InexactColumn
from penstock.spec.pipeline import FilesSource

_PAGE = 10_000
_ALWAYS_EXACT = 15
"""A float64 holds every number of so many digits."""


def exact_reader(
    connection: sa.Connection, source: FilesSource, files: str, reader: str, exact: Collection[str]
) -> tuple[str, dict[str, str]]:
    """Return a reader that loses no digit of the exact columns, and SQL expressions that replace columns.

    Args:
        files: the files as a SQL list.
        reader: the SQL expression that reads them.

    Raises:
        InexactColumn: a Parquet file has a decimal of more than 38 digits, which DuckDB would round.
    """
    if source.format == "parquet":
        _refuse_wide_decimals(connection, files, exact)
        return reader, {}
    kinds = {str(row[0]): str(row[1]) for row in connection.exec_driver_sql(f"describe select * from {reader}")}  # noqa: S608 # paths, quoted
    replaced = {name: f"{_quoted(name)} ->> '$'" for name, kind in kinds.items() if kind == "JSON"}
    for name in [name for name in kinds if name in exact and kinds[name] == "DOUBLE"]:
        changed = _read_as_text(source, reader, kinds, name)
        text = f"{_quoted(name)} ->> '$'" if source.format == "json" else _quoted(name)
        numbers = f"(select {text} as t from {changed})"  # noqa: S608 # paths, quoted
        if _loses_digits(connection, numbers):
            reader, kinds[name] = changed, "JSON" if source.format == "json" else "VARCHAR"
            replaced[name] = _as_decimal(connection, numbers, text)
    return reader, replaced


def _refuse_wide_decimals(connection: sa.Connection, files: str, exact: Collection[str]) -> None:
    wide = f"select distinct name from parquet_schema({files}) where precision > {MAX_DIGITS} order by name"  # noqa: S608 # paths, quoted
    for name in connection.exec_driver_sql(wide).scalars():
        if name in exact:
            raise InexactColumn(name, f"is a decimal of more than {MAX_DIGITS} digits, which DuckDB rounds")


def _read_as_text(source: FilesSource, reader: str, kinds: Mapping[str, str], name: str) -> str:
    """Return the reader, reading a column as it is written."""
    whole = reader.removesuffix(")")
    if source.format == "json":
        known = {column: kind for column, kind in kinds.items() if column != "_file"} | {name: "JSON"}
        listed = ", ".join(f"{_text(column)}: {_text(kind)}" for column, kind in known.items())
        return f"{whole.partition(', columns={')[0]}, columns={{{listed}}})"
    before, mark, types = whole.rpartition(", types={")
    given = f"{_text(name)}: 'VARCHAR'"
    if not mark:
        return f"{whole}, types={{{given}}})"
    others = types.replace(f"{_text(name)}: 'DOUBLE'", given)
    return f"{before}{mark}{others})" if given in others else f"{before}{mark}{given}, {types})"


def _loses_digits(connection: sa.Connection, numbers: str) -> bool:
    """Whether a number is another one as float64."""
    digits = "length(regexp_replace(regexp_replace(t, '[eE].*$', ''), '[^0-9]', '', 'g'))"
    changed = "cast(try_cast(t as double) as varchar) is distinct from t"
    asked = f"select distinct t from {numbers} where {digits} > {_ALWAYS_EXACT} and {changed}"  # noqa: S608 # paths, quoted
    found = connection.exec_driver_sql(asked)
    while page := found.fetchmany(_PAGE):
        if any(_is_rounded(text) for (text,) in page):
            return True
    return False


def _is_rounded(text: str) -> bool:
    try:
        return Decimal(text) != Decimal(repr(float(text)))
    except (InvalidOperation, ValueError):
        return False


def _as_decimal(connection: sa.Connection, numbers: str, text: str) -> str:
    """Return the SQL expression of the column as a decimal, or as text if it is too wide or has exponents."""
    scale = r"max(length(rtrim(regexp_extract(t, '\.([0-9]*)', 1), '0')))"
    whole = "max(length(regexp_extract(t, '^[-+]?0*([0-9]*)', 1)))"
    asked = f"select {scale}, {whole}, bool_or(regexp_matches(t, '[eE]')) from {numbers} where t is not null"  # noqa: S608 # paths, quoted
    shape: Any = connection.exec_driver_sql(asked).one()
    if shape[2] or shape[0] + shape[1] > MAX_DIGITS:
        return text
    return f"cast({text} as decimal({MAX_DIGITS}, {shape[0]}))"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
