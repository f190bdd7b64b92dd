"""A flow run in a fork of the fork server finds everything imported."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Pending

from penstock.deployments.deploy.deploy_pipelines import deploy_pipelines
from penstock.deployments.server.local import client_environment, full_server
from penstock.settings import load_settings
from tests.prefect_home import prepare_home
from tests.shop import Place
from tests.waiting import SECONDS

pytestmark = pytest.mark.slow
CHECKOUT = Path(__file__).parents[2]
RUN = """
import atexit, json, os, sys
from pydantic import BaseModel
from penstock.deployments.worker import flow_run, fork_server

@atexit.register  # the first one, so that it runs last
def tell():
    late = sorted(set(sys.modules) - loaded)
    with open(os.environ["PENSTOCK_FOUND"], "w") as found:
        json.dump({"late": late, "unfinished": unfinished, "threads": threads}, found)

fork_server.load_all()
loaded = set(sys.modules)
threads = sorted(fork_server.find_unsafe_threads())
known = [BaseModel]
for model in known:
    known += model.__subclasses__()
unfinished = [str(each) for each in known if each.__module__.startswith("prefect.") and not each.__pydantic_complete__]
flow_run.renew_settings(os.environ)
flow_run.run_engine()
"""


def test_a_flow_run_imports_nothing_that_the_fork_server_has_not(
    make_place: Callable[..., Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, found = make_place(), tmp_path / "found.json"
    spec = place.spec.rename(place.folder / "card-risk.yaml")
    monkeypatch.setenv("PENSTOCK_PIPELINES", str(place.folder))
    with full_server(prepare_home(tmp_path / "server"), port=0) as server:
        deploy_pipelines(server.api_url, load_settings(), [spec])
        with temporary_settings({PREFECT_API_URL: server.api_url}), get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name("score/card-risk")
            flow_run = client.create_flow_run_from_deployment(
                deployment.id, parameters={"end": "2026-01-02"}, state=Pending()
            )
            own = {"PYTHONPATH": str(CHECKOUT), "PENSTOCK_FOUND": str(found), "OPENBLAS_NUM_THREADS": "1"}
            done = subprocess.run(
                [sys.executable, "-c", RUN],
                cwd=place.folder,
                env=os.environ
                | client_environment(server.api_url, patient=True)
                | own
                | {"PREFECT__FLOW_RUN_ID": str(flow_run.id)},
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            state = client.read_flow_run(flow_run.id).state

    assert state is not None
    assert state.is_completed(), f"{state}\n{done.stdout}{done.stderr}"
    assert json.loads(found.read_text()) == {"late": [], "unfinished": [], "threads": []}
