"""The Prefect server that a command starts for itself: complete history, one a home, no orphans."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from penstock.deployments.server.local import LocalServer, client_environment, local_server
from penstock.errors import SettingsError
from tests.waiting import SECONDS, is_alive, wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
HOLD = """
    import sys, time
    from pathlib import Path
    from penstock.deployments.server.local import local_server
    with local_server(Path(sys.argv[1])) as server:
        print(server.pid, flush=True)
        time.sleep(float(sys.argv[2]))
"""
FLOW = """
    import json, os, sys
    from pathlib import Path
    from penstock.deployments.server.local import client_environment, local_server
    from penstock.deployments.server.history import wait_for_history

    with local_server(Path(sys.argv[1])) as server:
        os.environ.update(client_environment(server.api_url))
        from prefect import flow, get_client, get_run_logger, runtime, task

        @task
        def double(number: int) -> int:
            get_run_logger().info("doubling %d", number)
            return 2 * number

        @flow
        def lower() -> None:
            for future in [double.submit(number) for number in range(10)]:
                future.result()

        @flow
        def upper() -> str:
            for future in [double.submit(number) for number in range(10)]:
                future.result()
            lower()
            return str(runtime.flow_run.id)

        complete = wait_for_history(server.api_url, upper())
        with get_client(sync_client=True) as client:
            tasks = client.request("POST", "/task_runs/filter", json={"limit": 200}).json()
            logs = client.request("POST", "/logs/filter", json={"limit": 200}).json()
    print(json.dumps({
        "complete": complete,
        "pid": server.pid,
        "states": [run["state_name"] for run in tasks if run["task_key"].startswith("double")],
        "logs": sum("doubling" in log["message"] for log in logs),
    }))
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose server has run its migrations once."""
    folder = tmp_path_factory.mktemp("home")
    with local_server(folder):
        pass
    return folder


def test_every_task_run_of_a_flow_and_its_subflow_is_recorded_and_no_server_stays(home: Path) -> None:
    process = start(FLOW, str(home))
    output, errors = process.communicate(timeout=SECONDS)

    assert process.returncode == 0, errors
    told = json.loads(output.splitlines()[-1])
    assert told["complete"]
    assert told["states"] == ["Completed"] * 20
    assert told["logs"] == 20
    assert "doubling" not in errors
    assert not is_alive(told["pid"])


def test_server_ends_when_its_user_is_killed(home: Path) -> None:
    process = start(HOLD, str(home), "60")
    with process:
        pid = int(first_line(process))
        assert is_alive(pid)

        process.send_signal(signal.SIGKILL)

    wait_until(lambda: not is_alive(pid))


def test_second_user_shares_the_server_and_keeps_it_when_the_first_leaves(home: Path) -> None:
    with start(HOLD, str(home), "60") as first:
        first_pid = int(first_line(first))

        with local_server(home) as server:
            first.send_signal(signal.SIGKILL)
            first.wait()
            time.sleep(1)

            assert server.pid == first_pid
            assert is_alive(server.pid)

    assert not is_alive(first_pid)


def test_two_that_start_at_once_share_one_server(home: Path) -> None:
    with start(HOLD, str(home), "3") as one, start(HOLD, str(home), "3") as other:
        pids = {first_line(one), first_line(other)}

    assert len(pids) == 1


def test_killed_server_is_replaced_by_the_next_user(home: Path) -> None:
    with start(HOLD, str(home), "60") as process:
        old = int(first_line(process))
        os.kill(old, signal.SIGKILL)
        process.kill()

    with local_server(home) as server:
        assert isinstance(server, LocalServer)
        assert server.pid != old
        assert is_alive(server.pid)


def test_server_that_dies_while_starting_is_an_error_that_names_its_log(tmp_path: Path) -> None:
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "prefect.db").write_bytes(b"this is no database" * 100)

    with pytest.raises(SettingsError, match=r"ended with exit code \d.*server\.log"), local_server(tmp_path):
        pytest.fail("it must not start")

    assert "file is not a database" in (tmp_path / "prefect" / "server.log").read_text()


def test_taken_port_is_an_error_that_names_it(home: Path, tmp_path: Path) -> None:
    with local_server(home) as server:
        port = int(server.api_url.split(":")[2].split("/")[0])

        with pytest.raises(SettingsError, match=f"port {port}"), local_server(tmp_path, port=port):
            pytest.fail("it must not start")


def test_client_never_asks_a_proxy_for_the_local_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    monkeypatch.delenv("no_proxy", raising=False)

    environment = client_environment("http://127.0.0.1:4200/api")

    assert environment["no_proxy"] == environment["NO_PROXY"] == "intranet.example,127.0.0.1"


def test_the_entry_of_a_newer_penstock_is_read(home: Path) -> None:
    with local_server(home) as server:
        entry = home / "prefect" / "server.json"
        entry.write_text(json.dumps(json.loads(entry.read_text()) | {"colour": "green"}))

        with local_server(home) as again:
            assert again == server
