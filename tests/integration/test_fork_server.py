"""The fork server of a worker: each request is a process of its own, which ends as one without a fork would."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from penstock.deployments.worker.fork_client import SOCKET, address_of
from tests.waiting import SECONDS, is_alive, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the fork server runs on Linux only"),
]

ROOT = Path(__file__).parents[2]
SERVER = """
import os, runpy, signal, socket, sys
from penstock.deployments.worker.fork_client import address_of
from penstock.deployments.worker.fork_server import ForkServer, _foreign
environment = _foreign(os.environ)
import watched
def run():
    runpy.run_path(os.environ["PENSTOCK_SCRIPT"])
    os._exit(0)
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(address_of(sys.argv[1]))
    listening.listen()
    ForkServer(listening, environment, run).serve()
"""
CALLER = """
import os, sys
from penstock.deployments.worker.fork_client import SOCKET, run_in_fork
code = run_in_fork(os.environ.pop(SOCKET))
print("not served" if code is None else f"exit code {code}", flush=True)
os._exit(code or 0)
"""
TELL = """
import json, os, signal, sys
print(json.dumps({
    "folder": os.getcwd(), "path": sys.path[0], "value": os.environ.get("PENSTOCK_VALUE"),
    "socket": os.environ.get("PENSTOCK_FORK_SERVER"), "term": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
    "root": os.environ["PYTHONPATH"].split(":")[0] in sys.path,
    "files": len(os.listdir("/proc/self/fd")), "pid": os.getpid(),
}), flush=True)
"""
WAIT = """
import os, time
print(os.getpid(), flush=True)
time.sleep(600)
"""


class Place:
    """A folder with a running fork server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"penstock-{uuid4().hex}"
        (folder / "watched.py").write_text("")
        self.environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", SOCKET: self.name}
        self.server = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVER, self.name],
            cwd=folder,
            env=self.environment,
        )
        wait_until(self._answers)

    def _answers(self) -> bool:
        assert self.server.poll() is None
        with socket.socket(socket.AF_UNIX) as trial:
            return trial.connect_ex(address_of(self.name)) == 0

    def call(self, script: str, folder: Path | None = None, **more: str) -> subprocess.Popen[str]:
        file = self.folder / f"script-{uuid4().hex}.py"
        file.write_text(script)
        return subprocess.Popen(
            [sys.executable, "-c", CALLER],
            cwd=folder or self.folder,
            env=self.environment | {"PENSTOCK_SCRIPT": str(file)} | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.server.kill()
    made.server.wait()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_request_runs_in_a_process_of_its_own_with_its_folder_and_environment(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    told = [place.call(TELL, folder, PENSTOCK_VALUE=str(n)).communicate(timeout=SECONDS)[0] for n in range(3)]

    facts = [json.loads(each.splitlines()[0]) for each in told]
    assert [fact["value"] for fact in facts] == ["0", "1", "2"]
    assert {(fact["folder"], fact["path"]) for fact in facts} == {(str(folder), str(folder))}
    assert all(fact["term"] and fact["root"] and fact["socket"] is None for fact in facts)
    assert len({fact["pid"] for fact in facts} | {place.server.pid}) == 4
    assert len({fact["files"] for fact in facts}) == 1, "a request leaves a file open"
    assert all(each.splitlines()[1] == "exit code 0" for each in told)


def test_requests_at_once_have_a_process_each(place: Place) -> None:
    calls = [place.call(WAIT) for _ in range(5)]
    pids = [int(first_line(call)) for call in calls]
    assert len({*pids}) == 5

    os.kill(pids[2], signal.SIGKILL)
    assert calls[2].wait(timeout=SECONDS) == -signal.SIGKILL
    assert [call.poll() for number, call in enumerate(calls) if number != 2] == [None] * 4

    for call in calls:
        call.kill()
        call.communicate()
    wait_until(lambda: not any(map(is_alive, pids)))


@pytest.mark.parametrize("ending", [0, 1, 3, 255])
def test_a_caller_ends_with_the_exit_code_of_its_fork(place: Place, ending: int) -> None:
    call = place.call(f"import os\nos._exit({ending})")
    call.communicate(timeout=SECONDS)

    assert call.returncode == ending


def test_a_signal_to_the_caller_is_one_signal_to_its_fork(place: Place) -> None:
    script = """
import os, signal, time
seen = []
signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
print(os.getpid(), flush=True)
time.sleep(0.1)
while not seen:
    time.sleep(0.05)
time.sleep(1)
os._exit(10 + len(seen))
"""
    call = place.call(script)
    first_line(call)
    call.send_signal(signal.SIGTERM)
    call.communicate(timeout=SECONDS)

    assert call.returncode == 11


def test_a_fork_that_a_signal_ends_ends_its_caller_by_the_same(place: Place) -> None:
    call = place.call("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    call.communicate(timeout=SECONDS)

    assert call.returncode == -signal.SIGSEGV


def test_a_fork_is_killed_with_its_caller(place: Place) -> None:
    call = place.call(WAIT)
    pid = int(first_line(call))
    call.kill()
    call.communicate()

    wait_until(lambda: not is_alive(pid))
    assert place.server.poll() is None


def test_forks_and_callers_end_with_the_server(place: Place) -> None:
    call = place.call(WAIT)
    pid = int(first_line(call))
    place.server.kill()
    call.communicate(timeout=SECONDS)

    assert call.returncode == -signal.SIGKILL
    wait_until(lambda: not is_alive(pid))


def test_another_environment_is_not_served(place: Place) -> None:
    output, _ = place.call(TELL, LANG="tlh").communicate(timeout=SECONDS)

    assert output.strip() == "not served"


def test_changed_code_is_not_served_and_ends_the_server_after_its_last_fork(place: Place) -> None:
    call = place.call(WAIT)
    pid = int(first_line(call))
    os.utime(place.folder / "watched.py", (1, 1))

    output, _ = place.call(TELL).communicate(timeout=SECONDS)
    assert output.strip() == "not served"
    assert place.server.poll() is None
    os.kill(pid, signal.SIGTERM)
    call.communicate(timeout=SECONDS)
    assert place.server.wait(timeout=SECONDS) == 0


def test_a_broken_request_is_dropped(place: Place) -> None:
    with socket.socket(socket.AF_UNIX) as broken:
        broken.connect(address_of(place.name))
        broken.sendall(b"123")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(address_of(place.name))
        began = time.monotonic()
        output, _ = place.call(TELL).communicate(timeout=SECONDS)

    assert "exit code 0" in output
    assert time.monotonic() - began < SECONDS


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_not_served(place: Place) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        pid = os.fork()
        if pid == 0:  # its own interpreter may be out of the other user's reach
            os.setuid(65534)
            other.connect(address_of(place.name))
            os._exit(0 if other.recv(1) == b"" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_without_a_server_the_caller_runs_the_flow_itself(place: Place) -> None:
    output, _ = place.call(TELL, **{SOCKET: "penstock-none"}).communicate(timeout=SECONDS)

    assert output.strip() == "not served"
