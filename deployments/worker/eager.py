"""Look for flow runs at short intervals while they begin, so that a backfill's next one starts soon."""

import time
from typing import Any
from uuid import UUID

import anyio
from prefect.workers.base import BaseWorker

EAGER_SECONDS, LOOK_SECONDS = 5.0, 0.25
"""After it has found a flow run, the worker looks for others this often and this long: a backfill starts the next."""


async def take_flow_runs(worker: BaseWorker[Any, Any, Any]) -> None:
    """Take the flow runs that are due, and while there have just been new ones, look again at short intervals."""
    until, known = 0.0, set[UUID]()
    while True:
        found = {flow_run.id for flow_run in await worker.get_and_submit_flow_runs()}
        if found - known:  # a run that waits for its slot is found again and again
            until = time.monotonic() + EAGER_SECONDS
        known |= found
        if time.monotonic() >= until:
            return
        await anyio.sleep(LOOK_SECONDS)
