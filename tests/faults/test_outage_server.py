"""The Postgres server itself goes away in mid-run, and comes back: source and warehouse lie on it, and the run reads
under its snapshot."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest

from penstock.database.connections import close_engines
from tests.faults.conftest import Tell
from tests.faults.harness.child import Fault
from tests.faults.harness.cluster import Cluster
from tests.faults.harness.scene import Scene

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api"), pytest.mark.timeout(600)]
soak = pytest.mark.soak
CONNECTIONS = 24
LOADED, READ, PUBLISHING = (
    "after ADBC COPY card_risk_scores__history",
    "before prediction",
    "after UPDATE penstock_runs",
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(max_connections=str(CONNECTIONS)) as running:
        yield running
        close_engines()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Scene:
    return Scene(tmp_path_factory.mktemp("cluster"), "postgresql", cluster.make_url)


@pytest.mark.parametrize("how", ["killed", pytest.param("stopped", marks=soak)])
@pytest.mark.parametrize("boundary", [LOADED, pytest.param(READ, marks=soak), pytest.param(PUBLISHING, marks=soak)])
def test_a_run_whose_server_is_started_again_goes_on_by_itself(
    scene: Scene, cluster: Cluster, how: str, boundary: str, tell: Tell
) -> None:
    trial = scene.trial()
    running = trial.start(Fault("wait", name=boundary), "flow")
    running.wait_until_reached()

    cluster.kill() if how == "killed" else cluster.stop()
    cluster.start()
    running.go_on()
    ending = running.wait()

    assert ending.state == "Completed", ending
    close_engines()
    trial.check_healed()
    tell(f"server {how} and started again, {boundary}", "postgresql", "healed by its own retries")


@soak
def test_a_run_waits_some_seconds_for_a_server_that_is_down(scene: Scene, cluster: Cluster, tell: Tell) -> None:
    trial = scene.trial()
    running = trial.start(Fault("wait", name=LOADED), "flow")
    running.wait_until_reached()

    cluster.kill()
    running.go_on()
    time.sleep(4)
    cluster.start()
    ending = running.wait()

    alone = ending.state == "Completed"
    if not alone:
        close_engines()
        trial.lapse()
        assert trial.run(how="flow").state == "Completed"
    close_engines()
    trial.check_healed()
    tell("server killed, down for 4 s", "postgresql", f"healed by {'its own retries' if alone else 'the next run'}")


@soak
def test_a_run_that_gets_no_connection_any_more_tries_again(scene: Scene, cluster: Cluster, tell: Tell) -> None:
    trial = scene.trial()
    running = trial.start(Fault("wait", name="after INSERT penstock_runs"), "flow")
    running.wait_until_reached()
    close_engines()
    with ExitStack() as taken:
        for _ in range(CONNECTIONS):
            try:
                taken.enter_context(psycopg.connect(cluster.url()))
            except psycopg.OperationalError:
                break
        else:
            raise AssertionError("there was always another connection")
        running.go_on()
        time.sleep(3)  # all that the run asks for meanwhile is refused
    ending = running.wait()

    assert "too many clients" in ending.failures, ending
    assert ending.state == "Completed", ending
    trial.check_healed()
    tell("max_connections used up for 3 s", "postgresql", "healed by its own retries")
