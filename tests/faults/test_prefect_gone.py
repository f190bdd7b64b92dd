"""Prefect's server dies in the middle of a run: the ledger tells what was done, and the scores are there."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.deployments.server.local import client_environment, local_server
from tests.faults.conftest import Tell
from tests.faults.harness.child import Fault
from tests.faults.harness.scene import Scene
from tests.prefect_home import prepare_home

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]
FIRST_LOAD = Fault("wait", name="before INSERT penstock_partitions")


def test_a_run_whose_prefect_server_dies_publishes_all_the_same(
    scenes: Callable[[str], Scene], tmp_path: Path, tell: Tell
) -> None:
    scene = scenes("sqlite")
    with local_server(prepare_home(tmp_path)) as server:
        trial = scene.trial(**client_environment(server.api_url))
        running = trial.start(FIRST_LOAD, "flow")
        running.wait_until_reached()
        os.kill(server.pid, signal.SIGKILL)
    begun = time.monotonic()
    running.go_on()
    ending = running.wait(300)

    trial.check_healed()
    tell(
        "Prefect's server dies in mid-run",
        "sqlite",
        f"published; the process ends after {time.monotonic() - begun:.0f} s, exit code {ending.exit_code}",
    )


def test_a_run_goes_on_when_its_prefect_server_comes_back(
    scenes: Callable[[str], Scene], tmp_path: Path, tell: Tell
) -> None:
    scene = scenes("sqlite")
    with local_server(prepare_home(tmp_path)) as server:
        patient = client_environment(server.api_url, patient=True)  # as a worker starts its runs
        trial = scene.trial(**patient)
        running = trial.start(FIRST_LOAD, "flow")
        running.wait_until_reached()
        os.kill(server.pid, signal.SIGKILL)
    running.go_on()
    time.sleep(3)
    with local_server(tmp_path, port=int(server.ui_url.rpartition(":")[2])):
        ending = running.wait(300)

    assert ending.state == "Completed", ending
    trial.check_healed()
    tell("Prefect's server dies in mid-run and comes back", "sqlite", "published, and Completed in Prefect")
