"""Replace the deployment of a renamed pipeline. Prefect cannot rename one."""

from pathlib import Path

from prefect.client.schemas.actions import DeploymentUpdate

from penstock.deployments.deploy.changes import Change
from penstock.deployments.deploy.definition import recorded_folder
from penstock.deployments.deploy.deploy_pipelines import client_of, deploy_pipelines
from penstock.deployments.deploy.pauses import forget_pause, keep_pause
from penstock.deployments.deploy.reconcile import read_existing
from penstock.deployments.pull import record_project
from penstock.settings import Settings
from penstock.tasks.deployed import read_pause
from penstock.tasks.ledger_record import move_record


def rename_deployment(api_url: str, settings: Settings, old: str, file: Path, new: str) -> tuple[Change, ...]:
    """Deploy the pipeline under its new name, paused if it was and with the same reason, and remove the old deployment.

    Returns:
        The changes. None if the server has no deployment of the old name from this project folder.
    """
    with client_of(api_url) as client:
        before = read_existing(client, f"score/{old}")
    if before is None or recorded_folder(before.pull_steps) != record_project()["folder"]:
        return ()
    changes = deploy_pipelines(api_url, settings, [file])
    with client_of(api_url) as client:
        pause = read_pause(client, before)
        after = read_existing(client, f"score/{new}")
        assert after is not None  # it was deployed above
        if before.paused:
            client.update_deployment(after.id, DeploymentUpdate(paused=True))
        if before.schedules and not any(schedule.active for schedule in before.schedules):
            for schedule in after.schedules:
                client.update_deployment_schedule(after.id, schedule.id, active=False)
        if pause:
            client.update_deployment(after.id, DeploymentUpdate(description=before.description))  # it has the reason
            keep_pause(client, client.read_deployment(after.id), pause)
            forget_pause(client, old)
        client.delete_deployment(before.id)
        removed = [Change("removed", f"deployment score/{old}", (f"it is score/{new} now",))]
        for flow in ("labels", "served"):
            if (beside := read_existing(client, f"{flow}/{old}")) is not None:
                client.delete_deployment(beside.id)
                removed.append(Change("removed", f"deployment {flow}/{old}"))
        move_record(old, new)
    return (*changes, *removed)
