"""Pause and resume a pipeline's schedule in Prefect, with a reason.

The reason is a Prefect variable, beside the schedule that it is about. It counts only while the schedule is as the
pause left it: who resumes the schedule in the UI and pauses it again has another reason.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate, VariableCreate, VariableUpdate
from prefect.client.schemas.responses import DeploymentResponse

from penstock.deployments.deploy.definition import ANY_PIPELINE, Definition
from penstock.errors import SettingsError, nearest
from penstock.interval import iso
from penstock.report.status import Pause
from penstock.report.status_sections import describe_pause

_PREFIX = "penstock_pause_"
NOTE = "The schedule's switch on this page shows whether it is still paused."


def is_paused(deployment: DeploymentResponse) -> bool:
    """Whether the deployment has a schedule and starts no runs by it."""
    return bool(deployment.schedules) and (deployment.paused or not any(each.active for each in deployment.schedules))


def read_pause(client: SyncPrefectClient, deployment: DeploymentResponse) -> Pause | None:
    """Return the pause of a deployment's schedule. None if it is active, or if there is no schedule."""
    if not is_paused(deployment):
        return None
    variable = client.read_variable_by_name(_variable_of(deployment.name))
    value: Any = variable.value if variable else None
    if not isinstance(value, dict) or value.get("schedules") != _versions_of(deployment):
        return Pause()
    return Pause(str(value["reason"]), str(value["by"]), datetime.fromisoformat(str(value["since"])))


def find_deployment(client: SyncPrefectClient, deployed: Sequence[DeploymentResponse], name: str) -> DeploymentResponse:
    """Return the deployment of a pipeline, among all of ours.

    Raises:
        SettingsError: it is not on the server, or it has no schedule.
    """
    mine = {each.name: each for each in deployed if each.name != ANY_PIPELINE}
    if name not in mine:
        raise SettingsError(
            f"no pipeline `{name}` is deployed on the Prefect server.{nearest(name, tuple(mine))}".rstrip("."),
            "Deploy it with `penstock deploy`, or correct the name.",
        )
    if not mine[name].schedules:
        raise SettingsError(
            f"`{name}` has no schedule, so there is nothing to pause or resume",
            "Add `schedule:` to its file and run `penstock deploy`.",
        )
    return client.read_deployment(mine[name].id)


def pause_schedule(client: SyncPrefectClient, deployment: DeploymentResponse, pause: Pause) -> None:
    """Turn off the schedule's switch, and keep the reason. Planned runs are removed by the server."""
    for schedule in deployment.schedules:
        if schedule.active:
            client.update_deployment_schedule(deployment.id, schedule.id, active=False)
    keep_pause(client, client.read_deployment(deployment.id), pause)


def resume_schedule(client: SyncPrefectClient, deployment: DeploymentResponse) -> None:
    """Turn on the schedule's switch, and forget the reason."""
    for schedule in deployment.schedules:
        if not schedule.active:
            client.update_deployment_schedule(deployment.id, schedule.id, active=True)
    if deployment.paused:
        client.resume_deployment(deployment.id)
    name = _variable_of(deployment.name)
    if client.read_variable_by_name(name):
        client.delete_variable_by_name(name)


def keep_pause(client: SyncPrefectClient, deployment: DeploymentResponse, pause: Pause) -> None:
    """Write the reason for a deployment as it is now, also after a deploy has changed a paused schedule."""
    if pause.since is None:
        return
    name = _variable_of(deployment.name)
    value = {
        "reason": pause.reason,
        "by": pause.by,
        "since": iso(pause.since),
        "schedules": _versions_of(deployment),
    }
    if client.read_variable_by_name(name):
        client.update_variable(VariableUpdate(name=name, value=value))
    else:
        client.create_variable(VariableCreate(name=name, value=value))


def describe_paused(definition: Definition, pause: Pause | None) -> Definition:
    """Return the definition with the pause's reason in its description, which both UIs show."""
    if pause is None or not pause.reason:
        return definition
    told = " ".join(describe_pause(pause).split()).rstrip(".")
    for mark in "\\*<[`":  # the UIs render markdown, and a reason is plain text
        told = told.replace(mark, f"\\{mark}")
    note = f"**{told[0].upper()}{told[1:]}.** {NOTE}"
    return replace(definition, description=f"{note}\n\n{definition.description}")


def write_description(client: SyncPrefectClient, deployment: DeploymentResponse, definition: Definition) -> None:
    """Write a definition's description to the server, if it differs."""
    if deployment.description != definition.description:
        client.update_deployment(deployment.id, DeploymentUpdate(description=definition.description))


def _versions_of(deployment: DeploymentResponse) -> dict[str, str]:
    """Return when each schedule was last changed, which includes its switch."""
    return {str(each.id): iso(each.updated) if each.updated else "" for each in deployment.schedules}


def _variable_of(pipeline: str) -> str:
    return _PREFIX + pipeline.replace("-", "_")
