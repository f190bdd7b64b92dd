"""What a flow run's process pays before its first task; the seconds are measured by `benchmarks.cold_start`."""

import json
import subprocess
import sys

from tests.waiting import SECONDS

LOAD = """
import gc, json, sys
from penstock.deployments.worker.flow_run import load
load()
print(json.dumps({"loaded": sorted(sys.modules), "collects": gc.isenabled()}))
sys.stdout.flush()
"""
DEAR = {"pandas", "duckdb", "xgboost", "great_expectations", "scipy", "adbc_driver_postgresql"}


def test_a_flow_run_begins_without_what_only_scoring_needs_and_collects_garbage_again() -> None:
    told = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True, timeout=SECONDS)

    found = json.loads(told.stdout)
    assert "penstock.flows.score" in found["loaded"]
    assert DEAR & set(found["loaded"]) == set()
    assert found["collects"]


def test_a_flow_run_does_not_wait_for_the_thread_of_its_heartbeat() -> None:
    ask = "from functools import partial; from prefect import flow_engine"
    look = "print(json.dumps(isinstance(flow_engine._send_heartbeats, partial)))"
    told = subprocess.run(
        [sys.executable, "-c", f"{LOAD}\n{ask}\n{look}"], capture_output=True, text=True, check=True, timeout=SECONDS
    )

    assert told.stdout.splitlines()[-1] == "true"


def test_garbage_is_collected_again_after_a_command_that_ends_before_its_imports() -> None:
    ask = "import gc; from penstock.cli.opening import without_collecting"
    use = "with without_collecting(): before = gc.isenabled()"
    told = subprocess.run(
        [sys.executable, "-c", f"{ask}\n{use}\nprint(before, gc.isenabled())"],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    )

    assert told.stdout.split() == ["False", "True"]
