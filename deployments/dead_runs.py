"""End flow runs whose process died. Otherwise Prefect shows them as running for ever and keeps their slot."""

import logging
from collections.abc import Collection
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

from penstock.database.connections import close_engines
from penstock.deployments.deploy.work_pool import WORK_POOL
from penstock.deployments.worker.process import WORKER_NAME
from penstock.errors import PenstockError, SpecError
from penstock.ledger.dead_runs import abandon_runs_of
from penstock.resources.processes import is_alive
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks import process_resources
from penstock.tasks.fan_out import PAGE, online_workers

logger = logging.getLogger(__name__)

UNFINISHED = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
DIED = (
    "Its process died with its worker. What it published stays, and the next run scores what is missing. "
    "A restate must be started again: `penstock doctor` names the command."
)


def end_dead_runs(client: SyncPrefectClient) -> int:
    """Set flow runs of our work pool whose process is gone to Crashed. Return their number.

    Call this while our worker is not running, for a server on this machine, because process ids are only valid here. A
    run without a process goes back to the queue, unless another worker may be starting it. The leases of the dead runs
    end, so that the next run need not wait for them.
    """
    runs = _unfinished(client, pool=WORK_POOL)
    alone = not (list_online_workers(client) - {WORKER_NAME})
    dead: list[FlowRun] = []
    for run in runs:
        if run.infrastructure_pid is None and not alone:
            continue
        if run.infrastructure_pid is not None and _lives(run.infrastructure_pid):
            continue
        if run.state_type is StateType.PENDING and run.infrastructure_pid is None:
            client.set_flow_run_state(run.id, Scheduled(), force=True)
            continue
        dead.append(run)
    families = [_family(client, run) for run in dead]
    release_leases({str(each.id) for family in families for each in family})
    for each in (each for family in families for each in family):
        _end(client, each)
    return len(dead)


def release_leases(flow_run_ids: Collection[str]) -> None:
    """End the leases of dead flow runs in every ledger of this project. One that does not answer keeps its leases."""
    if not flow_run_ids:
        return
    for name in _warehouses():
        try:
            abandon_runs_of(process_resources.connect(name), flow_run_ids)
        except PenstockError as error:  # the leases end by themselves
            logger.warning("could not end the leases of dead runs in `%s`: %s", name, error)
        finally:
            close_engines()  # a DuckDB file that stays open would keep the runs out


def _warehouses() -> set[str]:
    """Return the connections that a pipeline of the folder writes to, and the default one."""
    names = {"warehouse"}
    for file in process_resources.settings().pipelines.glob("*.yaml"):
        try:
            names.add(load_pipeline(file).destination.connection)
        except SpecError:
            continue  # its leases end by themselves
    return names


def list_online_workers(client: SyncPrefectClient) -> set[str]:
    """Return the names of the workers of our pool that are online."""
    return set(online_workers(client, WORK_POOL))


def _family(client: SyncPrefectClient, run: FlowRun) -> list[FlowRun]:
    """Return a flow run after its subflows, without child runs of deployments, which have their own process."""
    children = [child for child in _unfinished(client, parent=run.id) if child.deployment_id is None]
    return [*(each for child in children for each in _family(client, child)), run]


def _end(client: SyncPrefectClient, run: FlowRun) -> None:
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
    return not pid.isdecimal() or is_alive(int(pid))
