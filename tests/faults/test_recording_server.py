"""A server that records before it answers: killed, or with its warehouse away, it loses no answered row."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from penstock.database.connections import open_database
from penstock.ledger.served_rows import list_served_runs, read_served_rows
from penstock.ledger.served_spool import settle_served_runs
from penstock.settings import Settings
from penstock.spec.yaml_file import load_pipeline
from penstock.upkeep.verify import verify_ledger
from tests.driver import SETTINGS, Driver
from tests.faults.conftest import Tell
from tests.faults.harness.proxy import Proxy
from tests.integration.test_serving import FEATURES, NOW, ROWS
from tests.shop import Place, payments, train_model, write_payments
from tests.waiting import wait_until
from tests.works import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
CALLERS = 4


class Load:
    """Callers that send requests one after another until they are told to end. Each request is of one payment."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.answered: dict[int, str] = {}
        """By payment: where it was recorded."""
        self.failed = Counter[str]()
        self._over = threading.Event()
        self._callers = [threading.Thread(target=self._call, args=(first,)) for first in range(CALLERS)]

    def __enter__(self) -> "Load":
        for each in self._callers:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for each in self._callers:
            each.join()

    def _call(self, payment: int) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._over.is_set():
                payment += CALLERS
                rows = [{**ROWS[0], "payment_id": payment}]
                try:
                    answer = client.post(f"{self.address}/pipelines/card-risk/score", json={"rows": rows})
                except httpx.TransportError:
                    self.failed["no answer"] += 1
                    time.sleep(0.05)
                    continue
                if answer.status_code == 200:
                    self.answered[payment] = answer.headers["x-recorded"]
                else:
                    self.failed[str(answer.status_code)] += 1


@pytest.fixture(params=["postgresql", "duckdb"])
def place(tmp_path: Path, empty_database: Callable[..., str], request: pytest.FixtureRequest) -> Place:
    urls = {"shop": empty_database("sqlite", "shop"), "warehouse": empty_database(request.param, "warehouse")}
    databases = {name: open_database(Settings(connections=urls), name) for name in urls}
    write_payments(databases["shop"], payments())
    spec = tmp_path / "card-risk.yaml"
    spec.write_text(FEATURES + "serve: {record: before_answer}\n")
    place = Place(tmp_path, databases["shop"], databases["warehouse"], spec, train_model(tmp_path / "models"))
    settings = SETTINGS.model_copy(update={"home": tmp_path})
    Driver(load_pipeline(spec), databases.__getitem__, place.registry, settings=settings).run(NOW)
    for each in databases.values():
        each.engine.dispose()
    return place


@contextmanager
def serving(place: Place, warehouse: str = "", workers: int = 1) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Give the address and the process of a server in a process group of its own."""
    port = free_port()
    environment = os.environ | {
        "PENSTOCK_HOME": str(place.folder),
        "PENSTOCK_CONNECTIONS__SHOP": place.shop.url.render_as_string(hide_password=False),
        "PENSTOCK_CONNECTIONS__WAREHOUSE": warehouse or place.warehouse.url.render_as_string(hide_password=False),
    }
    code = "from penstock.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", str(place.spec), "--port", str(port), "--workers", str(workers)]
    with (place.folder / "log").open("a") as log:
        server = subprocess.Popen(command, env=environment, cwd=place.folder, stderr=log, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: is_scoring(address))
        yield address, server
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def is_scoring(address: str) -> bool:
    try:
        return httpx.get(f"{address}/ready").status_code == 200
    except httpx.TransportError:
        return False


def recorded_payments(place: Place) -> Counter[int]:
    """Take the spool in, and count the recorded rows of each payment."""
    pipeline = load_pipeline(place.spec)
    settle_served_runs(place.warehouse, place.folder, pipeline)
    found = Counter[int]()
    for run in list_served_runs(place.warehouse, pipeline.name):
        for rows in read_served_rows(place.warehouse, run):
            found.update(row.primary_row["payment_id"] for row in rows.rows)
    return found


def check(place: Place, load: Load) -> int:
    """Check that each answered row is there once, and no other one twice. Return how many were answered."""
    found = recorded_payments(place)
    assert [payment for payment in load.answered if found[payment] != 1] == []
    assert set(found.values()) == {1}
    assert len(found) - len(load.answered) <= CALLERS * 3  # recorded, and killed before the answer
    assert verify_ledger(place.warehouse) == ()
    return len(load.answered)


def test_a_server_killed_under_load_has_recorded_each_answered_row(place: Place, tell: Tell) -> None:
    with serving(place, workers=2) as (address, server), Load(address) as load:
        wait_until(lambda: len(load.answered) > 100, 60)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

    answered = check(place, load)
    told = f"{answered} answered rows, each recorded once"
    tell("kill -9 of a server of two processes under load", place.warehouse.dialect, told)


def test_sigterm_ends_a_server_that_has_recorded_all(place: Place) -> None:
    with serving(place) as (address, server), Load(address) as load:
        wait_until(lambda: len(load.answered) > 50, 60)
        server.terminate()
        assert server.wait(60) in (0, -signal.SIGTERM)

    check(place, load)
    states = {run.state for run in list_served_runs(place.warehouse, "card-risk")}
    assert states == {"recorded"}


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_a_warehouse_that_is_away_for_seconds_loses_no_row(place: Place, tell: Tell) -> None:
    with Proxy() as proxy:
        through = proxy.front(place.warehouse.url.render_as_string(hide_password=False))
        with serving(place, through) as (address, server), Load(address) as load:
            wait_until(lambda: len(load.answered) > 30, 60)
            proxy.away = True
            wait_until(lambda: Counter(load.answered.values())["spool"] > 100, 60)
            state = httpx.get(f"{address}/ready").json()["pipelines"]["card-risk"]["recording"]
            assert state["problem"]
            proxy.away = False
            before = len(load.answered)
            wait_until(lambda: list(load.answered.values())[before:].count("warehouse") > 30, 60)
            state = httpx.get(f"{address}/ready").json()["pipelines"]["card-risk"]["recording"]
            assert state["problem"] is None
            wait_until(lambda: spooled(address) == 0, 60)
            server.terminate()
            server.wait(60)

    assert set(load.failed) <= {"no answer"}  # of the end
    answered = check(place, load)
    places = Counter(load.answered.values())
    told = f"{answered} answered rows, {places['spool']} of them through the spool, each recorded once"
    tell("warehouse away for seconds under load", "postgresql", told)


def spooled(address: str) -> int:
    return int(httpx.get(f"{address}/ready").json()["pipelines"]["card-risk"]["recording"]["spooled"])
