"""Find lines that appear again because a file was cut to a part of itself, as after a crash of its file system.

By its entry in `log_files`, such a file looks like a new one. But its first lines are already landed at the same
offsets, under the file's former id.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.ledger.tables import log_lines
from penstock.privacy.masking import HIDDEN
from penstock.sources.logs.files import KnownFile, LineBatch


@dataclass(frozen=True)
class LandedBefore:
    """The landed lines of a log source: readable ones in its own table, the others in the ledger."""

    database: Database
    table: sa.Table
    pipeline: str
    source: str
    known: Sequence[KnownFile]

    def drop_again(self, batch: LineBatch) -> LineBatch:
        """Remove lines that were landed from the same path before. Only the beginning of a file is checked."""
        former = [f for f in self.known if f.path == batch.file.path and f.file_id != batch.file.file_id]
        if not former or not len(batch.lines) or self._lines(batch.file.file_id, 0, batch.start, at_most=1):
            return batch
        again = max(self._count_again(batch, file.file_id) for file in former)
        columns = {name: getattr(batch, name).slice(again) for name in ("offsets", "lines", "broken", "oversize")}
        return replace(batch, **columns) if again else batch

    def _count_again(self, batch: LineBatch, file_id: str) -> int:
        offsets: list[int] = batch.offsets.to_pylist()  # type: ignore[assignment] # no offset is NULL
        lines = zip(offsets, batch.lines.to_pylist(), strict=True)
        first = self._lines(file_id, offsets[0], offsets[0])
        if first.get(offsets[0]) not in (batch.lines[0].as_py(), HIDDEN):  # nearly always it is another file
            return 0
        before = self._lines(file_id, offsets[0], offsets[-1])
        return len(list(takewhile(lambda line: before.get(line[0]) in (line[1], HIDDEN), lines)))

    def _lines(self, file_id: str, first: int, last: int, at_most: int | None = None) -> dict[int, str]:
        """Return the lines of a file in a span, by offset."""
        found: dict[int, str] = {}
        owned = (log_lines.c.pipeline == self.pipeline, log_lines.c.source == self.source)
        with self.database.reading() as connection:
            for table, mine in ((self.table, ()), (log_lines, owned)):
                query = sa.select(table.c.offset, table.c.line)
                query = query.where(*mine, table.c.file_id == file_id, table.c.offset.between(first, last)).limit(
                    at_most
                )
                found |= dict(connection.execute(query).tuples().all())
        return found
