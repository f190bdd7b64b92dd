"""End flow runs whose process died. Otherwise Prefect shows them as running for ever and keeps their slot."""

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
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Crashed, Scheduled

from penstock.deployments.deploy.work_pool import WORK_POOL
from penstock.deployments.worker.process import WORKER_NAME
from penstock.tasks.fan_out import PAGE, online_workers

UNFINISHED = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
DIED = (
    "Its process died with its worker. What it published stays; the next run heals the rest once its lease has ended."
)


def end_dead_runs(client: SyncPrefectClient) -> int:
    """Set flow runs of our work pool whose process is gone to Crashed. Return their number.

    Call this while our worker is not running, for a server on this machine, because process ids are only valid here. A
    run without a process goes back to the queue, unless another worker may be starting it.
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
    return set(online_workers(client, WORK_POOL))


def _end_family(client: SyncPrefectClient, run: FlowRun) -> None:
    """End a flow run and its subflows, but not child runs of deployments, which have their own process."""
    for child in _unfinished(client, parent=run.id):
        if child.deployment_id is None:
            _end_family(client, child)
    cancelling = run.state_type is StateType.CANCELLING
    state: State[object] = Cancelled(message=DIED) if cancelling else Crashed(message=DIED)
    client.set_flow_run_state(run.id, state, force=True)


def _unfinished(client: SyncPrefectClient, *, pool: str | None = None, parent: UUID | None = None) -> list[FlowRun]:
    """Return all unfinished flow runs."""
    found: list[FlowRun] = []
    while page := client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(UNFINISHED))),
            parent_flow_run_id=None if parent is None else FlowRunFilterParentFlowRunId(any_=[parent]),
        ),
        work_pool_filter=None if pool is None else WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        sort=FlowRunSort.ID_DESC,  # ids are unique, so that no page repeats a flow run or leaves one out
        limit=PAGE,
        offset=len(found),
    ):
        found += page
    return found


def _lives(pid: str) -> bool:
    """Whether a process of this machine has the id. IDs of other machines count as alive."""
    if not pid.isdecimal():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = Path("/proc", pid, "stat")  # a dead process that is not reaped still accepts signals
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")
