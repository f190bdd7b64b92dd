"""Find declared columns of a log that exist in none of its lines."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import MissingColumns
from penstock.sources.logs.formats import FormatParser
from penstock.sources.logs.records import FIELDS

_PAGE = 5_000
_DEEPEST = 6


class DeclaredColumns:
    """The columns of a source's spec, until each was seen in a line."""

    def __init__(self, name: str, columns: Sequence[str], parser: FormatParser) -> None:
        self.name = name
        self.unseen = tuple(columns)
        self._parser = parser
        self._sample: str | None = None

    def see(self, lines: Any) -> None:
        """Look for the columns in lines."""
        if self.unseen and len(lines):
            found = self._parser.find_columns(lines)
            self.unseen = tuple(column for column in self.unseen if column not in found)
            self._sample = lines[0].as_py()

    def find_landed(self, database: Database, table: sa.Table) -> None:
        """Look for the columns in the lines that were landed before."""
        for column in self.unseen:
            for lines in _pages(database, table, _last_name(column)):
                self.see(lines)
                if column not in self.unseen:
                    break
        if self.unseen and self._sample is None:
            self.see(next(_pages(database, table, ""), pa.array([], pa.string())))

    def refuse_unseen(self) -> None:
        """Refuse columns that no line has. Without any line nothing is known.

        Raises:
            MissingColumns: names the columns and the nearest key of a line.
        """
        if self.unseen and self._sample is not None:
            raise MissingColumns(f"source `{self.name}`: each of its lines", self.unseen, _keys(self._sample))


def _last_name(column: str) -> str:
    """Return the last part of a dotted key that is a name, as it stands in a line."""
    parts = [part for part in column.split(".") if not part.isdigit()]
    return parts[-1] if parts else column


def _pages(database: Database, table: sa.Table, text: str) -> Iterator[Any]:
    after = ("", -1)
    while True:
        beyond = sa.or_(table.c.file_id > after[0], sa.and_(table.c.file_id == after[0], table.c.offset > after[1]))
        query = sa.select(table.c.file_id, table.c.offset, table.c.line).where(beyond)
        query = query.where(table.c.line.contains(text, autoescape=True)) if text else query
        with database.reading() as connection:
            rows = connection.execute(query.order_by(table.c.file_id, table.c.offset).limit(_PAGE)).all()
        if not rows:
            return
        yield pa.array([row.line for row in rows], pa.string())
        after = (rows[-1].file_id, rows[-1].offset)


def _keys(line: str) -> tuple[str, ...]:
    """Return the keys of a line, nested ones with dots."""
    if line.startswith(FIELDS):
        return tuple(line.partition("\n")[0].removeprefix(FIELDS).split())
    try:
        return tuple(_nested("", json.loads(line), _DEEPEST))
    except ValueError:
        return ()


def _nested(prefix: str, value: Any, depth: int) -> Iterator[str]:
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield f"{prefix}{key}"
        if depth:
            yield from _nested(f"{prefix}{key}.", inner, depth - 1)
