"""Files that another process holds: SQLite's warehouse beyond the busy timeout, and Prefect's own database."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.deployments.server.local import client_environment, local_server
from tests.faults.conftest import Tell
from tests.faults.harness.child import Fault, How
from tests.faults.harness.scene import Scene
from tests.prefect_home import prepare_home

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api"), pytest.mark.timeout(600)]
soak = pytest.mark.soak


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a SQLite file's write lock, as another process would."""
    holder = sqlite3.connect(file, isolation_level=None, timeout=30)
    try:
        holder.execute("begin immediate")
        yield
        holder.execute("rollback")
    finally:
        holder.close()


@pytest.mark.parametrize("how", ["steps", pytest.param("flow", marks=soak)])
def test_a_run_that_waits_too_long_for_a_locked_sqlite_file_says_so_and_the_next_one_heals(
    scenes: Callable[[str], Scene], how: How, tell: Tell
) -> None:
    trial = scenes("sqlite").trial()
    trial.reach(warehouse=f"{trial.url}?timeout=1")
    running = trial.start(Fault("wait", name="before BEGIN IMMEDIATE", nth=3), how)
    running.wait_until_reached()
    with locked(Path(str(sa.make_url(trial.url).database))):
        running.go_on()
        ending = running.wait()

    assert ending.state != "Completed"
    said = ending.message + ending.output
    assert "connection `warehouse` is locked by another session or process for too long" in said, ending
    assert trial.run(how=how).exit_code == 0
    trial.check_healed()
    tell(
        f"another process locks the file beyond the timeout, {how}", "sqlite", "fails and says so; the next run healed"
    )


@soak
def test_a_run_goes_on_while_prefects_own_database_is_locked(
    scenes: Callable[[str], Scene], tmp_path: Path, tell: Tell
) -> None:
    with local_server(prepare_home(tmp_path)) as server:
        trial = scenes("sqlite").trial(**client_environment(server.api_url))
        running = trial.start(Fault("wait", name="before INSERT penstock_partitions"), "flow")
        running.wait_until_reached()
        [database] = (tmp_path / "prefect").glob("*.db")
        with locked(database):
            running.go_on()
            time.sleep(8)
        ending = running.wait()

    trial.check_healed()
    assert ending.state == "Completed", ending
    tell("Prefect's database is locked for 8 s", "sqlite", "published, and Completed in Prefect")
