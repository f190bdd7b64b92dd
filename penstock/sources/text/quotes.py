"""Choose the quote, the escape and the comment with which a delimiter reads CSV files best."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from penstock.errors import AmbiguousDialect, Reading
from penstock.sources.text.dialect import Dialect
from penstock.sources.text.heads import Head
from penstock.sources.text.parsed import Parsed, count_filled, fits_width, parse_head
from penstock.sources.text.readings import show_fields
from penstock.spec.dialects import CsvDialect

_COMMENT = "#"
_QUOTES = ('"', "'")
CONSISTENT = 0.9
"""Least share of rows that have the same number of fields."""
CLEARLY = 0.1
"""A dialect is better if so many more of its fields look like values."""


@dataclass(frozen=True)
class Candidate:
    dialect: Dialect
    parsed: tuple[Parsed, ...]

    @cached_property
    def consistency(self) -> float:
        return min(p.consistency for p in self.parsed)

    @cached_property
    def plainness(self) -> float:
        return sum(p.plainness * len(p.rows) for p in self.parsed) / max(1, sum(len(p.rows) for p in self.parsed))

    @property
    def rank(self) -> float:
        """How good the dialect is. Lines before the table are a sign of a wrong one."""
        return self.plainness - 2 * CLEARLY * self.has_preamble

    @cached_property
    def has_preamble(self) -> bool:
        return any(p.preamble for p in self.parsed)

    @cached_property
    def width(self) -> int:
        return min(p.width for p in self.parsed)

    @property
    def ends_lines(self) -> bool:
        return all(p.ends_lines for p in self.parsed)

    @cached_property
    def has_empty_lines(self) -> bool:
        """Whether a line has delimiters and nothing else."""
        return any(len(r.values) > 1 and not count_filled(r) for p in self.parsed for r in p.records)

    @cached_property
    def torn(self) -> int:
        """Fields with half a pair of another quote, alone in pairs, or doubled. The wrong quote leaves them so."""
        others = [quote for quote in _QUOTES if quote != self.dialect.quote]
        fields = [v for rows in self.cells for row in rows for v in row if v]
        torn = sum((v[0] == q) != (v[-1] == q) and v.count(q) % 2 for v in fields for q in others)
        return torn + sum(v[0] == v[-1] == q and (len(v) == 2 or 2 * q in v[1:-1]) for v in fields for q in others)

    @cached_property
    def is_table(self) -> bool:
        return self.width > 1 and self.consistency >= CONSISTENT

    @cached_property
    def cells(self) -> list[list[list[str]]]:
        return [p.rows for p in self.parsed]


def choose_quote(stated: CsvDialect, base: Dialect, heads: Sequence[Head]) -> Candidate:
    """Return the quote, the escape and the comment with which most rows are equally wide."""
    tried = [read_with(base_, heads) for base_ in _quotings(stated, base, heads)]
    best = max(tried, key=_fit)
    for quote in _QUOTES if stated.quote is None else ():
        if quote != best.dialect.quote and _encloses(best, quote):
            other = max((c for c in tried if c.dialect.quote == quote), key=_fit)
            if other.consistency >= CONSISTENT and not _encloses(other, best.dialect.quote):
                return other
    return best


def _fit(candidate: Candidate) -> tuple[float, bool, int]:
    lines = sum(len(p.head.lines) for p in candidate.parsed)
    misfits = sum(p.misfits for p in candidate.parsed)
    return -round(misfits / lines, 3), not candidate.has_preamble, -candidate.torn


def _quotings(stated: CsvDialect, base: Dialect, heads: Sequence[Head]) -> Iterator[Dialect]:
    def has(text: str) -> bool:
        return any(text in line for head in heads for line in head.lines)

    quotes = (stated.quote,) if stated.quote is not None else ('"', "'", "")
    comments = (stated.comment,) if stated.comment is not None else ("", _COMMENT)
    for comment in comments:
        if comment and stated.comment is None and not _starts(heads, comment):
            continue
        for quote in quotes:
            if quote != quotes[0] and not any(map(has, quote or _QUOTES)):
                continue
            escapes = (stated.escape,) if stated.escape is not None else ("", "\\")
            for escape in escapes:
                if escape and stated.escape is None and not (quote and has("\\" + quote)):
                    continue
                yield replace(base, quote=quote, escape=escape, comment=comment)


def _starts(heads: Sequence[Head], mark: str) -> bool:
    return any(line.startswith(mark) for head in heads for line in head.lines)


def read_with(dialect: Dialect, heads: Sequence[Head]) -> Candidate:
    return Candidate(dialect, tuple(parse_head(head, dialect) for head in heads))


def _encloses(candidate: Candidate, quote: str) -> bool:
    """Whether nearly all values of a column, at least two, are between quotes. Its title may be without."""
    if not quote:
        return False
    for parsed in candidate.parsed:
        for column in zip(*parsed.rows, strict=False):
            for values in (column, column[1:]):
                filled = [value for value in values if value]
                enclosed = sum(len(v) > 1 and v[0] == v[-1] == quote for v in filled)
                if enclosed > 1 and enclosed >= CONSISTENT * len(filled):
                    return True
    return False


def refuse_unclear_escape(name: str, best: Candidate) -> None:
    """Refuse a file whose backslashes may all be escapes, or all be text."""
    dialect = best.dialect
    after = re.escape("".join(mark for mark in (*_QUOTES, dialect.delimiter, "\\") if len(mark) == 1))
    for head in (parsed.head for parsed in best.parsed):
        found = [(n, piece) for n, line in enumerate(head.lines, start=1) for piece in re.findall(r"\\(?s:.)", line)]
        if not found or any(not re.fullmatch(rf"\\[{after}]", piece) for _, piece in found):
            continue
        escaped = read_with(replace(dialect, escape="\\"), [head])
        [plain] = [p.rows for p in best.parsed if p.head is head]
        [rows] = escaped.cells
        if escaped.consistency >= CONSISTENT and len(rows) == len(plain) and rows != plain:
            line, piece = found[0]
            readings = (
                Reading('csv: {escape: ""}', f"`{piece}` as it is"),
                Reading('csv: {escape: "\\\\"}', f"`{piece}` as `{piece[1]}`"),
            )
            raise AmbiguousDialect(name, str(head.file), line, "not clear in its backslashes", readings)


def refuse_unclear_comment(name: str, best: Candidate) -> None:
    """Refuse a file in which a line that would be left out as a comment has the fields of a row."""
    dialect = best.dialect
    for parsed in best.parsed:
        every_line = parse_head(parsed.head, replace(dialect, comment=""))
        for record in every_line.records:
            if record.text.startswith(dialect.comment) and fits_width(record, parsed.width):
                shown = show_fields(value or "" for value in record.values)
                readings = (
                    Reading('csv: {comment: ""}', f"{shown} as a row"),
                    Reading(f'csv: {{comment: "{dialect.comment}"}}', f"{shown} as a comment, and leaves it out"),
                )
                raise AmbiguousDialect(name, str(parsed.head.file), record.line, "a comment or a row", readings)
