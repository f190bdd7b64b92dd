"""Close the SQLite cursors whose statement met a lock, in the server that `penstock up` and `penstock run` start.

Python's sqlite3 leaves such a cursor's statement unfinished. When the cursor is freed, which the event loop does,
SQLite waits for its connection. If the connection's thread waits for the lock again by then, the loop stands still for
as long, 60 s in Prefect's server, and with it whoever holds the lock and would give it back. SQLAlchemy leaves a cursor
that failed open.
"""

import sqlite3
from collections.abc import Callable
from typing import Any

import aiosqlite


def close_failed_cursors() -> None:
    """Let every cursor of this process be closed by its own thread as soon as a statement fails."""
    setattr(aiosqlite.Cursor, "_execute", _execute)  # noqa: B010 # there is no hook for this


async def _execute(cursor: Any, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return await cursor._conn._execute(_call_or_close, cursor._cursor, call, *args, **kwargs)


def _call_or_close(cursor: sqlite3.Cursor, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return call(*args, **kwargs)
    except sqlite3.Error:
        cursor.close()
        raise
