"""Record the archives of a log source that cannot be unpacked.

Each is a row of `log_files` without a hash of its head. Its signature is the reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.ledger.tables import log_files
from penstock.sources.logs.landing_lock import lock_landings


@dataclass(frozen=True)
class SetAside:
    """A file whose lines are missing."""

    path: str
    reason: str


def is_read() -> sa.ColumnElement[bool]:
    """Return the condition of files whose lines were read."""
    return log_files.c.head_hash != ""


def list_set_aside(database: Database, pipeline: str, source: str) -> tuple[SetAside, ...]:
    """Return the archives that could not be unpacked at the last landing."""
    query = sa.select(log_files.c.path, log_files.c.signature).where(*_mine(pipeline, source))
    with database.reading() as connection:
        return tuple(SetAside(*row) for row in connection.execute(query.order_by(log_files.c.path)))


def record_set_aside(database: Database, pipeline: str, source: str, found: Sequence[SetAside]) -> None:
    """Replace the record of earlier landings, if it has changed."""
    if tuple(sorted(found, key=lambda file: file.path)) == list_set_aside(database, pipeline, source):
        return
    nothing = {"head_hash": "", "head_bytes": 0, "offset": 0, "tail_hash": "", "tail_bytes": 0, "complete": False}
    with database.writing() as connection:
        lock_landings(connection, pipeline, source)
        connection.execute(sa.delete(log_files).where(*_mine(pipeline, source)))
        for file in found:
            file_id = f"set aside {sha256(file.path.encode()).hexdigest()[:12]}"
            own = {"pipeline": pipeline, "source": source, "file_id": file_id, "path": file.path}
            connection.execute(log_files.insert().values(**own, signature=file.reason, **nothing))


def _mine(pipeline: str, source: str) -> tuple[sa.ColumnElement[bool], ...]:
    return log_files.c.pipeline == pipeline, log_files.c.source == source, ~is_read()
