"""Guess the delimiter and the preamble of CSV files.

Libraries that guess, such as `csv.Sniffer`, CleverCSV and DuckDB, always return one dialect. This one also finds when
two are equally good.
"""

from collections.abc import Sequence
from dataclasses import replace

from penstock.errors import AmbiguousDialect, Reading
from penstock.sources.text.dialect import Dialect
from penstock.sources.text.heads import Head
from penstock.sources.text.quotes import (
    CLEARLY,
    CONSISTENT,
    Candidate,
    choose_quote,
    read_with,
    refuse_unclear_comment,
    refuse_unclear_escape,
)
from penstock.sources.text.readings import show, show_fields
from penstock.sources.text.values import is_missing, kind_of
from penstock.spec.dialects import BLANKS, CsvDialect

_CHARACTERS = (",", ";", "\t", "|")
_PLAIN = 0.9
"""Share of fields that look like values from which a dialect needs no other reason."""
_RAGGED = 0.5
"""Share of equally wide rows from which a file may be a table with many broken rows."""


def guess_delimiter(name: str, stated: CsvDialect, base: Dialect, heads: Sequence[Head]) -> Dialect:
    """Complete a dialect by delimiter, quote, escape, comment and preamble.

    Args:
        base: the dialect with what is decided already.

    Raises:
        AmbiguousDialect: two delimiters are equally good.
    """
    delimiters = (stated.delimiter,) if stated.delimiter is not None else (*_CHARACTERS, BLANKS, " ")
    candidates = [choose_quote(stated, replace(base, delimiter=d), heads) for d in delimiters]
    best = candidates[0] if len(candidates) == 1 else _choose(name, candidates)
    if stated.escape is None and best.dialect.quote and not best.dialect.escape:
        refuse_unclear_escape(name, best)
    if stated.comment is None and best.dialect.comment and best.width > 1:
        refuse_unclear_comment(name, best)
    if stated.skip is None:
        best = _leave_preamble_out(name, best)
    return best.dialect


def _choose(name: str, candidates: Sequence[Candidate]) -> Candidate:
    tables = [c for c in candidates if c.is_table]
    best = _best(name, [c for c in tables if c.dialect.delimiter in _CHARACTERS])
    blanks = next((c for c in tables if c.dialect.delimiter not in _CHARACTERS), None)
    if blanks is not None and (best is None or _is_plainer(blanks, best)):
        if not _mostly_numbers(blanks) or (best is None and blanks.width < 3):
            raise _ambiguous(name, blanks, best or _as_one_column(name, candidates))
        return blanks
    return best or _as_one_column(name, candidates)


def _best(name: str, candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the table that is clearly the best one."""
    ranked = sorted(candidates, key=lambda c: c.rank, reverse=True)
    for other in ranked[1:]:
        if not _is_clear(ranked[0], other):
            raise _ambiguous(name, ranked[0], other)
    return ranked[0] if ranked else None


def _is_clear(best: Candidate, other: Candidate) -> bool:
    """Whether there is a reason to prefer one table to another."""
    if best.rank - other.rank < CLEARLY or (other.ends_lines and not best.ends_lines):
        return False
    return best.plainness >= _PLAIN or (other.has_preamble and not best.has_preamble)


def _is_plainer(blanks: Candidate, best: Candidate) -> bool:
    """Whether blanks make the better table. Tabs that make one alone are not taken for blanks."""
    return best.dialect.delimiter != "\t" and blanks.plainness > best.plainness + CLEARLY


def _as_one_column(name: str, candidates: Sequence[Candidate]) -> Candidate:
    """Return a reading in which a line is one value, if no delimiter makes a table of most lines."""
    characters = [c for c in candidates if c.dialect.delimiter in _CHARACTERS]
    ragged = [c for c in characters if c.width > 1 or c.has_empty_lines]
    ragged.sort(key=lambda c: c.consistency, reverse=True)
    singles = [c for c in candidates if c.width == 1 and c.consistency >= CONSISTENT and c not in ragged]
    single = max(singles, key=lambda c: c.consistency, default=candidates[0])
    if single.width > 1 or (ragged and ragged[0].consistency > _RAGGED):
        raise _ambiguous(name, *dict.fromkeys((*ragged[:1], single, *ragged[1:2])))
    return single


def _mostly_numbers(candidate: Candidate) -> bool:
    fields = [v for rows in candidate.cells for row in rows[1:] or rows for v in row if not is_missing(v)]
    return sum(kind_of(v) != "text" for v in fields) > len(fields) / 2


def _leave_preamble_out(name: str, best: Candidate) -> Candidate:
    """Leave out the lines before the table, if each file has so many."""
    skips = {p.preamble[-1].last_line if p.preamble else 0 for p in best.parsed}
    if len(skips) > 1:
        first, second = sorted(skips)[:2]
        parsed = next(p for p in best.parsed if len(p.preamble) and p.preamble[-1].last_line == max(skips))
        readings = [Reading(f"csv: {{skip: {n}}}", f"the table begins at line {n + 1}") for n in (first, second)]
        raise AmbiguousDialect(name, str(parsed.head.file), 1, "another number of lines before the table", (*readings,))
    [skip] = skips
    return read_with(replace(best.dialect, skip=skip), [p.head for p in best.parsed]) if skip else best


def _ambiguous(name: str, *candidates: Candidate) -> AmbiguousDialect:
    head = candidates[0].parsed[0].head
    readings = tuple(_reading(c) for c in candidates)
    return AmbiguousDialect(name, str(head.file), 1, "not clear in its delimiter", readings)


def _reading(candidate: Candidate) -> Reading:
    row = next((row for rows in candidate.cells for row in rows), [])
    return Reading(f"csv: {{delimiter: {show(candidate.dialect.delimiter)}}}", show_fields(row))
