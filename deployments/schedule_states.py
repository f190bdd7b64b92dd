"""Read the next runs and the pauses of pipelines from a Prefect server, for `penstock status`."""

from collections.abc import Collection

from penstock.deployments.deploy.definition import ANY_PIPELINE
from penstock.deployments.deploy.deploy_pipelines import client_of, list_ours
from penstock.deployments.deploy.pauses import read_pause
from penstock.deployments.doctor.reading import find_next_run
from penstock.report.status import ScheduleState


def read_schedule_states(api_url: str, names: Collection[str]) -> dict[str, ScheduleState]:
    """Return the schedule of each of these pipelines that is deployed on the server.

    Raises:
        SettingsError: the server does not answer or refuses.
    """
    states: dict[str, ScheduleState] = {}
    with client_of(api_url) as client:
        for deployment in list_ours(client):
            if deployment.name in names and deployment.name != ANY_PIPELINE:
                pause = read_pause(client, deployment)
                planned = bool(deployment.schedules) and pause is None
                states[deployment.name] = ScheduleState(find_next_run(client, deployment) if planned else None, pause)
    return states
