"""Pause and resume a pipeline's schedule in Prefect, with a reason."""

from collections.abc import Sequence
from dataclasses import replace

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate, VariableCreate, VariableUpdate
from prefect.client.schemas.responses import DeploymentResponse

from penstock.deployments.deploy.definition import Definition
from penstock.deployments.deploy.reconcile import read_existing
from penstock.errors import SettingsError, nearest
from penstock.interval import iso
from penstock.report.needs import Pause
from penstock.report.status_sections import describe_pause
from penstock.tasks.deployed import collects_labels, is_scoring, list_versions, pause_variable

NOTE = "The schedule's switch on this page shows whether it is still paused."


def find_deployment(client: SyncPrefectClient, deployed: Sequence[DeploymentResponse], name: str) -> DeploymentResponse:
    """Return the deployment of a pipeline that is paused, among all of ours.

    It is the one that scores. If that has no schedule, it is the one that collects labels.

    Raises:
        SettingsError: it is not on the server, or neither has a schedule.
    """
    mine = {each.name: each for each in deployed if is_scoring(each)}
    labels = {each.name: each for each in deployed if collects_labels(each)}
    if name not in mine:
        raise SettingsError(
            f"no pipeline `{name}` is deployed on the Prefect server.{nearest(name, tuple(mine))}".rstrip("."),
            "Deploy it with `penstock deploy`, or correct the name.",
        )
    found = mine[name] if mine[name].schedules else labels.get(name, mine[name])
    if not found.schedules:
        raise SettingsError(
            f"`{name}` has no schedule, so there is nothing to pause or resume",
            "Add `schedule:` to its file and run `penstock deploy`.",
        )
    return client.read_deployment(found.id)


def pause_schedule(client: SyncPrefectClient, deployment: DeploymentResponse, pause: Pause) -> None:
    """Turn off the switch of the schedule, and of those of the labels and of recorded rows, and keep the reason.

    Planned runs are removed by the server.
    """
    for each in (deployment, *_find_beside(client, deployment)):
        for schedule in each.schedules:
            if schedule.active:
                client.update_deployment_schedule(each.id, schedule.id, active=False)
    keep_pause(client, client.read_deployment(deployment.id), pause)


def resume_schedule(client: SyncPrefectClient, deployment: DeploymentResponse) -> None:
    """Turn on the switch of the schedule, and of those of the labels and of recorded rows, and forget the reason."""
    for each in (deployment, *_find_beside(client, deployment)):
        for schedule in each.schedules:
            if not schedule.active:
                client.update_deployment_schedule(each.id, schedule.id, active=True)
        if each.paused:
            client.resume_deployment(each.id)
    forget_pause(client, deployment.name)


def _find_beside(client: SyncPrefectClient, paused: DeploymentResponse) -> list[DeploymentResponse]:
    """Return the other deployments of a pipeline that start with its schedule: of its labels and recorded rows."""
    flows = ("served",) if collects_labels(paused) else ("labels", "served")
    found = (read_existing(client, f"{flow}/{paused.name}") for flow in flows)
    return [each for each in found if each is not None]


def forget_pause(client: SyncPrefectClient, pipeline: str) -> None:
    """Forget why a pipeline was paused."""
    name = pause_variable(pipeline)
    if client.read_variable_by_name(name):
        client.delete_variable_by_name(name)


def keep_pause(client: SyncPrefectClient, deployment: DeploymentResponse, pause: Pause) -> None:
    """Write the reason for a deployment as it is now, also after a deploy has changed a paused schedule."""
    if pause.since is None:
        return
    name = pause_variable(deployment.name)
    value = {
        "reason": pause.reason,
        "by": pause.by,
        "since": iso(pause.since),
        "schedules": list_versions(deployment),
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
