"""A transaction of Prefect's server must not lose its place to another writer between its read and its write."""

import os
import subprocess
import sys
from pathlib import Path

WRITTEN_BETWEEN_READ_AND_WRITE = """
import asyncio
import sqlite3
import sys

import sqlalchemy as sa
from prefect.server.database import provide_database_interface

from penstock.deployments.server.write_locks import lock_before_reading

lock_before_reading()

async def meet():
    other = sqlite3.connect(sys.argv[1], timeout=0)
    other.execute("create table t (a integer)")
    async with provide_database_interface().session_context(begin_transaction=True) as session:
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


def test_transaction_of_prefects_server_that_has_read_can_write(tmp_path: Path) -> None:
    database = tmp_path / "server.db"
    environment = os.environ | {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}"}
    command = [sys.executable, "-W", "ignore", "-c", WRITTEN_BETWEEN_READ_AND_WRITE, str(database)]

    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert ended.stdout.splitlines() == ["the other: database is locked", "wrote [(2,)]"], ended.stderr
