"""What a Prefect server knows of our pipelines: their deployments, next runs and pauses.

The reason of a pause is a Prefect variable, beside the schedule that it is about. It counts only while the schedule is
as the pause left it: who resumes the schedule in the UI and pauses it again has another reason.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import DeploymentSort, FlowRunSort
from prefect.context import _deployment_id

from penstock.interval import iso
from penstock.report.needs import Pause, ScheduleState

PENSTOCK_TAG = "penstock"
"""The tag of all our deployments."""
ANY_PIPELINE = "any_pipeline"
"""Name of the deployments that take any pipeline. A pipeline's own name cannot contain the underscore."""
LABELS_ENTRYPOINT = "penstock.flows.labels.labels"
"""Of the deployments that collect labels. They have the names of their pipelines, as those that score have."""
SERVED_ENTRYPOINT = "penstock.flows.served.served"
"""Of the deployments that score recorded rows again. They have the names of their pipelines too."""
PROMOTION_ENTRYPOINT = "penstock.flows.promotion.promote"
"""Of the deployments that promote a model. They have the names of their models, which pipelines may have too."""
_PAGE = 200


def own_deployment_id() -> str | None:
    """Return the ID of the deployment whose flow run this process works on. None for a run by hand.

    Without a deployment, `prefect.runtime.deployment.id` would ask the server each time, with a client made for it.
    """
    found = _deployment_id.get()
    return str(found) if found else None


def list_ours(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """Return every deployment on the server with our tag."""
    ours: list[DeploymentResponse] = []
    only = DeploymentFilter(tags=DeploymentFilterTags(all_=[PENSTOCK_TAG]))
    while page := client.read_deployments(
        deployment_filter=only, sort=DeploymentSort.NAME_ASC, limit=_PAGE, offset=len(ours)
    ):
        ours += page
    return ours


def read_schedule_states(client: SyncPrefectClient, names: Collection[str]) -> dict[str, ScheduleState]:
    """Return the schedule of each of these pipelines that is deployed on the server."""
    states: dict[str, ScheduleState] = {}
    for deployment in list_ours(client) if names else ():
        if deployment.name in names and is_scoring(deployment):
            pause = read_pause(client, deployment)
            planned = bool(deployment.schedules) and pause is None
            states[deployment.name] = ScheduleState(find_next_run(client, deployment) if planned else None, pause)
    return states


def is_scoring(deployment: DeploymentResponse) -> bool:
    """Whether the deployment scores the intervals of one pipeline."""
    others = (PROMOTION_ENTRYPOINT, LABELS_ENTRYPOINT, SERVED_ENTRYPOINT)
    return deployment.name != ANY_PIPELINE and deployment.entrypoint not in others


def collects_labels(deployment: DeploymentResponse) -> bool:
    """Whether the deployment collects the labels of a pipeline, which another one of the same name scores."""
    return deployment.entrypoint == LABELS_ENTRYPOINT


def find_next_run(client: SyncPrefectClient, deployment: DeploymentResponse) -> datetime | None:
    """Return when the first of the planned runs that have not started should start."""
    planned = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=1,
    )
    return planned[0].expected_start_time if planned else None


def is_paused(deployment: DeploymentResponse) -> bool:
    """Whether the deployment has a schedule and starts no runs by it."""
    return bool(deployment.schedules) and (deployment.paused or not any(each.active for each in deployment.schedules))


def read_pause(client: SyncPrefectClient, deployment: DeploymentResponse) -> Pause | None:
    """Return the pause of a deployment's schedule. None if it is active, or if there is no schedule."""
    if not is_paused(deployment):
        return None
    if not is_scoring(deployment) and not collects_labels(deployment):
        return Pause()  # reasons are kept for pipelines
    variable = client.read_variable_by_name(pause_variable(deployment.name))
    value: Any = variable.value if variable else None
    if not isinstance(value, dict) or value.get("schedules") != list_versions(deployment):
        return Pause()
    return Pause(str(value["reason"]), str(value["by"]), datetime.fromisoformat(str(value["since"])))


def list_versions(deployment: DeploymentResponse) -> dict[str, str]:
    """Return when each schedule was last changed, which includes its switch."""
    return {str(each.id): iso(each.updated) if each.updated else "" for each in deployment.schedules}


def pause_variable(pipeline: str) -> str:
    """Return the name of the variable with the reason of a pipeline's pause."""
    return "penstock_pause_" + pipeline.replace("-", "_")
