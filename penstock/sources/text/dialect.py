"""How the text files of a source are written: every field is decided."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

LINES, ARRAY = "lines", "array"
"""Where the records of a JSON file are: one a line, or in one array that is the whole file."""

SHOWN_BY_ALL_ROWS = ("null", "decimal", "thousands")
"""Fields of a CSV dialect that are guessed from all rows, and not from the beginnings of the files."""


def untitled_name(position: int) -> str:
    """Return the name of a column without a title. It is the same in files of any width."""
    return f"column{position}"


@dataclass(frozen=True)
class Dialect:
    """How the text files of a source are written. Every field is decided."""

    format: str
    """`csv` or `json`. For documents, which have no dialect, `text` or `blob`."""
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
    timezone: str = "UTC"
    """Time zone of timestamps without one."""
    undecided: tuple[str, ...] = ()
    """Fields that only all rows show: `guess_types` decides them."""

    @classmethod
    def from_facts(cls, facts: Mapping[str, str], base: "Dialect") -> "Dialect":
        """Return a dialect with the values that a contract has."""
        read = {name: json.loads(text) for name, text in facts.items() if name in _CONTRACT[base.format]}
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in read.items()}
        return replace(base, **values)

    def facts(self) -> dict[str, str]:
        """Return what becomes part of a contract, each value as JSON. Fields that are not decided are left out."""
        decided = (name for name in _CONTRACT.get(self.format, ()) if name not in self.undecided)
        return {name: json.dumps(getattr(self, name), ensure_ascii=False) for name in decided}


_CONTRACT = {
    "csv": ("encoding", "delimiter", "quote", "escape", "header", "skip", "comment", "null", "decimal", "thousands"),
    "json": ("encoding", "records"),
}
"""The fields that later files are read by."""
