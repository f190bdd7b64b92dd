"""Choose how a column of numbers is stored, so that no whole number loses a digit. Judged on all rows.

DuckDB alone would store twenty-digit ids as float64, where neighbours become equal and join wrongly.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any

import sqlalchemy as sa

from penstock.database.types import MAX_DIGITS
from penstock.sources.column_types import quoted
from penstock.sources.text.dialect import Dialect

TEXT, WHOLE, FLOAT = "VARCHAR", "BIGINT", "DOUBLE"
_PAGE = 10_000
_SAMPLE = 2_000
"""Rows that are looked at first. One fraction among them makes a column a float."""
_COLUMNS_AT_ONCE = 50
_ALWAYS_EXACT = 15
"""A float64 holds every number of so many digits."""


def plain_number(raw: str, dialect: Dialect) -> str:
    """Return the SQL of a number's text with a decimal point and without marks between thousands.

    A text in which the marks are at other places stays as it is, so that it fits no number.
    """
    decimal, thousands = dialect.decimal, dialect.thousands
    if decimal == "." and not thousands:
        return raw
    point, mark = re.escape(decimal), re.escape(thousands)
    groups = f"[0-9]{{1,3}}({mark}[0-9]{{3}})+|[0-9]*" if thousands else "[0-9]*"
    pattern = f"[+-]?({groups})({point}[0-9]*)?([eE][+-]?[0-9]+)?"
    text = f"replace(trim({raw}), {quoted(thousands)}, '')" if thousands else f"trim({raw})"
    plain = f"replace({text}, {quoted(decimal)}, '.')"
    return f"case when regexp_full_match(trim({raw}), {quoted(pattern)}) then {plain} else 'no number: ' || {raw} end"


def choose_storage(
    connection: sa.Connection, rows: str, texts: Mapping[str, str], exact: Collection[str]
) -> dict[str, str]:
    """Return the SQL type of each column of numbers: BIGINT, DECIMAL, DOUBLE or, for wider numbers, VARCHAR.

    Args:
        rows: the SQL of rows in which every value of the columns is a number.
        texts: by column, the SQL of its numbers as text.
        exact: keys and columns to keep. A fraction of theirs must not lose a digit either.
    """
    sample = f"(select * from {rows} limit {_SAMPLE})"  # noqa: S608 # names, quoted
    seen = _measure(connection, sample, {name: [_fractions(f"trim({text})")] for name, text in texts.items()})
    chosen = {name: FLOAT for name, [fractions] in seen.items() if fractions and name not in exact}
    asked = {name: _measures(f"trim({text})") for name, text in texts.items() if name not in chosen}
    for name, (fractions, whole, scale, wide) in _measure(connection, rows, asked).items():
        if not fractions:
            chosen[name] = _whole_type(int(whole or 0), wide)
        elif name in exact and _loses_digits(connection, rows, f"trim({texts[name]})"):
            chosen[name] = _decimal_type(int(whole or 0), scale)
        else:
            chosen[name] = FLOAT
    return chosen


def _measure(connection: sa.Connection, rows: str, asked: Mapping[str, Sequence[str]]) -> dict[str, Sequence[Any]]:
    """Return by column what its aggregates give."""
    found: dict[str, Sequence[Any]] = {}
    names = list(asked)
    for some in (names[begin : begin + _COLUMNS_AT_ONCE] for begin in range(0, len(names), _COLUMNS_AT_ONCE)):
        listed = ", ".join(sql for name in some for sql in asked[name])
        values = iter(connection.exec_driver_sql(f"select {listed} from {rows}").one())  # noqa: S608 # names, quoted
        found |= {name: list(islice(values, len(asked[name]))) for name in some}
    return found


def _fractions(text: str) -> str:
    return f"count(*) filter (not regexp_full_match({text}, '[+-]?[0-9]+'))"


def _measures(text: str) -> Sequence[str]:
    """Return SQL that counts fractions, the digits before and behind the point, and values beyond 64 bits."""
    whole = rf"length(regexp_extract({text}, '^[-+]?0*([0-9]*)', 1))"
    scale = rf"length(rtrim(regexp_extract({text}, '\.([0-9]*)', 1), '0'))"
    return (
        _fractions(text),
        f"max({whole})",
        f"case when count(*) filter (regexp_matches({text}, '[a-zA-Z]')) = 0 then max({scale}) end",
        f"count(*) filter ({text} is not null and try_cast({text} as BIGINT) is null)",
    )


def _whole_type(digits: int, wide: int) -> str:
    if not wide:
        return WHOLE
    return f"DECIMAL({MAX_DIGITS}, 0)" if digits <= MAX_DIGITS else TEXT


def _decimal_type(whole: int, scale: int | None) -> str:
    """Return the type of fractions. Those with exponents, and wider ones, are text."""
    return TEXT if scale is None or whole + scale > MAX_DIGITS else f"DECIMAL({MAX_DIGITS}, {scale})"


def _loses_digits(connection: sa.Connection, rows: str, text: str) -> bool:
    """Whether a number is another one as float64."""
    digits = "length(regexp_replace(regexp_replace(t, '[eE].*$', ''), '[^0-9]', '', 'g'))"
    changed = "cast(try_cast(t as double) as varchar) is distinct from t"
    asked = f"select distinct t from (select {text} as t from {rows}) where {digits} > {_ALWAYS_EXACT} and {changed}"  # noqa: S608 # names, quoted
    found = connection.exec_driver_sql(asked)
    while page := found.fetchmany(_PAGE):
        if any(_is_rounded(value) for (value,) in page):
            return True
    return False


def _is_rounded(text: str) -> bool:
    try:
        return Decimal(text) != Decimal(repr(float(text)))
    except (InvalidOperation, ValueError):
        return False
