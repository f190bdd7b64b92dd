"""Find the types of the columns of text files, judged on all rows: declared, kept by the contract, or guessed.

A guess never changes what a text says. Codes with leading zeros, `1E5`, `0x1F` and `yes` are text. A sample only rules
types out.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from penstock.errors import AmbiguousDate, AmbiguousNumber, Reading
from penstock.sources.column_types import (
    ISO,
    NOTHING,
    NUMBER,
    TEXT,
    ColumnType,
    date_formats,
    identifier,
    quoted,
)
from penstock.sources.text.dialect import Dialect
from penstock.sources.text.raw_rows import RawRows
from penstock.sources.text.values import MISSING

UNSEEN = ColumnType(NOTHING)
"""The type of a column without a value."""
_BOOL = ColumnType("bool")
_SAMPLE = 2_000
_COLUMNS_AT_ONCE = 25
_WHOLE = "(0|[1-9][0-9]*)"
_INFINITE = "[+-]?(nan|inf|infinity)"
_MARKS = ((".", ""), (",", ""), (".", ","), (",", "."), (".", "'"), (",", " "), (".", " "), (",", "'"))
"""Decimal mark and mark of thousands, the most common first."""


@dataclass(frozen=True)
class GuessedTypes:
    """The types of all columns, and the dialect with what only all rows show."""

    types: dict[str, ColumnType]
    dialect: Dialect
    """By which `value_text` and `plain_number` read values. The decimal mark stays undecided if no number has one."""
    guessed: frozenset[str] = frozenset()
    """The columns whose type is neither declared nor in the contract."""
    nested: frozenset[str] = frozenset()
    """Columns of JSON objects and arrays. Their type in a contract is text."""
    unclear: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Texts that may mean a missing value, by the columns of text that have them. The spec can say what they mean."""


@dataclass(frozen=True)
class _Rows:
    """Raw rows of one source in DuckDB."""

    connection: sa.Connection
    source: str
    relation: str
    missing: tuple[str, ...]
    """Texts that are no value."""

    def text(self, column: str) -> str:
        """Return the SQL of a value without blanks around it, NULL if it is none."""
        trimmed = f"trim({identifier(column)})"
        return f"(case when {trimmed} in ({', '.join(map(quoted, self.missing))}) then null else {trimmed} end)"

    def count_texts(self, column: str) -> str:
        """Return the SQL that counts the texts that are not empty."""
        return f"count(nullif(trim({identifier(column)}), ''))"

    def select(self, expressions: Sequence[str], *, sample: bool = False) -> list[Any]:
        rows = f"(select * from {self.relation} limit {_SAMPLE})" if sample else self.relation  # noqa: S608 # paths, quoted
        found: list[Any] = []
        for begin in range(0, len(expressions), _COLUMNS_AT_ONCE):
            some = expressions[begin : begin + _COLUMNS_AT_ONCE]
            found += self.connection.exec_driver_sql(f"select {', '.join(some)} from {rows}").one()  # noqa: S608 # names, quoted
        return found

    def misfits(self, conditions: Sequence[tuple[str, str]]) -> list[bool]:
        """Return whether a value of the column does not fulfil the condition, for each column and condition."""
        counts = [
            f"count(*) filter ({self.text(c)} is not null and not coalesce({sql}, false))" for c, sql in conditions
        ]
        sampled = self.select(counts, sample=True)
        open_ = [place for place, count in enumerate(sampled) if not count]
        found = dict(zip(open_, self.select([counts[place] for place in open_]) if open_ else (), strict=True))
        return [bool(found.get(place, 1)) for place in range(len(counts))]


