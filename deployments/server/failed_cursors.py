"""Close SQLite cursors whose statement met a lock, in the server of `penstock up` and `penstock run`.

Python's sqlite3 leaves the statement of such a cursor unfinished, and SQLAlchemy leaves a failed cursor open. When the
event loop frees the cursor, SQLite waits for the cursor's connection. If the connection's thread is waiting for the
lock again, the event loop stops for as long (60 s in Prefect's server), and so does the coroutine that has the lock.
"""

import sqlite3
from collections.abc import Callable
from typing import Any

import aiosqlite


def close_failed_cursors() -> None:
    """Make every cursor of this process close in its own thread as soon as a statement fails."""
    setattr(aiosqlite.Cursor, "_execute", _execute)  # noqa: B010 # mypy refuses to assign to a method


async def _execute(cursor: Any, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return await cursor._conn._execute(_call_or_close, cursor._cursor, call, *args, **kwargs)


def _call_or_close(cursor: sqlite3.Cursor, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return call(*args, **kwargs)
    except sqlite3.Error:
        cursor.close()
        raise
