"""The work pool: made where there is none, left as it is where a person made it."""

from contextlib import suppress

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound

from penstock.deployments.deploy.work_pool import ENGINE_COMMAND, WORK_POOL, base_job_template
from tests.project import Project


def test_a_work_pool_of_another_type_is_left_as_it_is(project: Project, prefect_client: SyncPrefectClient) -> None:
    _remake_pool(prefect_client, WorkPoolCreate(name=WORK_POOL, type="docker", base_job_template={}))

    change = project.deploy()[f"work pool {WORK_POOL}"]

    assert change.kind == "unchanged"
    assert prefect_client.read_work_pool(WORK_POOL).type == "docker"
    _remake_pool(prefect_client, None)


def test_a_process_pool_that_a_worker_made_gets_our_command(
    project: Project, prefect_client: SyncPrefectClient
) -> None:
    template = base_job_template()
    template["variables"]["properties"]["command"]["default"] = None
    _remake_pool(prefect_client, WorkPoolCreate(name=WORK_POOL, type="process", base_job_template=template))

    change = project.deploy()[f"work pool {WORK_POOL}"]

    pool = prefect_client.read_work_pool(WORK_POOL)
    assert change.details == (f"command: Prefect's own → {ENGINE_COMMAND}",)
    assert pool.base_job_template["variables"]["properties"]["command"]["default"] == ENGINE_COMMAND


def _remake_pool(client: SyncPrefectClient, pool: WorkPoolCreate | None) -> None:
    with suppress(ObjectNotFound):
        client.delete_work_pool(WORK_POOL)
    if pool is not None:
        client.create_work_pool(pool)