def guess_types(
    connection: sa.Connection, name: str, raw: RawRows, dialect: Dialect, known: Mapping[str, ColumnType]
) -> GuessedTypes:
    """Find the types of the columns of raw rows.

    Args:
        known: types that are declared or kept by the contract.

    Raises:
        AmbiguousDate: all dates of a column can be read day first and month first.
        AmbiguousNumber: the decimal mark cannot be known.
    """
    columns, undecided = raw.columns, dialect.undecided
    missing = tuple(dict.fromkeys((*dialect.null, *MISSING))) if "null" in undecided else dialect.null
    rows = _Rows(connection, name, raw.relation, missing if dialect.format == "csv" else ("",))
    types = {c: replace(k, zone=dialect.timezone) for c, k in known.items() if c in columns and k.is_known}
    open_ = [c for c in columns if c not in types]
    counts = rows.select([f for c in open_ for f in (f"count({rows.text(c)})", rows.count_texts(c))]) if open_ else []
    filled = [c for c, count in zip(open_, counts[::2], strict=True) if count]
    with_missing = [c for c, values, texts in zip(open_, counts[::2], counts[1::2], strict=True) if values < texts]
    types |= {c: UNSEEN for c in open_ if c not in filled}
    nested = {c for c in filled if {*columns[c]} == {"nested"}}
    types |= dict.fromkeys(nested, TEXT)
    types |= _guess_times(rows, dialect, [c for c in filled if not columns[c] or {*columns[c]} == {"string"}])
    types |= _guess_bools(rows, columns, [c for c in filled if c not in types])
    rest = [c for c in filled if c not in types]
    if dialect.format == "json":
        types |= {c: ColumnType(NUMBER) if {*columns[c]} == {"number"} else TEXT for c in rest}
    else:
        read_before = [c for c, kind in types.items() if kind.kind == NUMBER] if "decimal" in undecided else []
        numbers, dialect = _guess_numbers(rows, dialect, [*rest, *read_before], len(columns) == 1)
        types |= {c: ColumnType(NUMBER) if c in numbers else TEXT for c in rest}
    unclear: dict[str, tuple[str, ...]] = {}
    if "null" in undecided:
        found = _find_missing(rows, with_missing)
        typed = {c for c in filled if types[c] != TEXT}
        null = dict.fromkeys((*dialect.null, *(text for text, where in found.items() if typed & {*where})))
        still = tuple(name for name in dialect.undecided if name != "null")
        dialect = replace(dialect, null=tuple(null), undecided=still)
        types |= {c: TEXT for text, where in found.items() for c in where if text not in null and types[c] == UNSEEN}
        unclear = {text: tuple(c for c in where if types[c] == TEXT) for text, where in found.items()}
    types = {c: types[c] for c in columns}
    shown = {text: where for text, where in unclear.items() if where}
    return GuessedTypes(types, dialect, frozenset(open_), frozenset(nested), shown)


def value_text(column: str, dialect: Dialect) -> str:
    """Return the SQL of a raw value, NULL for the texts that mean it."""
    if dialect.format == "json" or dialect.null in ((), ("",)):
        return identifier(column)
    name = identifier(column)
    return f"(case when trim({name}) in ({', '.join(map(quoted, dialect.null))}) then null else {name} end)"


def _guess_times(rows: _Rows, dialect: Dialect, columns: Sequence[str]) -> dict[str, ColumnType]:
    """Find the columns of dates and timestamps. A column of several formats stays text."""
    fixed = [ColumnType("date", ISO), ColumnType("timestamp", ISO)]
    for kind, format_ in (("date", dialect.date_format), ("timestamp", dialect.timestamp_format)):
        fixed += [ColumnType(kind, format_)] if format_ else []
    types = _first_fitting(rows, dict.fromkeys(columns, fixed))
    rest = [c for c in columns if c not in types]
    samples = _find_samples(rows, rest)
    shaped = {c: list(date_formats(str(sample))) for c, sample in zip(rest, samples, strict=True)}
    types |= _first_fitting(rows, shaped, refuse_others=dict(zip(rest, samples, strict=True)))
    return {c: replace(kind, zone=dialect.timezone) for c, kind in types.items()}


def _find_samples(rows: _Rows, columns: Sequence[str]) -> list[Any]:
    """Return a value of each column, the greatest one if it may be a date."""
    asked = [f"max({rows.text(c)})" for c in columns]
    found = rows.select(asked, sample=True) if asked else []
    open_ = [place for place, value in enumerate(found) if value is None or list(date_formats(str(value)))]
    for place, value in zip(open_, rows.select([asked[p] for p in open_]) if open_ else (), strict=True):
        found[place] = value
    return found


def _first_fitting(
    rows: _Rows, candidates: Mapping[str, Sequence[ColumnType]], refuse_others: Mapping[str, str] | None = None
) -> dict[str, ColumnType]:
    """Return the first type that all values of a column fit.

    Args:
        refuse_others: by column a value to show if several types fit. Without it the order decides.
    """
    asked = [(c, kind) for c, kinds in candidates.items() for kind in kinds]
    misfits = rows.misfits([(c, kind.fits(rows.text(c))) for c, kind in asked]) if asked else []
    fitting: dict[str, list[ColumnType]] = {}
    for (column, kind), misfit in zip(asked, misfits, strict=True):
        if not misfit:
            fitting.setdefault(column, []).append(kind)
    for column, kinds in fitting.items():
        if refuse_others is not None and len(kinds) > 1:
            formats = tuple(k.format for k in kinds)
            raise AmbiguousDate(rows.source, column, refuse_others[column], kinds[0].kind, formats)
    return {c: kinds[0] for c, kinds in fitting.items()}


def _guess_bools(
    rows: _Rows, columns: Mapping[str, Collection[str]], candidates: Sequence[str]
) -> dict[str, ColumnType]:
    """Find the columns that have only `true` and `false`. `yes` and `1` stay what they are."""
    asked = [c for c in candidates if not columns[c] or {*columns[c]} == {"bool"}]
    misfits = rows.misfits([(c, f"lower({rows.text(c)}) in ('true', 'false')") for c in asked]) if asked else []
    return {c: _BOOL for c, misfit in zip(asked, misfits, strict=True) if not misfit}


