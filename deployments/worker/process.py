"""A Prefect worker as a child process. It and its flow runs end with this process, however it ends."""

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
"""Seconds between the heartbeats of our flow runs. This is Prefect's minimum. Its default is 180 s.

Deployments pass it to their runs as PREFECT_FLOWS_HEARTBEAT_FREQUENCY. The zombie automation waits for three of them.
"""
STOP_SECONDS = 25.0
"""Seconds to wait for the worker to end its flow runs and itself. More than it needs."""


@dataclass(frozen=True)
class WorkerPlan:
    """The configuration of a worker."""

    api_url: str
    pool: str
    project: Path
    """Folder of `.env`, the pipelines and relative paths."""
    log: Path
    limit: int
    """Flow runs at once."""
    log_level: str = "INFO"
    """Of the worker and its flow runs."""


@dataclass(frozen=True)
class Worker:
    """A running worker and the process group of its flow runs."""

    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    def has_died(self) -> bool:
        """Whether the worker's process has ended. It is not reaped, so that its group id stays reserved."""
        return self.process.returncode is not None or has_ended(self.pid)

    def describe_end(self) -> str:
        """Return how the process ended: `exit code 1`, `SIGKILL`."""
        code = self.process.wait()
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    def stop(self) -> None:
        """Give running flow runs a moment to finish or report, then end them. A second Ctrl-C ends them at once."""
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
            with suppress(PermissionError):  # raised on macOS if only the dead leader is left
                os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()


def has_ended(pid: int) -> bool:
    """Whether a child of this process has ended. It is not reaped."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # reaped already
        return True


@contextmanager
def running_worker(plan: WorkerPlan) -> Iterator[Worker]:
    """Start a worker in a session of its own. Stop it at the end, with all its flow runs."""
    read_end, write_end = os.pipe()
    try:
        with plan.log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", str(CHILD), str(read_end), plan.pool, WORKER_NAME, str(plan.limit)],
                cwd=plan.project,
                env=_environment(plan),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(read_end,),
                start_new_session=True,  # Ctrl-C reaches only this process, which then stops the worker
            )
    except BaseException:  # Ctrl-C too: the pipe must not stay open
        os.close(write_end)
        raise
    finally:
        os.close(read_end)
    worker = Worker(process)
    try:
        yield worker
    finally:
        worker.stop()
        os.close(write_end)


def _environment(plan: WorkerPlan) -> dict[str, str]:
    """Return the worker's environment, which its flow runs inherit."""
    client = client_environment(plan.api_url, patient=True)
    own = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PENSTOCK_PROJECT": str(plan.project),
        "PREFECT_LOGGING_LEVEL": plan.log_level,
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": plan.log_level,  # goes to the log file
        # So that a run whose process died is found within minutes.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "PREFECT_WORKER_QUERY_SECONDS": "2",  # frequent queries are cheap on the same machine
    }
    return os.environ | client | own
