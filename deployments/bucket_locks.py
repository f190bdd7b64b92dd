"""Let Prefect's automations take SQLite's write lock before they read, in the server that `penstock up` starts.

For each event Prefect reads how often a trigger has seen one like it, and writes the new count. On SQLite that
transaction reads first: if another one writes in between, it fails with "database is locked" at once, however long the
timeout. Prefect then evaluates the whole event again, with the triggers that have fired already, so that people are
told twice; after four failures it drops the event, and nobody is told.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prefect.server.database import provide_database_interface
from prefect.server.events import triggers
from sqlalchemy.ext.asyncio import AsyncSession


def lock_buckets_before_reading() -> None:
    """Let every transaction that evaluates a trigger wait for its lock where it begins, when it can still wait."""
    setattr(triggers, "automations_session", _locking_session)  # noqa: B010 # there is no setting for this


@asynccontextmanager
async def _locking_session(begin_transaction: bool = False) -> AsyncIterator[AsyncSession]:
    database = provide_database_interface()
    async with database.session_context(begin_transaction=begin_transaction, with_for_update=True) as session:
        yield session
