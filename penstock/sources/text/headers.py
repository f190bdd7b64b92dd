"""Decide whether the first row of CSV files is a header or data. If it cannot be known, show both readings."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from penstock.errors import AmbiguousDialect, Reading
from penstock.sources.text.dialect import untitled_name
from penstock.sources.text.parsed import Parsed
from penstock.sources.text.readings import show_fields
from penstock.sources.text.values import is_missing, is_number, kind_of, shape_of

_MOST = 0.9
_YEARS = range(1900, 2101)


@dataclass
class _Signs:
    """What the columns say about the first row."""

    header: int = 0
    """Columns of numbers or times whose first value is a word."""
    header_like: int = 0
    """Columns of text whose first value does not look like the others."""
    data: int = 0
    """Columns of numbers or times whose first value is one too, and hardly a name."""
    data_like: int = 0
    """Columns of text whose first value looks like the others."""
    recurring: int = 0
    """How often first values of columns of text are found again in their columns."""
    numbers: list[int] = field(default_factory=list)
    """First values that fit a column of numbers, but are also names in many files, such as years."""


def decide_header(name: str, files: Sequence[Parsed], expected: Collection[str]) -> bool:
    """Return whether the first row of the files has the names of the columns.

    Args:
        files: the heads of the files, read with the right delimiter.
        expected: names of columns that the spec has.

    Raises:
        AmbiguousDialect: it cannot be known.
    """
    filled = [f for f in files if f.rows]
    firsts = [f.rows[0] for f in filled]
    if any(cell in expected for first in firsts for cell in first):
        return True
    if len(filled) > 1 and all(first == firsts[0] for first in firsts) and _are_names(firsts[0]):
        return True  # no row of data begins every file
    judged = [(f, judge_first_row(f.rows)) for f in filled]
    titled, untitled = ([f for f, is_header in judged if is_header is wanted] for wanted in (True, False))
    titles = {cell for f in titled for cell in f.rows[0]}
    open_ = [f for f, is_header in judged if is_header is None and len(f.rows) > 1 and not titles & {*f.rows[0]}]
    if untitled and not titled:
        return False
    if titled and not untitled and not open_:
        return True
    unclear = (open_ or titled or filled)[0]
    line = unclear.records[unclear.first].line
    raise AmbiguousDialect(name, str(unclear.head.file), line, "a header or a row", header_readings(unclear))


def header_readings(parsed: Parsed) -> tuple[Reading, ...]:
    """Return both ways to read the first row."""
    first, following = parsed.rows[0], len(parsed.rows) - 1
    counted = f"{following:,}" if parsed.head.is_whole else "some"
    untitled = show_fields(untitled_name(n) for n in range(len(first)))
    return (
        Reading("csv: {header: true}", f"columns {show_fields(first)} and {counted} rows"),
        Reading("csv: {header: false}", f"columns {untitled} with {show_fields(first)} as the first row"),
    )


def judge_first_row(rows: Sequence[Sequence[str]]) -> bool | None:
    """Return whether the first row of one file is a header. None if its rows do not show it."""
    first, body = rows[0], rows[1:]
    found = _judge(first, body)
    others = [row for row in body if row != first]
    is_repeated = len(first) > 1 and len(others) < len(body)
    if found is False and is_repeated and all(kind_of(cell) == "text" for cell in first):
        return None if _judge(first, others) is not False else False  # files with headers, put into one
    return found


def _judge(first: Sequence[str], body: Sequence[Sequence[str]]) -> bool | None:
    signs = _Signs()
    for column, cell in enumerate(first):
        _look(signs, cell, [row[column] for row in body if not is_missing(row[column])])
    if signs.header:
        is_clear = _are_names(first) and not (signs.data or signs.data_like or signs.recurring)
        return True if is_clear and (not signs.numbers or _is_series(signs.numbers)) else None
    if signs.data:
        return False
    if signs.numbers and len(signs.numbers) == len([cell for cell in first if not is_missing(cell)]):
        return _judge_numbers(first, body, signs.numbers)
    if signs.numbers and not _is_series(signs.numbers):
        return False if not signs.header_like else None
    if signs.header_like:  # a word above codes is often a title, and at times a value
        is_clear = len(signs.numbers) > 1 and not (signs.data_like or signs.recurring) and _are_names(first)
        return True if is_clear else None
    is_data = signs.data_like or signs.recurring > 1  # a title may also be a value
    return False if is_data or (body and not _are_names(first)) else None


def _look(signs: _Signs, cell: str, body: Sequence[str]) -> None:
    if is_missing(cell) or not body:
        return
    kinds = Counter(map(kind_of, body))
    kind, most = kinds.most_common(1)[0]
    if kind == "text" or most < _MOST * len(body):
        _look_at_text(signs, cell, body)
    elif kind_of(cell) != kind:
        signs.header += kind == "number" or not is_number(cell)
    elif kind == "number" and _is_natural(cell):
        signs.numbers.append(int(cell))
    else:
        signs.data += 1


def _look_at_text(signs: _Signs, cell: str, body: Sequence[str]) -> None:
    shapes = Counter(map(shape_of, body))
    same = shapes[shape_of(cell)]
    has_digit = any(c.isdigit() for c in cell)
    if has_digit and same >= _MOST * len(body):
        signs.data_like += 1
        return
    if cell in body:
        signs.recurring += body.count(cell)
        return
    with_digit = sum(any(c.isdigit() for c in value) for value in body)
    is_repeated = len(body) > 3 and min(Counter(body).values()) > 1
    if is_repeated or (not has_digit and with_digit >= max(2, _MOST * len(body))):
        signs.header_like += 1


def _judge_numbers(first: Sequence[str], body: Sequence[Sequence[str]], numbers: Sequence[int]) -> bool | None:
    """Judge a first row of natural numbers over columns of numbers. Years, and 0, 1, 2, are names in many files."""
    if not _are_names(first) or _continues([first, *body]):
        return False
    if len(first) == 1:
        return None if numbers[0] in _YEARS or numbers[0] in (0, 1) else False
    return None if all(n in _YEARS for n in numbers) or all(a < b for a, b in pairwise(numbers)) else False


def _are_names(row: Sequence[str]) -> bool:
    """Whether the values of a row can be names of columns. The first and the last one may be empty."""
    names = [cell for cell in row if cell]
    inner = row[1:-1]
    return bool(names) and len(set(names)) == len(names) and all(inner)


def _continues(rows: Sequence[Sequence[str]]) -> bool:
    """Whether a column counts on evenly from the first row, as running numbers do."""
    if len(rows) < 3:
        return False
    for column in zip(*rows[:50], strict=True):
        if all(map(_is_natural, column)):
            steps = {b - a for a, b in pairwise(map(int, column))}
            if len(steps) == 1 and steps != {0}:
                return True
    return False


def _is_series(numbers: Sequence[int]) -> bool:
    """Whether numbers are years, or count on evenly."""
    steps = {b - a for a, b in pairwise(numbers)}
    return all(n in _YEARS for n in numbers) or (len(numbers) > 1 and steps == {1})


def _is_natural(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 16 and (text == "0" or text[0] != "0")
