"""Let Prefect's transactions take SQLite's write lock where they begin, in the server that we start.

Most of them read first and write then. If another transaction has written in between, SQLite refuses the write with
"database is locked" at once, however long the timeout. Prefect's API then answers 503, after which its client sleeps
for two seconds and more, until it has no tries left. Its automations evaluate the whole event again, also the triggers
that have fired, so that people are told twice; after four failures they drop it, and nobody is told.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

_begin = AioSqliteConfiguration.begin_transaction


def lock_before_reading() -> None:
    """Let every transaction of Prefect's SQLite wait for its lock where it begins, when it can still wait."""
    setattr(AioSqliteConfiguration, "begin_transaction", _begin_locked)  # noqa: B010 # there is no setting for this


@asynccontextmanager
async def _begin_locked(
    configuration: AioSqliteConfiguration, session: AsyncSession, with_for_update: bool = False
) -> AsyncIterator[AsyncSessionTransaction]:
    async with _begin(configuration, session, with_for_update=True) as transaction:
        yield transaction
