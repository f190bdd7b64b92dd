"""A project that deploys on the tests' own Prefect server, and leaves none of its deployments there."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.sorting import AutomationSort, DeploymentSort
from prefect.settings import PREFECT_API_URL, temporary_settings

from penstock.database.connections import close_engines, open_database
from penstock.models.registry import Registry
from penstock.settings import Settings, load_settings
from penstock.tasks.deployed import PENSTOCK_TAG
from tests.changing_place import ChangingPlace, fill_shop, train_models
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


@pytest.fixture(scope="session")
def changing_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the models that a changing pipeline scores with."""
    return train_models(tmp_path_factory.mktemp("models")).folder


@pytest.fixture(scope="session")
def scored_days() -> dict[tuple[str, str], str]:
    """By dialect and connection: the database of a pipeline that has scored three days. Others are copied from it."""
    return {}


@pytest.fixture
def changing_place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    changing_models: Path,
    scored_days: dict[tuple[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
    use_settings: Callable[..., Settings],
    database_url: Callable[..., str],
) -> ChangingPlace:
    """A pipeline that has scored three days, in the dialect of the parameter. The first runs; others copy it."""
    dialect = getattr(request, "param", "sqlite")
    connections = {
        name: database_url(dialect, name, scored_days.get((dialect, name))) for name in ("shop", "warehouse")
    }
    settings = use_settings(**connections)
    shutil.copytree(changing_models, settings.models_folder)
    registry = Registry(settings.models_folder)
    shop = open_database(settings, "shop")
    place = ChangingPlace(tmp_path, settings, shop, registry, monkeypatch, use_settings, database_url, connections)
    if (dialect, "shop") in scored_days:
        place.driver.does.open_ledger()  # the home folder knows it, as after a run
        return place
    fill_shop(shop)
    days = ("2026-01-01 → 01-02", "2026-01-02 → 01-03", "2026-01-03 → 01-04")
    assert place.run(3) == [f"published {day}" for day in days]
    close_engines()  # a database that somebody has open is not copied
    for name, url in connections.items():
        scored_days[dialect, name] = database_url(dialect, f"scored_{name}", url)
    place.shop = open_database(settings, "shop")
    return place
