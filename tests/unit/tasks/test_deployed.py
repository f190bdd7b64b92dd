"""What a flow run asks the server about deployments: nothing that it knows already."""

from typing import Any
from uuid import uuid4

from prefect.context import _deployment_id
from prefect.settings import PREFECT_API_URL, temporary_settings

from penstock.tasks.deployed import own_deployment_id, read_schedule_states


def test_the_deployment_of_a_flow_run_is_known_without_a_server() -> None:
    deployment = uuid4()

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        by_hand = own_deployment_id()
        token = _deployment_id.set(deployment)
        try:
            deployed = own_deployment_id()
        finally:
            _deployment_id.reset(token)

    assert (by_hand, deployed) == (None, str(deployment))


def test_schedules_of_no_pipeline_are_not_asked_for() -> None:
    no_client: Any = None

    assert read_schedule_states(no_client, []) == {}
