"""Open databases for a moment: a DuckDB file that a server kept open would stop every run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from penstock.database.connections import Connector, Database
from penstock.run.placement import shuts_others_out


@contextmanager
def release_files(connect: Connector) -> Iterator[Connector]:
    """Give a connector whose files that only one process can open are closed at the end of the block."""
    opened: list[Database] = []

    def connect_noted(name: str) -> Database:
        opened.append(connect(name))
        return opened[-1]

    try:
        yield replace(connect, open=connect_noted)
    finally:
        for database in opened:
            if shuts_others_out(database):
                database.engine.dispose()
