"""How the text files of a source are written, as it was stated, kept by the contract, or guessed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.spec.pipeline import FilesSource

LINES, ARRAY = "lines", "array"
"""Where the records of a JSON file are: one a line, or in one array that is the whole file."""


def untitled_name(position: int) -> str:
    """Return the name of a column without a title. It is the same in files of any width."""
    return f"column{position}"


@dataclass(frozen=True)
class Dialect:
    """How the text files of a source are written. Every field is decided."""

    format: str
    """`csv` or `json`."""
    encoding: str = "utf-8"
    """Encoding of files without a byte order mark."""
    delimiter: str = ","
    """One character, or `blanks`."""
    quote: str = '"'
    """One character. Empty: no field is quoted."""
    escape: str = ""
    """Character before a quote in a quoted field. Empty: the quote is doubled."""
    header: bool = True
    names: tuple[str, ...] = ()
    """Names of the columns. Empty: those of each file's header, or `untitled_name` of each position."""
    skip: int = 0
    """Lines before the header, or before the first row, that are not read."""
    comment: str = ""
    """Lines that begin with it are not read. Empty: all lines are read."""
    null: tuple[str, ...] = ("",)
    """Texts that mean NULL, without blanks around them."""
    decimal: str = "."
    thousands: str = ""
    """Mark between groups of three digits. Empty: numbers have none."""
    date_format: str = ""
    timestamp_format: str = ""
    """Formats of columns that have none of their own. Empty: not stated."""
    records: str = LINES
    """Where the records of a JSON file are: `lines`, `array`, or keys with dots between them."""


def guess_dialect(
    name: str, source: FilesSource, files: Sequence[Path], contract: Mapping[str, str] | None = None
) -> Dialect:
    """Decide how the files of a source are written: what is stated, else what the contract has, else a guess.

    Args:
        contract: the facts of an earlier guess, by which later files are read.

    Raises:
        AmbiguousDialect: the files can be read in several ways, and the spec does not say which one is meant.
    """
    raise NotImplementedError
