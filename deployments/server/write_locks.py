"""Make Prefect's transactions begin with SQLite's write lock, in the server that we start.

Most transactions read first and write later. If another transaction has written in between, SQLite refuses the write
at once with "database is locked", however long the timeout. Prefect's API then answers 503, and its client sleeps for
two seconds and more before each retry. Prefect's automations evaluate the whole event again, including triggers that
have fired, so a message may be sent twice. After four failures they drop the event, and no message is sent.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

_begin = AioSqliteConfiguration.begin_transaction


def lock_before_reading() -> None:
    """Make every transaction of Prefect's SQLite wait for the write lock at its beginning, where it can wait."""
    setattr(AioSqliteConfiguration, "begin_transaction", _begin_locked)  # noqa: B010 # there is no setting for this


@asynccontextmanager
async def _begin_locked(
    configuration: AioSqliteConfiguration, session: AsyncSession, with_for_update: bool = False
) -> AsyncIterator[AsyncSessionTransaction]:
    async with _begin(configuration, session, with_for_update=True) as transaction:
        yield transaction
