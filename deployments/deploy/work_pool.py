"""The work pool that all deployments of Penstock run on."""

from copy import deepcopy
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from penstock.deployments.deploy.changes import Change

WORK_POOL = "penstock"
# Without a command, a process worker starts two helpers before each flow process: a resolver that prepares the
# workspace, and a supervisor. Each imports Prefect, which adds seconds of cold start for code that is already here.
# `python` is looked up on the worker's PATH: start workers with their virtual environment's `bin` on it.
ENGINE_COMMAND = "python -m penstock.deployments.engine"
OLD_ENGINE_COMMAND = "python -m deployments.engine"
"""What 0.1 wrote into its work pools."""


def ensure_work_pool(client: SyncPrefectClient, *, dry_run: bool = False) -> Change:
    """Create the work pool, of type process. An existing one keeps its type and the settings a person changed."""
    what = f"work pool {WORK_POOL}"
    try:
        pool = client.read_work_pool(WORK_POOL)
    except ObjectNotFound:
        if not dry_run:
            created = WorkPoolCreate(
                name=WORK_POOL,
                type="process",
                description="Scoring runs of Penstock",
                base_job_template=base_job_template(),
            )
            client.create_work_pool(created)
        return Change("created", what, ("type: process",))
    # A worker that starts before the first deploy makes the pool with Prefect's own template.
    if pool.type == "process" and pool.base_job_template in ({}, ProcessWorker.get_default_base_job_template()):
        if not dry_run:
            client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=base_job_template()))
        return Change("updated", what, (f"command: Prefect's own → {ENGINE_COMMAND}",))
    if starts_old_engine(pool.base_job_template):
        if not dry_run:
            template = deepcopy(pool.base_job_template)
            template["variables"]["properties"]["command"]["default"] = ENGINE_COMMAND
            client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=template))
        return Change("updated", what, (f"command: {OLD_ENGINE_COMMAND} → {ENGINE_COMMAND}",))
    return Change("unchanged", what)


def base_job_template() -> dict[str, Any]:
    """Return Prefect's template of process jobs with our command as its default."""
    template: dict[str, Any] = ProcessWorker.get_default_base_job_template()
    template["variables"]["properties"]["command"]["default"] = ENGINE_COMMAND
    return template


def starts_old_engine(template: dict[str, Any]) -> bool:
    """Whether a work pool starts flow runs with the command of 0.1."""
    return _default_command(template) == OLD_ENGINE_COMMAND


def _default_command(template: dict[str, Any]) -> object:
    properties = template.get("variables", {}).get("properties", {})
    return properties.get("command", {}).get("default")
