"""A cursor that met a lock must not stop the event loop of Prefect's server."""

import subprocess
import sys
from pathlib import Path

FREED_WHILE_ITS_CONNECTION_WAITS = """
import asyncio
import gc
import sys

import aiosqlite

from penstock.deployments.server.failed_cursors import close_failed_cursors

close_failed_cursors()

async def meet():
    one, two = [await aiosqlite.connect(sys.argv[1], isolation_level=None, timeout=30) for _ in "12"]
    await one.execute("create table t (a integer)")
    await one.execute("pragma busy_timeout = 0")
    await two.execute("begin immediate")
    cursor = await one.cursor()
    try:
        await cursor.execute("insert into t values (1)")
    except aiosqlite.OperationalError as error:
        print(error)
    await one.execute("pragma busy_timeout = 30000")
    waiting = asyncio.ensure_future(one.execute("begin immediate"))
    while not one._tx.empty():
        await asyncio.sleep(0)
    await asyncio.sleep(0.2)  # its thread is in SQLite by then; earlier, the test would only be milder
    del cursor
    gc.collect()
    await two.execute("commit")
    try:
        await waiting
        print("got the lock")
    finally:
        await one.close()
        await two.close()

asyncio.run(meet())
"""


def test_cursor_that_met_a_lock_is_freed_without_stopping_who_holds_the_next_one(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FREED_WHILE_ITS_CONNECTION_WAITS, str(tmp_path / "server.db")]

    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.stdout.splitlines() == ["database is locked", "got the lock"], ended.stderr
