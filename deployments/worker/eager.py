"""Look for flow runs at short intervals while they begin, so that a backfill's next one starts soon."""

import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import anyio
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.workers.base import BaseWorker

EAGER_SECONDS, LOOK_SECONDS = 5.0, 0.25
"""After it has found a flow run, the worker looks for others this often and this long: a backfill starts the next."""
FULL_SECONDS = 2.0
"""Meanwhile it also takes the runs that wait for a slot this often, which are not due yet."""


async def take_flow_runs(worker: BaseWorker[Any, Any, Any]) -> None:
    """Take the flow runs that are due, and while there have just been new ones, look again at short intervals."""
    until, known = 0.0, set[UUID]()
    while True:
        found = {flow_run.id for flow_run in await worker.get_and_submit_flow_runs()}
        if found - known:  # a run that waits for its slot is found again and again
            until = time.monotonic() + EAGER_SECONDS
        known |= found
        next_full, due = time.monotonic() + FULL_SECONDS, False
        while not due and time.monotonic() < next_full:
            if time.monotonic() >= until:
                return
            await anyio.sleep(LOOK_SECONDS)
            due = await _is_one_due(worker)


async def _is_one_due(worker: BaseWorker[Any, Any, Any]) -> bool:
    """Whether a flow run of the pool is due. The worker's own request costs the server three times as much."""
    scheduled = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    by_now = FlowRunFilterNextScheduledStartTime(before_=datetime.now(UTC))
    found = await worker.client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=scheduled, next_scheduled_start_time=by_now),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[worker.work_pool.name])),
        limit=1,
    )
    return bool(found)