def _guess_numbers(rows: _Rows, dialect: Dialect, columns: Sequence[str], is_single: bool) -> tuple[set[str], Dialect]:
    """Return the columns of numbers, and the dialect with the marks by which they are."""
    marks = [(dialect.decimal, dialect.thousands)]
    if {"decimal", "thousands"} & {*dialect.undecided}:
        free_decimal, free_thousands = (name in dialect.undecided for name in ("decimal", "thousands"))
        possible = [
            m for m in _MARKS if (free_decimal or m[0] == marks[0][0]) and (free_thousands or m[1] == marks[0][1])
        ]
        marks = possible or marks
    fitting = _fitting_marks(rows, columns, marks)
    most = max(map(len, fitting.values()))
    best = [m for m in marks if len(fitting[m]) == most]
    chosen = best[0]
    numbers = {*fitting[chosen]} - _find_phones(rows, fitting[chosen])
    other = next((m for m in best if m[0] != chosen[0]), None)
    if other is not None:
        marked = _find_marked(rows, fitting[chosen])
        if not marked:
            return numbers, dialect
        if dialect.delimiter != "," or chosen[0] != "." or is_single:  # one column shows no delimiter
            [(column, sample), *_] = marked.items()
            readings = tuple(_number_reading(sample, *m) for m in (chosen, other))
            raise AmbiguousNumber(rows.source, column, sample, readings)
    undecided = tuple(name for name in dialect.undecided if name not in ("decimal", "thousands"))
    return numbers, replace(dialect, decimal=chosen[0], thousands=chosen[1], undecided=undecided)


def _fitting_marks(
    rows: _Rows, columns: Sequence[str], marks: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], list[str]]:
    """Return by decimal mark and mark of thousands the columns whose values are all numbers with them."""
    fitting: dict[tuple[str, str], list[str]] = {}
    for some in ([m for m in marks if not m[1]], [m for m in marks if m[1]]):
        # Numbers without a mark of thousands are numbers with any.
        known = {m: fitting.get((m[0], ""), []) if m[1] else [] for m in some}
        asked = [(c, m) for m in some for c in columns if c not in known[m]]
        misfits = rows.misfits([(c, _is_number(rows.text(c), *m)) for c, m in asked]) if asked else []
        found = {pair for pair, misfit in zip(asked, misfits, strict=True) if not misfit}
        fitting |= {m: [c for c in columns if c in known[m] or (c, m) in found] for m in some}
    return fitting


def _find_marked(rows: _Rows, columns: Sequence[str]) -> dict[str, str]:
    """Return a number with a point or a comma of each column that has one."""
    asked = [f"max({rows.text(c)}) filter (regexp_matches({rows.text(c)}, '[.,]'))" for c in columns]
    samples = rows.select(asked) if asked else ()
    return {c: str(sample) for c, sample in zip(columns, samples, strict=True) if sample is not None}


def _number_reading(sample: str, decimal: str, thousands: str) -> Reading:
    value = (sample.replace(thousands, "") if thousands else sample).replace(decimal, ".")
    return Reading(f'csv: {{decimal: "{decimal}", thousands: "{thousands}"}}', f"`{value}`")


def _is_number(text: str, decimal: str, thousands: str) -> str:
    """Return the SQL condition that a text is a number. Texts that may be codes are none."""
    point = f"[{decimal}]"
    whole = rf"({_WHOLE}|[1-9][0-9]{{0,2}}([{thousands}][0-9]{{3}})+)" if thousands else _WHOLE
    fraction = f"({whole}{point}[0-9]*|{point}[0-9]+)"
    number = f"[+-]?({whole}([eE][+-][0-9]+)?|{fraction}([eE][+-]?[0-9]+)?)|(?i){_INFINITE}"
    return f"regexp_full_match({text}, {quoted(number)})"


def _find_phones(rows: _Rows, columns: Sequence[str]) -> set[str]:
    """Return the columns in which all numbers are long and begin with a plus, and those without a digit."""
    asked = [
        f"bool_and(regexp_full_match({rows.text(c)}, '[+][0-9]{{7,}}')) or not "
        f"bool_or(regexp_matches({rows.text(c)}, '[0-9]'))"
        for c in columns
    ]
    sampled = rows.select(asked, sample=True) if asked else ()
    possible = [place for place, found in enumerate(sampled) if found is not False]
    found = rows.select([asked[place] for place in possible]) if possible else ()
    return {columns[place] for place, is_phone in zip(possible, found, strict=True) if is_phone}


def _find_missing(rows: _Rows, columns: Sequence[str]) -> dict[str, list[str]]:
    """Return the texts that may mean a missing value, each with the columns that have it."""
    asked = [
        f"list(distinct trim({identifier(c)})) filter (trim({identifier(c)}) in ({', '.join(map(quoted, MISSING))}))"
        for c in columns
    ]
    by_column = dict(zip(columns, rows.select(asked) if asked else (), strict=True))
    found = {text: [c for c in columns if text in (by_column[c] or ())] for text in MISSING}
    return {text: where for text, where in found.items() if where}
