"""The whole works on one project folder: a full Prefect server, workers when wanted, and pipelines deployed."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings

from penstock.database.connections import Database, close_engines, open_database
from penstock.deployments.deploy.deploy_pipelines import deploy_pipelines
from penstock.deployments.deploy.work_pool import WORK_POOL
from penstock.deployments.server.local import full_server
from penstock.deployments.worker.process import Worker, WorkerPlan, running_worker
from penstock.ledger.reader import RunRecord, list_runs
from penstock.settings import Settings, load_settings
from penstock.tasks import process_resources
from tests.prefect_home import prepare_home
from tests.shop import SPEC, START, payments, train_model, write_payments
from tests.waiting import wait_until

DAYS = 3


class Works:
    """A project folder with `.env`, a shop and a model; its pipelines write to warehouses of their own."""

    def __init__(self, folder: Path, api_url: str, client: SyncPrefectClient) -> None:
        self.folder, self.api_url, self.client = folder, api_url, client

    @property
    def settings(self) -> Settings:
        return load_settings()

    def deploy(self, name: str, *lines: str, warehouse: str = "warehouse", **changed: str) -> str:
        """Write the shop's pipeline under a name and deploy it; return the name."""
        spec = SPEC.replace("name: card-risk", f"name: {name}", 1).replace(
            "connection: warehouse", f"connection: {warehouse}"
        )
        for old, new in (("card_risk_scores", f"{name.replace('-', '_')}_scores"), *changed.items()):
            spec = spec.replace(old, new)
        file = self.settings.pipelines / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join([spec, *lines]))
        deploy_pipelines(self.api_url, self.settings, [file])
        return name

    @contextmanager
    def worker(self, limit: int = 4) -> Iterator[Worker]:
        with running_worker(WorkerPlan(self.api_url, WORK_POOL, self.folder, self.folder / "worker.log", limit)) as it:
            yield it

    def trigger(self, deployment: str, **parameters: Any) -> UUID:
        found = self.client.read_deployment_by_name(deployment)
        return self.client.create_flow_run_from_deployment(found.id, parameters=parameters).id

    def read(self, flow_run: UUID) -> FlowRun:
        return self.client.read_flow_run(flow_run)

    def wait(self, flow_run: UUID) -> FlowRun:
        """Wait for the flow run's end."""
        wait_until(lambda: (state := self.read(flow_run).state) is not None and state.is_final())
        return self.read(flow_run)

    def backfill(self, pipeline: str, **asked: Any) -> FlowRun:
        """Run the backfill flow here, which is quicker than on the worker; its intervals are scored there."""
        from penstock.flows.backfill import backfill

        process_resources.settings.cache_clear()
        state = backfill(pipeline, **asked, return_state=True)
        return self.read(cast("UUID", state.state_details.flow_run_id))

    def artifacts(self, flow_run: UUID | None = None) -> list[dict[str, Any]]:
        """Return the artifacts of a flow run, or all, newest first."""
        wanted = {} if flow_run is None else {"flow_run_id": {"any_": [str(flow_run)]}}
        body = {"artifacts": wanted, "sort": "CREATED_DESC", "limit": 200}
        found: list[dict[str, Any]] = self.client.request("POST", "/artifacts/filter", json=body).json()
        return found

    def children(self, pipeline: str) -> list[FlowRun]:
        """Return the flow runs that backfills of a pipeline made, by their names."""
        tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[pipeline, "backfill"]))
        found = self.client.read_flow_runs(flow_run_filter=tagged, sort=FlowRunSort.START_TIME_ASC, limit=200)
        return sorted((run for run in found if run.deployment_id), key=lambda run: run.name)

    def read_all(self, flow_runs: Sequence[UUID]) -> list[FlowRun]:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=list(flow_runs)))
        return self.client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.START_TIME_ASC, limit=200)

    def open(self, connection: str) -> Database:
        return open_database(self.settings, connection)

    def ledger(self, pipeline: str, connection: str = "warehouse") -> list[RunRecord]:
        """Return the pipeline's runs, oldest first; no file stays open."""
        records = list_runs(self.open(connection), pipeline)[::-1]
        close_engines()
        return records


@contextmanager
def running_works(folder: Path, urls: dict[str, str], first_day: datetime = START) -> Iterator[Works]:
    """Start the server on an empty folder, which is the working folder meanwhile; the shop's days begin with one."""
    before = Path.cwd()
    os.chdir(folder)
    databases = {"shop": f"sqlite:///{folder}/shop.db", "warehouse": f"sqlite:///{folder}/warehouse.db"} | urls
    lines = [f"PENSTOCK_CONNECTIONS__{name.upper()}={url}" for name, url in databases.items()]
    (folder / ".env").write_text("\n".join([*lines, "PENSTOCK_LEASE_SECONDS=5"]))
    try:
        write_payments(
            open_database(load_settings(), "shop"), _shift(payments(days=DAYS, a_day=150), first_day - START)
        )
        train_model(load_settings().models_folder)
        with (
            full_server(prepare_home(folder / ".penstock"), port=free_port()) as server,
            temporary_settings({PREFECT_API_URL: server.api_url}),
            get_client(sync_client=True) as client,
        ):
            yield Works(folder, server.api_url, client)
    finally:
        close_engines()
        os.chdir(before)


def _shift(rows: pa.Table, by: timedelta) -> pa.Table:
    for name in ("created_at", "updated_at"):
        moved = pc.add(rows[name], pa.scalar(by, pa.duration("us")))
        rows = rows.set_column(rows.schema.get_field_index(name), name, moved)
    return rows


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])
