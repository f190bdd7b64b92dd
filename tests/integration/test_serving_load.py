"""A server under more requests than it can answer."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from benchmarks.open_loop import Answers, Client
from tests.integration.test_serving import FEATURES, ROWS, is_ready, make_served_place
from tests.waiting import wait_until
from tests.works import free_port

STEADY, SPIKE = 20, 600
"""Requests a second."""


@pytest.mark.slow
def test_a_spike_is_shed_with_429_and_recovered_from(tmp_path: Path) -> None:
    """The requests come at their moments, whatever comes back."""
    make_served_place(tmp_path, spec=FEATURES + "serve: {limit: {in_flight: 4}}\n")
    environment = os.environ | {
        "PENSTOCK_HOME": str(tmp_path),
        "PENSTOCK_CONNECTIONS__SHOP": f"sqlite:///{tmp_path}/shop.db",
        "PENSTOCK_CONNECTIONS__WAREHOUSE": f"sqlite:///{tmp_path}/warehouse.db",
    }
    port = free_port()
    code = "from penstock.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", str(tmp_path / "card-risk.yaml"), "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=log)
    try:
        wait_until(lambda: is_ready(f"http://127.0.0.1:{port}"))
        before, spike, after = asyncio.run(send_a_spike(port))
    finally:
        server.kill()
        server.wait()

    assert before.statuses == {200: 2 * STEADY}
    assert set(spike.statuses) == {200, 429}
    assert spike.statuses.total() == 2 * SPIKE
    assert after.statuses == {200: 2 * STEADY}


async def send_a_spike(port: int) -> list[Answers]:
    """Return the answers before, in and after it."""
    client = Client(port, "/pipelines/card-risk/score", orjson.dumps({"rows": ROWS[:1]}))
    await client.ask()
    answers = [await client.send_at_rate(rate, 2) for rate in (STEADY, SPIKE, STEADY)]
    await client.close()
    return answers
