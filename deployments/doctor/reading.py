"""Read the facts about Penstock's objects from a Prefect server, once."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.schemas.automations import EventTrigger
from prefect.exceptions import ObjectNotFound

from penstock.deployments.dead_runs import list_online_workers
from penstock.deployments.deploy.automations import define_zombie_automation
from penstock.deployments.deploy.definition import is_of_old_version
from penstock.deployments.deploy.reconcile import describe_paused_schedules
from penstock.deployments.deploy.work_pool import WORK_POOL, starts_old_engine
from penstock.deployments.doctor.asking import client_of
from penstock.report.status_sections import describe_pause
from penstock.tasks.deployed import find_next_run, list_ours, read_pause

HEARTBEAT = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
PREFECTS_HEARTBEAT = 180


@dataclass(frozen=True)
class Deployed:
    """One of our deployments."""

    name: str
    """The full name, as in `score/card-risk`."""
    is_scheduled: bool
    collision: str | None
    heartbeat_seconds: int
    age: timedelta
    """Time since the last change. The server plans the runs some seconds after a change."""
    next_run: datetime | None
    """Of the runs that have not started, the one that should start first."""
    pause: str = ""
    """As in `paused (15 2 * * * Europe/Paris)`. Empty if nothing is paused."""
    reason: str = ""
    """Who paused it, when and why, if that was said."""
    is_of_old_version: bool = False
    """Whether it names its flow or its pull step as 0.1 did."""


@dataclass(frozen=True)
class Pool:
    """The work pool and its workers."""

    is_paused: bool
    workers: frozenset[str]
    """Those online."""
    starts_old_engine: bool = False
    """Whether it starts flow runs with the command of 0.1."""


@dataclass(frozen=True)
class Facts:
    """All facts that are judged."""

    now: datetime
    deployments: tuple[Deployed, ...]
    pool: Pool | None
    zombie_seconds: float | None
    """Seconds without a heartbeat after which a run counts as dead. None without the automation."""

    @property
    def is_scheduled(self) -> bool:
        return any(deployment.is_scheduled for deployment in self.deployments)


def read_facts(api_url: str, now: datetime, zone: str = "UTC") -> Facts:
    """Read the deployments with their next runs, the work pool, and the zombie automation.

    Args:
        zone: Time zone of the times in texts.
    """
    with client_of(api_url) as client:
        found = list_ours(client)
        flows = {each.flow_id: client.read_flow(each.flow_id).name for each in found}
        return Facts(
            now=now,
            deployments=tuple(
                _describe(client, each, f"{flows[each.flow_id]}/{each.name}", now, zone) for each in found
            ),
            pool=_read_pool(client),
            zombie_seconds=_read_patience(client),
        )


def _describe(
    client: SyncPrefectClient, deployment: DeploymentResponse, name: str, now: datetime, zone: str
) -> Deployed:
    scheduled = not deployment.paused and any(schedule.active for schedule in deployment.schedules)
    variables: dict[str, Any] = deployment.job_variables.get("env") or {}
    options = deployment.concurrency_options
    pause = read_pause(client, deployment)
    return Deployed(
        name=name,
        is_scheduled=scheduled,
        collision=options.collision_strategy if options else None,
        heartbeat_seconds=int(variables.get(HEARTBEAT, PREFECTS_HEARTBEAT)),
        age=now - deployment.updated if deployment.updated else timedelta.max,
        next_run=find_next_run(client, deployment) if scheduled else None,
        pause=describe_paused_schedules(deployment),
        reason=describe_pause(pause, zone) if pause and pause.reason else "",
        is_of_old_version=is_of_old_version(deployment.entrypoint, deployment.pull_steps),
    )


def _read_pool(client: SyncPrefectClient) -> Pool | None:
    try:
        pool = client.read_work_pool(WORK_POOL)
    except ObjectNotFound:
        return None
    workers = frozenset(list_online_workers(client))
    return Pool(pool.is_paused, workers, starts_old_engine(pool.base_job_template))


def _read_patience(client: SyncPrefectClient) -> float | None:
    for automation in client.read_automations_by_name(define_zombie_automation().name):
        if automation.enabled and isinstance(automation.trigger, EventTrigger):
            return automation.trigger.within.total_seconds()
    return None
