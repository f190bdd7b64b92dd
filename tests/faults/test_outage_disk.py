"""The warehouse's disk is full: the run says so, readers see nothing of it, and with more room it heals."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from penstock.database.connections import close_engines
from tests.faults.conftest import Tell
from tests.faults.harness.child import Fault, How
from tests.faults.harness.cluster import Cluster
from tests.faults.harness.disk import MountRefused, SmallDisk, small_disk
from tests.faults.harness.scene import Scene, Trial

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api"), pytest.mark.timeout(600)]
soak = pytest.mark.soak
MakeDisk = Callable[[int], SmallDisk]


@pytest.fixture
def make_disk() -> Iterator[MakeDisk]:
    """Mount disks of some megabytes; a machine that refuses that skips the test."""
    with ExitStack() as mounted:

        def make(megabytes: int) -> SmallDisk:
            folder = Path(tempfile.mkdtemp(prefix="pg"))  # where Postgres may lie too: short, and open to its user
            folder.chmod(0o755)
            mounted.callback(shutil.rmtree, folder)
            try:
                return mounted.enter_context(small_disk(folder, megabytes))
            except MountRefused as refused:
                pytest.skip(str(refused))

        yield make
        close_engines()


@pytest.fixture
def make_cluster() -> Iterator[Callable[..., Cluster]]:
    with ExitStack() as running:
        yield lambda folder=None, **settings: running.enter_context(Cluster(folder, **settings))
        close_engines()


def fill_and_free(trial: Trial, disk: SmallDisk, how: How) -> None:
    """Fill the disk when the run is about to load; it must fail, with the right words, and the next one must heal."""
    verb = "ADBC COPY" if trial.scene.dialect == "postgresql" else "INSERT"
    running = trial.start(Fault("wait", name=f"before {verb} card_risk_scores__history"), how)
    running.wait_until_reached()
    disk.fill()
    running.go_on()
    ending = running.wait()

    assert ending.state != "Completed", ending
    assert "connection `warehouse` has no disk space left: " in ending.message + ending.output, ending
    assert "Free some space" in ending.message + ending.output
    disk.free()
    assert trial.found().rows == []
    trial.lapse()
    assert trial.run(how=how).exit_code == 0
    trial.check_healed()


@pytest.mark.parametrize("how", ["steps", pytest.param("flow", marks=soak)])
@pytest.mark.parametrize("dialect", ["sqlite", pytest.param("duckdb", marks=soak)])
def test_a_run_that_fills_the_disk_under_a_file_says_so_and_heals_with_more_room(
    scenes: Callable[[str], Scene], make_disk: MakeDisk, dialect: str, how: How, tell: Tell
) -> None:
    disk = make_disk(16)
    trial = scenes(dialect).trial(f"{dialect}:///{disk.folder}/warehouse.{dialect}")

    fill_and_free(trial, disk, how)

    tell(f"disk full in the load, {how}", dialect, "fails and says what to do; nothing is visible; the next run healed")


@soak
def test_a_run_that_fills_the_disk_under_postgres_says_so_and_heals_with_more_room(
    scenes: Callable[[str], Scene], make_disk: MakeDisk, make_cluster: Callable[..., Cluster], tell: Tell
) -> None:
    disk, cluster = make_disk(40), make_cluster()
    place = disk.folder / "space"
    place.mkdir()
    if cluster.system_user is not None:
        shutil.chown(place, cluster.system_user)
    cluster.execute(f"create tablespace small location '{place}'")
    cluster.execute("create database warehouse tablespace small")
    trial = scenes("postgresql").trial(cluster.url("warehouse"))

    fill_and_free(trial, disk, "flow")

    told = "fails and says what to do; nothing is visible; the next run healed"
    tell("disk full in the load, tables' disk", "postgresql", told)


@soak
def test_a_run_heals_when_the_server_that_ran_out_of_disk_is_started_again(
    scenes: Callable[[str], Scene], make_disk: MakeDisk, make_cluster: Callable[..., Cluster], tell: Tell
) -> None:
    disk = make_disk(160)
    cluster = make_cluster(disk.folder, max_wal_size="64MB", min_wal_size="32MB")
    cluster.execute("create database warehouse")
    trial = scenes("postgresql").trial(cluster.url("warehouse"))
    running = trial.start(Fault("wait", name="after ADBC COPY card_risk_scores__history"), "flow")
    running.wait_until_reached()
    disk.fill()
    use_up_the_log(cluster)
    assert cluster.has_died()
    running.go_on()
    first = running.wait()

    disk.free()
    cluster.start()
    close_engines()
    assert first.state != "Completed", first
    assert trial.found().rows == []
    trial.lapse()
    assert trial.run(how="flow").state == "Completed"
    trial.check_healed()
    told = "the server dies and the run fails; after disk space and a restart the next run healed"
    tell("disk full, log's disk", "postgresql", told)


def use_up_the_log(cluster: Cluster) -> None:
    """Have the server write until there is no room for its log any more, which it does not survive."""
    try:
        with psycopg.connect(cluster.url(), autocommit=True) as connection:
            for number in range(100):
                connection.execute(f"create table filler_{number} (i int)")
                connection.execute("select pg_switch_wal()")
    except psycopg.OperationalError:
        return
    raise AssertionError("there was always more room")
