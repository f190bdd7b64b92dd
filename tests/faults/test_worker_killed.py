"""kill -9 of the worker in mid-run: the next run takes over, and the history says so."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from penstock.deployments.dead_runs import end_dead_runs
from penstock.deployments.deploy.deploy_pipelines import deploy_pipelines
from penstock.deployments.deploy.work_pool import WORK_POOL
from penstock.deployments.server.local import full_server
from penstock.deployments.up import client_of
from penstock.deployments.worker.process import WorkerPlan, running_worker
from penstock.ledger.reader import RunRecord, list_runs, rows_done
from penstock.report.card import run_card
from tests.conftest import view_rows
from tests.prefect_home import prepare_home
from tests.shop import SPEC, Place
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

DAY = {"mode": "backfill", "start": "2026-01-01", "end": "2026-01-02"}


def test_a_run_whose_worker_is_killed_is_taken_over_and_the_history_says_so(
    make_place: Callable[..., Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place(spec=SPEC.replace("partition_rows: 150", "partition_rows: 25"), days=1)
    monkeypatch.setenv("PENSTOCK_PIPELINES", str(tmp_path))
    monkeypatch.setenv("PENSTOCK_LEASE_SECONDS", "3600")
    monkeypatch.setenv("PENSTOCK_RUNNER", "threads:1")
    from penstock.settings import load_settings

    with full_server(prepare_home(tmp_path / ".penstock"), port=0) as server:
        deploy_pipelines(server.api_url, load_settings(), None)
        first = trigger(server.api_url)
        with worker(server.api_url, tmp_path) as pid:
            wait_until(lambda: any(0 < rows_done(place.warehouse, [r.run_id]) < 250 for r in runs_of(place)))
            os.killpg(pid, signal.SIGKILL)
        [killed] = list_runs(place.warehouse)
        assert killed.state == "running"
        assert view_rows(place.warehouse) == []
        with client_of(server.api_url) as client:
            assert end_dead_runs(client)  # as `penstock up` does when it starts the worker again: the lease ends too

        second = trigger(server.api_url)
        with worker(server.api_url, tmp_path):
            wait_until(lambda: state_of(server.api_url, second) in ("Completed", "Failed", "Crashed"))

        assert state_of(server.api_url, second) == "Completed"
        assert state_of(server.api_url, first) == "Crashed"
    healed, dead = list_runs(place.warehouse)
    assert (healed.state, dead.state, dead.run_id) == ("published", "abandoned", killed.run_id)
    assert [row[0] for row in view_rows(place.warehouse)] == list(range(1, 251))
    told = f"**Takes over from run** {dead.run_id[:8]} (abandoned: its process died)"
    assert told in run_card(place.warehouse, healed.run_id)


@contextmanager
def worker(api_url: str, project: Path) -> Iterator[int]:
    """Run a worker, and give the id of its process group, which holds its flow runs too."""
    with running_worker(WorkerPlan(api_url, WORK_POOL, project, project / "worker.log", 2)) as running:
        yield running.pid


def runs_of(place: Place) -> list[RunRecord]:
    return list_runs(place.warehouse)


def trigger(api_url: str) -> UUID:
    with client_of(api_url) as client:
        deployment = client.read_deployment_by_name("score/card-risk")
        return client.create_flow_run_from_deployment(deployment.id, parameters={"pipeline": "card-risk", **DAY}).id


def state_of(api_url: str, flow_run: UUID) -> Any:
    with client_of(api_url) as client:
        state = client.read_flow_run(flow_run).state
        return state.name if state else None
