"""The head of a CSV file read with a dialect, and how well the dialect fits it.

A dialect is good if all rows have the same number of fields, and if fields look like numbers, times or plain words (see
van den Burg et al., "Wrangling messy CSV files by detecting row and type patterns", 2019).
"""

import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

from penstock.sources.text.csv_rows import CsvRows
from penstock.sources.text.dialect import Dialect
from penstock.sources.text.heads import Head
from penstock.sources.text.records import Record
from penstock.sources.text.values import kind_of
from penstock.spec.dialects import BLANKS

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
        return max(least, *(count_filled(r) for r in self.records if len(r.values) == most))

    @cached_property
    def first(self) -> int:
        """The position of the first record that is as wide as most are."""
        return next((n for n, r in enumerate(self.records) if fits_width(r, self.width)), 0)

    @cached_property
    def rows(self) -> list[list[str]]:
        """The rows from there on that are as wide, without blanks around the values."""
        return [[value.strip() for value in values] for values in self._written]

    @cached_property
    def _written(self) -> list[list[str]]:
        chosen = (r.values for r in self.records[self.first :] if fits_width(r, self.width))
        return [[value or "" for value in values[: self.width]] for values in chosen]

    @cached_property
    def ends_lines(self) -> bool:
        """Whether all rows end with the delimiter."""
        return bool(self.records) and all(len(r.values) > count_filled(r) for r in self.records[self.first :])

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
        if not self.consistency:
            return len(self.head.lines)
        return len(self.records) - self.first + self.broken - len(self.rows)

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


def fits_width(record: Record, width: int) -> bool:
    """Whether a record has so many fields. Empty ones beyond them do not count."""
    return len(record.values) >= width >= count_filled(record)


def count_filled(record: Record) -> int:
    """Return the number of fields up to the last one that is not empty."""
    size = len(record.values)
    while size and not (record.values[size - 1] or "").strip():
        size -= 1
    return size


def _is_plain(value: str) -> bool:
    """Whether a field looks like one value. A tab at its end is a sign that it does not."""
    text = value.strip(" ")
    is_nested = (text[:1], text[-1:]) in (("{", "}"), ("[", "]"))
    return is_nested or kind_of(text) != "text" or not _DISTURBING.search(text)
