"""An automation's trigger must not lose its place to another writer between its read and its write."""

import os
import subprocess
import sys
from pathlib import Path

from prefect.server.events import triggers

WRITTEN_BETWEEN_READ_AND_WRITE = """
import asyncio
import sqlite3
import sys

import sqlalchemy as sa
from prefect.server.events import triggers

from deployments.bucket_locks import lock_buckets_before_reading

lock_buckets_before_reading()

async def meet():
    other = sqlite3.connect(sys.argv[1], timeout=0)
    other.execute("create table t (a integer)")
    async with triggers.automations_session(begin_transaction=True) as session:
        await session.execute(sa.text("select count(*) from t"))
        try:
            other.execute("insert into t values (1)")
            other.commit()
        except sqlite3.OperationalError as error:
            print("the other:", error)
        await session.execute(sa.text("insert into t values (2)"))
    print("wrote", other.execute("select a from t").fetchall())

asyncio.run(meet())
"""


def test_trigger_that_has_read_its_bucket_can_write_it(tmp_path: Path) -> None:
    database = tmp_path / "server.db"
    environment = os.environ | {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}"}
    command = [sys.executable, "-W", "ignore", "-c", WRITTEN_BETWEEN_READ_AND_WRITE, str(database)]

    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert ended.stdout.splitlines() == ["the other: database is locked", "wrote [(2,)]"], ended.stderr


def test_prefect_evaluates_triggers_in_the_session_that_we_replace() -> None:
    assert "automations_session" in triggers.reactive_evaluation.__code__.co_names
