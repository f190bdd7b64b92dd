"""More objects than Prefect's server returns for one request: none is left out."""

import subprocess
import sys

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.flows import flow
from prefect.states import Running

from penstock.deployments.dead_runs import end_dead_runs, list_online_workers
from penstock.deployments.deploy.work_pool import WORK_POOL, ensure_work_pool
from penstock.deployments.up import list_deployed
from penstock.tasks.deployed import PENSTOCK_TAG
from penstock.tasks.fan_out import has_worker

pytestmark = pytest.mark.slow
MANY = 205


@pytest.fixture
def client(prefect_client: SyncPrefectClient) -> SyncPrefectClient:
    ensure_work_pool(prefect_client)
    return prefect_client


def test_every_worker_is_seen(client: SyncPrefectClient, prefect_api: str) -> None:
    assert not has_worker(client, "no-such-pool")
    names = {f"worker-{number}" for number in range(MANY)}
    try:
        for name in names:
            client.send_worker_heartbeat(WORK_POOL, name)
        assert has_worker(client, WORK_POOL)
        assert names <= list_online_workers(client)
    finally:  # tests that share the server look for a pool without workers
        for name in names:
            httpx.delete(f"{prefect_api}/work_pools/{WORK_POOL}/workers/{name}").raise_for_status()
    assert names.isdisjoint(list_online_workers(client))


@flow
def nothing() -> None:
    pass


def test_every_dead_flow_run_is_ended(client: SyncPrefectClient) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    flow_id = client.create_flow(nothing)
    deployment = client.create_deployment(flow_id, "many", work_pool_name=WORK_POOL, tags=["mine"])
    try:
        for _ in range(MANY):
            run = client.create_flow_run_from_deployment(deployment, state=Running())
            client.update_flow_run(run.id, infrastructure_pid=str(ended.pid))
        assert end_dead_runs(client) == MANY
        assert end_dead_runs(client) == 0
    finally:
        client.delete_deployment(deployment)


def test_up_lists_every_deployment(client: SyncPrefectClient, prefect_api: str) -> None:
    flow_id = client.create_flow(nothing)
    deployments = [
        client.create_deployment(flow_id, f"many-{number}", work_pool_name=WORK_POOL, tags=[PENSTOCK_TAG])
        for number in range(MANY)
    ]
    try:
        assert len(list_deployed(prefect_api)) == MANY
    finally:
        for deployment in deployments:
            client.delete_deployment(deployment)
