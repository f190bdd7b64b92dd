"""A project that deploys on the tests' own Prefect server, and leaves none of its deployments there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.sorting import AutomationSort, DeploymentSort
from prefect.settings import PREFECT_API_URL, temporary_settings

from penstock.deployments.deploy.definition import PENSTOCK_TAG
from penstock.settings import load_settings
from tests.project import Project


@pytest.fixture
def prefect_client(prefect_api: str) -> Iterator[SyncPrefectClient]:
    """A client of the tests' Prefect server, on which nothing is deployed; nothing is left there afterwards."""
    with temporary_settings({PREFECT_API_URL: prefect_api}), get_client(sync_client=True) as client:
        _take_down(client)  # what tests of commands have deployed there
        yield client
        _take_down(client)


def _take_down(client: SyncPrefectClient) -> None:
    ours = DeploymentFilter(tags=DeploymentFilterTags(any_=[PENSTOCK_TAG, "mine"]))
    for deployment in client.read_deployments(deployment_filter=ours, sort=DeploymentSort.NAME_ASC, limit=200):
        client.delete_deployment(deployment.id)
    for automation in client.read_automations(sort=AutomationSort.NAME_ASC, limit=200):
        client.delete_automation(automation.id)


@pytest.fixture
def project(
    prefect_client: SyncPrefectClient, prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Project:
    """An empty project in a folder of its own, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    return Project(prefect_api, load_settings())
