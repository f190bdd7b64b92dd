"""A Prefect server that waits for the next command: it is used again, ends in time, and makes room for `up`."""

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.deployments.server import local
from penstock.deployments.server.local import end_lingering, full_server, local_server, running_server
from penstock.errors import SettingsError
from tests.prefect_home import prepare_home
from tests.waiting import SECONDS, is_alive, wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LONG = 600.0
USE = """
import sys, time
from pathlib import Path
from penstock.deployments.server.local import local_server
with local_server(Path(sys.argv[1]), linger_seconds=float(sys.argv[2])) as server:
    print(server.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = prepare_home(tmp_path / "home")
    yield folder
    if folder.exists():
        end_lingering(folder)
        assert running_server(folder) is None


def test_the_next_command_uses_the_server_that_lingers(home: Path) -> None:
    with local_server(home, linger_seconds=LONG) as first:
        pass
    began = time.monotonic()
    with local_server(home) as second:
        assert second.pid == first.pid
    assert time.monotonic() - began < 5

    assert running_server(home) is not None
    assert end_lingering(home)
    assert not is_alive(first.pid)
    assert not end_lingering(home)


def test_a_server_ends_when_nobody_has_come_in_time(home: Path) -> None:
    with local_server(home, linger_seconds=2.0) as server:
        time.sleep(3)
        assert is_alive(server.pid)

    wait_until(lambda: not is_alive(server.pid))


def test_a_server_whose_user_was_killed_lingers_and_ends(home: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with subprocess.Popen(
        [sys.executable, "-c", USE, str(home), "3"],
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)

    assert is_alive(pid)
    wait_until(lambda: not is_alive(pid))


def test_a_server_in_use_is_not_ended(home: Path) -> None:
    with local_server(home, linger_seconds=LONG) as server:
        with pytest.raises(SettingsError, match="a command such as `penstock run` is using the Prefect server"):
            end_lingering(home)

        assert is_alive(server.pid)


def test_a_full_server_takes_the_place_of_one_that_lingers(home: Path) -> None:
    with local_server(home, linger_seconds=LONG) as small:
        pass
    with full_server(home, port=0) as full:
        assert not is_alive(small.pid)
        assert full.full
        with pytest.raises(SettingsError, match="`penstock up` is using the Prefect server"):
            end_lingering(home)


def test_a_server_with_other_code_is_replaced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with local_server(home, linger_seconds=LONG) as old:
        pass
    monkeypatch.setattr(local, "server_code", lambda: "that of a newer Penstock")

    with local_server(home) as new:
        assert new.pid != old.pid
        assert not is_alive(old.pid)


def test_a_server_whose_folder_is_removed_ends(home: Path) -> None:
    with local_server(home, linger_seconds=LONG) as server:
        pass
    shutil.rmtree(home)

    wait_until(lambda: not is_alive(server.pid))


def test_run_leaves_its_server_on_a_terminal_and_down_ends_it(tmp_path: Path) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PENSTOCK_", "CI"))
    }
    command = str(Path(sys.executable).with_name("penstock"))
    project = tmp_path / "project"

    def call(*arguments: str, terminal: bool = False, **more: str) -> str:
        reading, writing = pty.openpty()
        ended = subprocess.run(
            [command, *arguments],
            cwd=project if project.exists() else tmp_path,
            env=environment | more,
            stdout=writing if terminal else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
            timeout=SECONDS,
        )
        os.close(writing)
        os.close(reading)
        return ended.stdout or ""

    today = datetime.now(UTC).date()
    range_ = ("--start", f"{today - timedelta(2)}", "--end", f"{today - timedelta(1)}")
    again = ("run", "order-returns", "--restate", *range_)
    call("init", "project")
    prepare_home(project / ".penstock")
    call("run", "order-returns")
    assert running_server(project / ".penstock") is None

    call(*again, terminal=True, PENSTOCK_LINGER="0")
    assert running_server(project / ".penstock") is None

    call(*again, terminal=True)
    server = running_server(project / ".penstock")
    assert server is not None
    assert server.linger_seconds == 300

    assert "has ended" in call("down")
    assert not is_alive(server.pid)
    assert "No Prefect server is running" in call("down")
