"""What a server does beside answering: it takes new models and snapshots, and records."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from penstock.serving.served_pipeline import ServedPipeline

logger = logging.getLogger(__name__)

_OPENING_SECONDS = 30.0
"""How long a process may open its models before it takes requests. Those that come before wait, or go to others."""
SNAPSHOT_AGAIN = 10.0
"""Seconds until a snapshot that could not be taken is tried again."""


@asynccontextmanager
async def keep_current(served: Sequence[ServedPipeline], poll_seconds: float) -> AsyncIterator[None]:
    """Keep the models and snapshots of pipelines current within the block, and record what they serve.

    It begins once the models have been looked up. At its end, what waits to be recorded is written.

    Args:
        poll_seconds: Seconds between two looks at the aliases of the models.
    """
    for each in served:
        if each.recorder is not None:
            each.recorder.start()
    looked, look = asyncio.Event(), asyncio.Event()
    watching = [asyncio.create_task(_watch_aliases(served, poll_seconds, looked, look))]
    watching += [asyncio.create_task(_refresh_snapshot(each, look)) for each in served if each.pipeline.holds_snapshot]
    with suppress(TimeoutError):
        await asyncio.wait_for(looked.wait(), _OPENING_SECONDS)
    try:
        yield
    finally:
        for task in watching:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        for each in served:
            each.batches.close()
            if each.recorder is not None:
                await asyncio.to_thread(each.recorder.close)


async def _watch_aliases(
    served: Sequence[ServedPipeline], poll_seconds: float, looked: asyncio.Event, look: asyncio.Event
) -> None:
    """Take the versions that the aliases name, again and again. They are opened aside, while the old ones score.

    Args:
        looked: set after the first time.
        look: set when they are to be looked up at once.
    """
    while True:
        look.clear()
        for each in served:
            try:
                await asyncio.to_thread(each.take_models)
            except Exception:
                logger.exception("%s: its models cannot be looked up", each.name)
        looked.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(look.wait(), poll_seconds)


async def _refresh_snapshot(served: ServedPipeline, look: asyncio.Event) -> None:
    """Take snapshots of a pipeline's other sources, again and again. The first one lets its model be opened."""
    while True:
        taken = await asyncio.to_thread(served.take_snapshot)
        if served.scorer is None:
            look.set()
        refresh = served.limits.refresh.total_seconds()
        await asyncio.sleep(refresh if taken else min(refresh, SNAPSHOT_AGAIN))
