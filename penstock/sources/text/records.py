"""What the readers of text files yield: rows of raw text, and lines that are no row."""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.sources.text.decoding import show_stray_bytes

MOST_TEXT = 2_000
"""Characters of a refused line that are kept."""
UNDECODED = "bytes that are not of the file's encoding"


@dataclass(slots=True, eq=False)
class Record:
    """One row as it is written. A record may have several lines."""

    number: int
    """Its number among the records of its file, from 0, refused ones included."""
    line: int
    """The number of its first line in the file, from 1."""
    last_line: int
    values: Sequence[str | None]
    """The values in the order of the columns. Columns beyond the last value have none."""
    text: str
    """The lines as they are in the file."""


@dataclass(frozen=True)
class RefusedRecord:
    """Lines that are no row."""

    number: int
    line: int
    text: str
    """The lines, at most `MOST_TEXT` characters."""
    reason: str


def refused(number: int, line: int, text: str, reason: str) -> RefusedRecord:
    """Return the refusal of a record, with as much of its text as is kept."""
    return RefusedRecord(number, line, show_stray_bytes(text[:MOST_TEXT]).rstrip("\r\n"), reason)
