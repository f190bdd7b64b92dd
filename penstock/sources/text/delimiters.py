"""Guess the delimiter, the quote, the preamble and the comments of CSV files.

A dialect is good if all rows have the same number of fields, and if fields look like numbers, times or plain words (see
van den Burg et al., "Wrangling messy CSV files by detecting row and type patterns", 2019). Libraries that guess, such
as `csv.Sniffer`, CleverCSV and DuckDB, always return one dialect. This one also finds when two are equally good.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from penstock.errors import AmbiguousDialect, Reading
from penstock.sources.text.csv_rows import CsvRows
from penstock.sources.text.dialect import Dialect
from penstock.sources.text.heads import Head
from penstock.sources.text.records import Record
from penstock.sources.text.values import is_missing, kind_of
from penstock.spec.dialects import BLANKS, CsvDialect

_CHARACTERS = (",", ";", "\t", "|")
_COMMENT = "#"
_QUOTES = ('"', "'")
_CONSISTENT = 0.9
"""Least share of rows that have the same number of fields."""
_CLEARLY = 0.1
"""A dialect is better if so many more of its fields look like values."""
_PLAIN = 0.9
"""Share of fields that look like values from which a dialect needs no other reason."""
_RAGGED = 0.5
"""Share of equally wide rows from which a file may be a table with many broken rows."""
_MOST_PREAMBLE = 100
_DISTURBING = re.compile(r",(?! )|[;\t|\"]")


@dataclass(frozen=True)
class Parsed:
    """The head of one file, read with a dialect."""

    head: Head
    dialect: Dialect
    records: tuple[Record, ...]
    broken: int
    """Lines that are no record, such as those with an open quote."""

    @cached_property
    def width(self) -> int:
        """The number of fields that most rows have, without a last one that is always empty.

        A delimiter that only ends the lines, and is no blank, makes two fields.
        """
        widths = Counter(len(r.values) for r in self.records)
        if not widths:
            return 0
        most = max(widths, key=lambda width: (widths[width], width))
        least = 1 if self.dialect.delimiter in (BLANKS, " ") else min(most, 2)
        return max(least, *(_filled(r) for r in self.records if len(r.values) == most))

    @cached_property
    def first(self) -> int:
        """The position of the first record that is as wide as most are."""
        return next((n for n, r in enumerate(self.records) if _fits(r, self.width)), 0)

    @cached_property
    def rows(self) -> list[list[str]]:
        """The rows from there on that are as wide, without blanks around the values."""
        return [[value.strip() for value in values] for values in self._written]

    @cached_property
    def _written(self) -> list[list[str]]:
        chosen = (r.values for r in self.records[self.first :] if _fits(r, self.width))
        return [[value or "" for value in values[: self.width]] for values in chosen]

    @cached_property
    def ends_lines(self) -> bool:
        """Whether all rows end with the delimiter."""
        return bool(self.records) and all(len(r.values) > _filled(r) for r in self.records[self.first :])

    @property
    def preamble(self) -> tuple[Record, ...]:
        return self.records[: self.first]

    @cached_property
    def consistency(self) -> float:
        """The share of rows that are as wide as most."""
        following = len(self.records) - self.first + self.broken
        if self.first > min(_MOST_PREAMBLE, following) or not following:
            return 0.0
        return len(self.rows) / following

    @property
    def misfits(self) -> int:
        """Records of another width, and lines that are no record."""
        return len(self.records) - self.first + self.broken - len(self.rows) if self.consistency else len(self.records)

    @cached_property
    def plainness(self) -> float:
        """The share of fields that look like a value, and not like several values in one."""
        fields = [value for row in self._written[1:] or self._written for value in row]
        return sum(map(_is_plain, fields)) / len(fields) if fields else 1.0


def parse_head(head: Head, dialect: Dialect) -> Parsed:
    """Read the head of a file with a dialect. Rows keep the number of fields that they have."""
    rows = CsvRows(head.lines, replace(dialect, header=False, names=()))
    found = list(rows.read_raw())
    if not head.is_whole and found and not isinstance(found[-1], Record):
        found.pop()  # a record that ends beyond the head
    records = tuple(r for r in found if isinstance(r, Record))
    return Parsed(head, dialect, records, len(found) - len(records))


@dataclass(frozen=True)
class _Candidate:
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
        return self.plainness - 2 * _CLEARLY * self.has_preamble

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
        return any(len(r.values) > 1 and not _filled(r) for p in self.parsed for r in p.records)

    @cached_property
    def torn(self) -> int:
        """Fields with half a pair of another quote, alone in pairs, or doubled. The wrong quote leaves them so."""
        others = [quote for quote in _QUOTES if quote != self.dialect.quote]
        fields = [v for rows in self.cells for row in rows for v in row if v]
        torn = sum((v[0] == q) != (v[-1] == q) and v.count(q) % 2 for v in fields for q in others)
        return torn + sum(v[0] == v[-1] == q and (len(v) == 2 or 2 * q in v[1:-1]) for v in fields for q in others)

    @cached_property
    def is_table(self) -> bool:
        return self.width > 1 and self.consistency >= _CONSISTENT

    @cached_property
    def cells(self) -> list[list[list[str]]]:
        return [p.rows for p in self.parsed]


def guess_delimiter(name: str, stated: CsvDialect, base: Dialect, heads: Sequence[Head]) -> Dialect:
    """Complete a dialect by delimiter, quote, escape, comment and preamble.

    Args:
        base: the dialect with what is decided already.

    Raises:
        AmbiguousDialect: two delimiters are equally good.
    """
    delimiters = (stated.delimiter,) if stated.delimiter is not None else (*_CHARACTERS, BLANKS, " ")
    candidates = [_best_quote(stated, replace(base, delimiter=d), heads) for d in delimiters]
    best = candidates[0] if len(candidates) == 1 else _choose(name, candidates)
    if stated.escape is None and best.dialect.quote and not best.dialect.escape:
        _refuse_unclear_escape(name, best)
    if stated.skip is None:
        best = _leave_preamble_out(name, best)
    return best.dialect


def _best_quote(stated: CsvDialect, base: Dialect, heads: Sequence[Head]) -> _Candidate:
    """Return the quote, the escape and the comment with which most rows are equally wide."""
    tried = [_try(base_, heads) for base_ in _quotings(stated, base, heads)]
    best = max(tried, key=_fit)
    if best.dialect.quote == '"' and stated.quote is None and _encloses(best, "'"):
        return max((c for c in tried if c.dialect.quote == "'"), key=_fit)
    return best


def _fit(candidate: _Candidate) -> tuple[float, bool, int]:
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
            if quote != quotes[0] and not any(map(has, "\"'")):
                continue
            escapes = (stated.escape,) if stated.escape is not None else ("", "\\")
            for escape in escapes:
                if escape and stated.escape is None and not (quote and has("\\" + quote)):
                    continue
                yield replace(base, quote=quote, escape=escape, comment=comment)


def _starts(heads: Sequence[Head], mark: str) -> bool:
    return any(line.startswith(mark) for head in heads for line in head.lines)


def _try(dialect: Dialect, heads: Sequence[Head]) -> _Candidate:
    return _Candidate(dialect, tuple(parse_head(head, dialect) for head in heads))


def _encloses(candidate: _Candidate, quote: str) -> bool:
    """Whether all values of a column, at least two, are between quotes. Its title may be without."""
    for parsed in candidate.parsed:
        for column in zip(*parsed.rows, strict=False):
            for values in (column, column[1:]):
                filled = [value for value in values if value]
                if len(filled) > 1 and all(len(v) > 1 and v[0] == v[-1] == quote for v in filled):
                    return True
    return False


def _choose(name: str, candidates: Sequence[_Candidate]) -> _Candidate:
    tables = [c for c in candidates if c.is_table]
    best = _best(name, [c for c in tables if c.dialect.delimiter in _CHARACTERS])
    blanks = next((c for c in tables if c.dialect.delimiter not in _CHARACTERS), None)
    if blanks is not None and (best is None or _is_plainer(blanks, best)):
        if not _mostly_numbers(blanks) or (best is None and blanks.width < 3):
            raise _ambiguous(name, blanks, best or _as_one_column(name, candidates))
        return blanks
    return best or _as_one_column(name, candidates)


def _best(name: str, candidates: Sequence[_Candidate]) -> _Candidate | None:
    """Return the table that is clearly the best one."""
    ranked = sorted(candidates, key=lambda c: c.rank, reverse=True)
    for other in ranked[1:]:
        if not _is_clear(ranked[0], other):
            raise _ambiguous(name, ranked[0], other)
    return ranked[0] if ranked else None


def _is_clear(best: _Candidate, other: _Candidate) -> bool:
    """Whether there is a reason to prefer one table to another."""
    if best.rank - other.rank < _CLEARLY or (other.ends_lines and not best.ends_lines):
        return False
    return best.plainness >= _PLAIN or (other.has_preamble and not best.has_preamble)


def _is_plainer(blanks: _Candidate, best: _Candidate) -> bool:
    """Whether blanks make the better table. Tabs that make one alone are not taken for blanks."""
    return best.dialect.delimiter != "\t" and blanks.plainness > best.plainness + _CLEARLY


def _as_one_column(name: str, candidates: Sequence[_Candidate]) -> _Candidate:
    """Return a reading in which a line is one value, if no delimiter makes a table of most lines."""
    characters = [c for c in candidates if c.dialect.delimiter in _CHARACTERS]
    ragged = [c for c in characters if c.width > 1 or c.has_empty_lines]
    ragged.sort(key=lambda c: c.consistency, reverse=True)
    singles = [c for c in candidates if c.width == 1 and c.consistency >= _CONSISTENT and c not in ragged]
    single = next(iter(singles), candidates[0])
    if single.width > 1 or (ragged and ragged[0].consistency > _RAGGED):
        raise _ambiguous(name, *dict.fromkeys((*ragged[:1], single, *ragged[1:2])))
    return single


def _refuse_unclear_escape(name: str, best: _Candidate) -> None:
    """Refuse a file whose backslashes may all be escapes, or all be text."""
    dialect = best.dialect
    after = re.escape("".join(mark for mark in (*_QUOTES, dialect.delimiter, "\\") if len(mark) == 1))
    for head in (parsed.head for parsed in best.parsed):
        found = [(n, piece) for n, line in enumerate(head.lines, start=1) for piece in re.findall(r"\\(?s:.)", line)]
        if not found or any(not re.fullmatch(rf"\\[{after}]", piece) for _, piece in found):
            continue
        escaped = _try(replace(dialect, escape="\\"), [head])
        [plain] = [p.rows for p in best.parsed if p.head is head]
        [rows] = escaped.cells
        if escaped.consistency >= _CONSISTENT and len(rows) == len(plain) and rows != plain:
            line, piece = found[0]
            readings = (
                Reading('csv: {escape: ""}', f"`{piece}` as it is"),
                Reading('csv: {escape: "\\\\"}', f"`{piece}` as `{piece[1]}`"),
            )
            raise AmbiguousDialect(name, str(head.file), line, "not clear in its backslashes", readings)


def _mostly_numbers(candidate: _Candidate) -> bool:
    fields = [v for rows in candidate.cells for row in rows[1:] or rows for v in row if not is_missing(v)]
    return sum(kind_of(v) != "text" for v in fields) > len(fields) / 2


def _is_plain(value: str) -> bool:
    """Whether a field looks like one value. A tab at its end is a sign that it does not."""
    text = value.strip(" ")
    is_nested = (text[:1], text[-1:]) in (("{", "}"), ("[", "]"))
    return is_nested or kind_of(text) != "text" or not _DISTURBING.search(text)


def _fits(record: Record, width: int) -> bool:
    """Whether a record has so many fields. Empty ones beyond them do not count."""
    return len(record.values) >= width >= _filled(record)


def _filled(record: Record) -> int:
    """Return the number of fields up to the last one that is not empty."""
    size = len(record.values)
    while size and not (record.values[size - 1] or "").strip():
        size -= 1
    return size


def _leave_preamble_out(name: str, best: _Candidate) -> _Candidate:
    """Leave out the lines before the table, if each file has so many."""
    skips = {p.preamble[-1].last_line if p.preamble else 0 for p in best.parsed}
    if len(skips) > 1:
        first, second = sorted(skips)[:2]
        parsed = next(p for p in best.parsed if len(p.preamble) and p.preamble[-1].last_line == max(skips))
        readings = [Reading(f"csv: {{skip: {n}}}", f"the table begins at line {n + 1}") for n in (first, second)]
        raise AmbiguousDialect(name, str(parsed.head.file), 1, "another number of lines before the table", (*readings,))
    [skip] = skips
    return _try(replace(best.dialect, skip=skip), [p.head for p in best.parsed]) if skip else best


def _ambiguous(name: str, *candidates: _Candidate) -> AmbiguousDialect:
    head = candidates[0].parsed[0].head
    readings = tuple(_reading(c) for c in candidates)
    return AmbiguousDialect(name, str(head.file), 1, "not clear in its delimiter", readings)


def _reading(candidate: _Candidate) -> Reading:
    row = next((row for rows in candidate.cells for row in rows), [])
    return Reading(f"csv: {{delimiter: {show(candidate.dialect.delimiter)}}}", show_fields(row))


def show_fields(values: Iterable[str]) -> str:
    """Return the first values of a row for a message."""
    listed = [value if len(value) < 30 else f"{value[:29]}…" for value in values]
    more = f" and {len(listed) - 6} more" if len(listed) > 6 else ""
    return ", ".join(f"`{value}`" for value in listed[:6]) + more


def show(text: str) -> str:
    """Return a text as YAML takes it in a flow mapping."""
    if re.fullmatch(r"[A-Za-z][\w-]*", text) and text.lower() not in ("null", "true", "false"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") + '"'
