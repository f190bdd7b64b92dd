"""A Prefect worker as a child process: it and its flow runs end with this process, however that ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from penstock.deployments.server.local import client_environment

CHILD = Path(__file__).with_name("process_child.py")
WORKER_NAME = "penstock-up"
HEARTBEAT_SECONDS = 30
"""How often a flow run of ours gives a sign of life, and Prefect's minimum; its own default is 180 s.

Deployments hand it to their runs as PREFECT_FLOWS_HEARTBEAT_FREQUENCY: the zombie automation waits for three of them.
"""
STOP_SECONDS = 25.0
"""More than the worker takes to end its flow runs and itself."""


@dataclass(frozen=True)
class WorkerPlan:
    """What a worker works on."""

    api_url: str
    pool: str
    project: Path
    """Where flow runs find `.env`, the pipelines and relative paths."""
    log: Path
    limit: int
    """Flow runs at once."""


@dataclass(frozen=True)
class Worker:
    """A running worker and the group of its flow runs."""

    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    def has_died(self) -> bool:
        """Whether the worker's process has ended; it is left unreaped, so that its group's id stays ours."""
        return self.process.returncode is not None or has_ended(self.pid)

    def told_end(self) -> str:
        """Say how the process ended: `exit code 1`, `SIGKILL`."""
        code = self.process.wait()
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    def stop(self) -> None:
        """Let running flow runs finish or report for a moment, then end them all; a second Ctrl-C ends them at once."""
        try:
            if not self.has_died():
                self.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while not self.has_died() and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill the worker and all its flow runs."""
        if self.process.returncode is None:
            with suppress(PermissionError):  # what macOS says when only the dead leader is left
                os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()


def has_ended(pid: int) -> bool:
    """Whether a child of this process has ended; it is not reaped."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # reaped already
        return True


@contextmanager
def running_worker(plan: WorkerPlan) -> Iterator[Worker]:
    """Start a worker in a session of its own; at the end it is stopped, with all that it runs."""
    held, told = os.pipe()
    try:
        with plan.log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", str(CHILD), str(held), plan.pool, WORKER_NAME, str(plan.limit)],
                cwd=plan.project,
                env=_environment(plan),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(held,),
                start_new_session=True,  # Ctrl-C is for us; the worker is then asked to stop
            )
    except BaseException:  # Ctrl-C too: the pipe must not stay open
        os.close(told)
        raise
    finally:
        os.close(held)
    worker = Worker(process)
    try:
        yield worker
    finally:
        worker.stop()
        os.close(told)


def _environment(plan: WorkerPlan) -> dict[str, str]:
    """Return the worker's environment, which its flow runs inherit."""
    client = client_environment(plan.api_url, patient=True)
    own = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PENSTOCK_PROJECT": str(plan.project),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",  # goes to the log file
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(
            HEARTBEAT_SECONDS
        ),  # so that a run that died without a word is found within minutes
        "PREFECT_WORKER_QUERY_SECONDS": "2",  # a server on the same machine may be asked often
    }
    return os.environ | client | own
