"""Let the landings of one log source take turns, and count them.

A landing is read from the file before its transaction begins. Another process may land the same lines in between. The
count shows it: a landing commits only if the count is the same as when it read the file's offset.
"""

from typing import Any, Protocol

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import KeyCollision
from penstock.ledger.tables import log_sources


class _Transaction(Protocol):
    def execute(self, statement: sa.Update) -> Any: ...


def create_counter(database: Database, pipeline: str, source: str) -> None:
    """Create the log source's row, unless it is there."""
    with database.reading() as connection:
        if connection.execute(select_landings(pipeline, source)).first():
            return
    try:
        with database.writing() as connection:
            connection.execute(log_sources.insert().values(pipeline=pipeline, source=source, landings=0))
    except KeyCollision:
        pass  # another process has just created the same row


def lock_landings(transaction: _Transaction, pipeline: str, source: str) -> None:
    """Write the log source's row as it is. Other landings wait or fail until this transaction has ended."""
    _set(transaction, pipeline, source, log_sources.c.landings)


def count_landing(transaction: _Transaction, pipeline: str, source: str) -> None:
    """Count this transaction as a landing."""
    _set(transaction, pipeline, source, log_sources.c.landings + 1)


def select_landings(pipeline: str, source: str) -> sa.Select[tuple[int]]:
    """Return the query for the number of landings so far."""
    return sa.select(log_sources.c.landings).where(*_same(pipeline, source))


def _set(transaction: _Transaction, pipeline: str, source: str, landings: sa.ColumnElement[int]) -> None:
    transaction.execute(sa.update(log_sources).where(*_same(pipeline, source)).values(landings=landings))


def _same(pipeline: str, source: str) -> tuple[sa.ColumnElement[bool], ...]:
    return log_sources.c.pipeline == pipeline, log_sources.c.source == source
