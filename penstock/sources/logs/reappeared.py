"""Lines that a file has again: it was cut to a part of what had been read of it, as after a crash of its file system.

Such a file cannot be told from a new one by what is known of it (`log_files`), but its first lines stand landed, at the
same offsets, under the id that it had before.
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
    """What a log source has landed, line by line: the readable ones in a table of its own, the others in the ledger."""

    database: Database
    table: sa.Table
    pipeline: str
    source: str
    known: Sequence[KnownFile]

    def drop_again(self, batch: LineBatch) -> LineBatch:
        """Take out of a batch the lines that were landed of the same path before; only a file's beginning counts."""
        former = [f for f in self.known if f.path == batch.file.path and f.file_id != batch.file.file_id]
        if not former or not len(batch.lines) or self._lines(batch.file.file_id, 0, batch.start, at_most=1):
            return batch
        again = max(self._count_again(batch, file.file_id) for file in former)
        columns = {name: getattr(batch, name).slice(again) for name in ("offsets", "lines", "broken", "oversize")}
        return replace(batch, **columns) if again else batch

    def _count_again(self, batch: LineBatch, file_id: str) -> int:
        offsets: list[int] = batch.offsets.to_pylist()  # type: ignore[assignment] # none is NULL
        lines = zip(offsets, batch.lines.to_pylist(), strict=True)
        first = self._lines(file_id, offsets[0], offsets[0])
        if first.get(offsets[0]) not in (batch.lines[0].as_py(), HIDDEN):  # nearly always the file is another
            return 0
        before = self._lines(file_id, offsets[0], offsets[-1])
        return len(list(takewhile(lambda line: before.get(line[0]) in (line[1], HIDDEN), lines)))

    def _lines(self, file_id: str, first: int, last: int, at_most: int | None = None) -> dict[int, str]:
        """Return the text by offset of a file's lines in a span."""
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
