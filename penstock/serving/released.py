"""Open databases for a moment: a DuckDB file that a server kept open would stop every run."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from threading import Lock

import sqlalchemy as sa

from penstock.database.connections import Connector, Database

_users: Counter[sa.Engine] = Counter()
"""Blocks that use an engine now. All threads share one engine for a file."""
_users_lock = Lock()


@contextmanager
def released(database: Database) -> Iterator[None]:
    """Close a file that only one process can open at the end of the block, or of the last block that uses it.

    A block that closed it earlier would leave the connections of the other ones in a pool that nobody closes.
    """
    if not database.sql.one_process:
        yield
        return
    engine = database.engine
    with _users_lock:
        _users[engine] += 1
    try:
        yield
    finally:
        with _users_lock:
            _users[engine] -= 1
            if not _users[engine]:
                del _users[engine]
                engine.dispose()


@contextmanager
def release_files(connect: Connector) -> Iterator[Connector]:
    """Give a connector whose files that only one process can open are closed at the end of the block."""
    with ExitStack() as opened:

        def connect_noted(name: str) -> Database:
            database = connect(name)
            opened.enter_context(released(database))
            return database

        yield replace(connect, open=connect_noted)
