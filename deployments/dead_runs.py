"""Flow runs whose process died without a word: Prefect shows them as running for ever, and keeps their slot."""

import os
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, WorkerStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Crashed, Scheduled

from penstock.deployments.deploy.work_pool import WORK_POOL
from penstock.deployments.worker.process import WORKER_NAME

UNFINISHED = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
DIED = (
    "Its process died with its worker. What it published stays; the next run heals the rest once its lease has ended."
)


def end_dead_runs(client: SyncPrefectClient) -> int:
    """Tell Prefect that the flow runs of our work pool whose process is gone have crashed; returns how many.

    Call it while our worker is not running, on a server of this machine: a process id means nothing elsewhere. A run
    that had not got its process yet goes back to the queue, unless another worker may be just starting it.
    """
    runs = _unfinished(client, pool=WORK_POOL)
    alone = not (list_online_workers(client) - {WORKER_NAME})
    ended = 0
    for run in runs:
        if run.infrastructure_pid is None and not alone:
            continue
        if run.infrastructure_pid is not None and _lives(run.infrastructure_pid):
            continue
        if run.state_type is StateType.PENDING and run.infrastructure_pid is None:
            client.set_flow_run_state(run.id, Scheduled(), force=True)
            continue
        _end_family(client, run)
        ended += 1
    return ended


def list_online_workers(client: SyncPrefectClient) -> set[str]:
    """Return the names of the workers of our pool that are online."""
    workers = client.read_workers_for_work_pool(WORK_POOL, offset=0, limit=200)
    return {worker.name for worker in workers if worker.status is WorkerStatus.ONLINE}


def _end_family(client: SyncPrefectClient, run: FlowRun) -> None:
    """End a flow run and its subflows; a child that a deployment runs has a process of its own."""
    for child in _unfinished(client, parent=run.id):
        if child.deployment_id is None:
            _end_family(client, child)
    cancelling = run.state_type is StateType.CANCELLING
    state: State[object] = Cancelled(message=DIED) if cancelling else Crashed(message=DIED)
    client.set_flow_run_state(run.id, state, force=True)


def _unfinished(client: SyncPrefectClient, *, pool: str | None = None, parent: UUID | None = None) -> list[FlowRun]:
    """Return flow runs, the oldest 200 at most, that some process should be at."""
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(UNFINISHED))),
            parent_flow_run_id=None if parent is None else FlowRunFilterParentFlowRunId(any_=[parent]),
        ),
        work_pool_filter=None if pool is None else WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        sort=FlowRunSort.START_TIME_ASC,
        limit=200,
    )


def _lives(pid: str) -> bool:
    """Whether a process of this machine has the id; what is no process id is another machine's business."""
    if not pid.isdecimal():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = Path("/proc", pid, "stat")  # a dead process that nobody has reaped yet still takes signals
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")
