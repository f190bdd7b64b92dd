"""A child that runs, in the hands of the test."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.faults.harness.child import Order, carry_out
from tests.waiting import SECONDS

CHECKOUT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Ending:
    """How a run's process ended: its exit code (negative: the signal), what the run said, where it came through."""

    exit_code: int
    state: str
    message: str
    boundaries: list[str]
    output: str

    @property
    def failures(self) -> str:
        """What databases and libraries said that the run has got over, or not."""
        return "\n".join(boundary for boundary in self.boundaries if boundary.startswith("failed "))


class Running:
    """A run that was started. A test that starts one must end it."""

    def __init__(self, process: BaseProcess, folder: Path) -> None:
        self._process, self._folder = process, folder

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait_until_reached(self) -> None:
        """Wait until the run has come to the boundary of its fault, and waits there."""
        self._wait_for((self._folder / "reached").exists)

    def wait_until_stopped(self) -> None:
        """Wait until the run has stopped itself by SIGSTOP."""
        status = Path("/proc", str(self.pid), "stat")
        self._wait_for(lambda: status.read_text().rpartition(")")[2].split()[0] == "T")

    def wait_until_at(self, boundary: str, times: int = 1) -> None:
        """Wait until the run has come so many times to boundaries that hold this."""
        self._wait_for(lambda: self._read("boundaries.txt").count(boundary) >= times)

    def go_on(self) -> None:
        """Let a run that waits at a boundary go on."""
        (self._folder / "go").touch()

    def wait(self, seconds: float = SECONDS) -> Ending:
        """Wait for the end of the process; one that does not end in time is killed, and the test fails."""
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
            raise AssertionError(f"did not end in {seconds:.0f} s:\n{self._read('output.txt')[-3000:]}")
        code = self._process.exitcode
        assert code is not None
        said = json.loads(self._read("ending.json") or "{}")
        boundaries = self._read("boundaries.txt").splitlines()
        return Ending(code, said.get("state", ""), said.get("message", ""), boundaries, self._read("output.txt"))

    def _read(self, name: str) -> str:
        file = self._folder / name
        return file.read_text() if file.exists() else ""

    def _wait_for(self, happened: Callable[[], bool], seconds: float = SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert self._process.is_alive(), f"ended too early:\n{self._read('output.txt')[-3000:]}"
            assert time.monotonic() < deadline, f"not reached in {seconds:.0f} s"
            time.sleep(0.02)


def start_child(order: Order) -> Running:
    """Fork a process that has its imports behind it, and have it carry the order out."""
    process = _fork_server().Process(target=carry_out, args=(order,))
    process.start()
    return Running(process, order.folder)


@cache
def _fork_server() -> ForkServerContext:
    os.environ["PYTHONPATH"] = str(CHECKOUT)  # the server is a Python of its own, started with the first process
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.harness.warm"])
    return context
