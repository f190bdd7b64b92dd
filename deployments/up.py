"""Run a full Prefect server and a worker, with every pipeline deployed, for `penstock up`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings

from penstock.deployments.dead_runs import end_dead_runs, list_online_workers
from penstock.deployments.deploy.changes import Change
from penstock.deployments.deploy.definition import define_deployment
from penstock.deployments.deploy.deploy_pipelines import deploy_pipelines
from penstock.deployments.deploy.reconcile import describe_paused_schedules
from penstock.deployments.deploy.specs import load_specs
from penstock.deployments.deploy.work_pool import ensure_work_pool
from penstock.deployments.server.local import LocalServer
from penstock.deployments.worker.process import WORKER_NAME, WorkerPlan, has_ended, running_worker
from penstock.errors import SpecError
from penstock.settings import Settings
from penstock.tasks.deployed import list_ours

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a dead worker is restarted, doubled each time."""
STEADY_SECONDS = 120.0
"""A worker that ran for so long is restarted after the first pause."""
TICK_SECONDS = 2.0
SCHEDULE_SECONDS = 10.0
ONLINE_SECONDS = 60.0


@dataclass(frozen=True)
class Deployed:
    """A deployment on the server, and when it runs next."""

    name: str
    """As in `score/card-risk`."""
    scheduled: bool
    next_run: datetime | None
    pause: str = ""
    """As in `paused (15 2 * * * Europe/Paris)`. Empty if nothing is paused."""


def deploy_folder(
    api_url: str, settings: Settings, *, remove_orphans: bool = True
) -> tuple[tuple[Change, ...], tuple[SpecError, ...]]:
    """Deploy the pipelines of the folder that load. If one does not, remove nothing.

    Args:
        remove_orphans: Remove the deployments of files that are gone.

    Raises:
        SettingsError: the server refuses the request.
    """
    sound, broken = [], []
    for file in sorted(settings.pipelines.glob("*.yaml")):
        try:
            define_deployment(load_specs(settings, [file])[file], str(file))
        except SpecError as error:
            broken.append(error)
        else:
            sound.append(file)
    files = sound if broken or not settings.pipelines.is_dir() else None
    return deploy_pipelines(api_url, settings, files, remove_orphans=remove_orphans and files is None), tuple(broken)


def keep_worker(
    server: LocalServer,
    plan: WorkerPlan,
    on_start: Callable[[], None],
    warn: Callable[[str], None],
    on_tick: Callable[[], None] = lambda: None,
) -> None:
    """Keep a worker running until the server ends. Restart it if it dies.

    Args:
        server: A server that this process started.
        on_start: Called once, when the first worker's process exists. It may not be ready yet.
        warn: Called with one sentence about each failure and its repair.
        on_tick: Called every two seconds while the worker runs.
    """
    pause, first = FIRST_PAUSE, True
    while not has_ended(server.pid):
        _end_dead_runs(server.api_url, warn)
        began = time.monotonic()
        try:
            with running_worker(plan) as worker:
                if first:
                    on_start()
                first = False
                ticked = time.monotonic()
                while not worker.has_died() and not has_ended(server.pid):
                    time.sleep(0.5)
                    if time.monotonic() - ticked > TICK_SECONDS:
                        on_tick()
                        ticked = time.monotonic()
        except KeyboardInterrupt:
            _end_dead_runs(server.api_url, warn)  # those that did not report in their last moment
            raise
        if has_ended(server.pid):
            return
        if time.monotonic() - began > STEADY_SECONDS:
            pause = FIRST_PAUSE
        warn(f"The worker died ({worker.describe_end()}). It is restarted in {pause:.0f} s. Log: {plan.log}")
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _end_dead_runs(api_url: str, warn: Callable[[str], None]) -> None:
    with client_of(api_url) as client:
        ensure_work_pool(client)
        dead = end_dead_runs(client)
    if dead:
        warn(f"Flow runs that died with their worker, now set to Crashed: {dead}")


def wait_for_worker(api_url: str) -> bool:
    """Wait until the worker is online. Return False after a minute."""
    deadline = time.monotonic() + ONLINE_SECONDS
    with client_of(api_url) as client:
        while time.monotonic() < deadline:
            if WORKER_NAME in list_online_workers(client):
                return True
            time.sleep(0.3)
    return False


def list_deployed(api_url: str) -> tuple[Deployed, ...]:
    """Return our deployments with their next runs. The server plans a run some seconds after a deployment changed."""
    deadline = time.monotonic() + SCHEDULE_SECONDS
    with client_of(api_url) as client:
        found = list_ours(client)
        flows = {each.flow_id: client.read_flow(each.flow_id).name for each in found}
        while True:
            deployed = [
                Deployed(
                    f"{flows[each.flow_id]}/{each.name}",
                    not each.paused and any(schedule.active for schedule in each.schedules),
                    _next_run(client, each.id),
                    describe_paused_schedules(each),
                )
                for each in found
            ]
            if time.monotonic() > deadline or all(each.next_run or not each.scheduled for each in deployed):
                return tuple(sorted(deployed, key=lambda each: each.name))
            time.sleep(1)


@contextmanager
def client_of(api_url: str) -> Iterator[SyncPrefectClient]:
    """Give a client of the server."""
    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        yield client


def _next_run(client: SyncPrefectClient, deployment: UUID) -> datetime | None:
    planned = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=1,
    )
    return planned[0].expected_start_time if planned else None
