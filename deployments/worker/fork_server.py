"""A process that has imported all that a flow run needs, and forks for each one. See docs/adr/0030.

It has no connection, no lock and no thread but those of the memory allocator, so that a fork starts clean. A flow run's
process is its child. It is killed with this process, and when the process of `engine` that asked for it is gone.
"""

import ctypes
import gc
import json
import logging
import os
import selectors
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from penstock.deployments.worker.fork_client import LENGTH, SOCKET, address_of

logger = logging.getLogger("prefect.worker.fork_server")

REQUEST_SECONDS = 5.0
FORK_SAFE_THREADS = {"jemalloc_bg_thd"}
"""Threads of libraries that are made again after a fork: that of Arrow's memory allocator."""
PRELOADED = (
    *("adbc_driver_postgresql.dbapi", "duckdb", "pandas", "psycopg"),
    *("anyio._backends._asyncio", "fastapi.encoders", "prefect.deployments.steps.core", "prefect.task_engine"),
    *("prefect.utilities.visualization", "penstock.deployments.pull", "penstock.flows.backfill"),
    *("penstock.models.booster", "penstock.models.scoring", "penstock.quality.library_judge"),
    *("penstock.report.card", "penstock.run.audit"),
)
"""What a flow run imports when it needs it, beside Great Expectations."""
PR_SET_PDEATHSIG = 1
PEER = struct.Struct("3i")
"""Process, user and group at the other end of a socket."""
OWN_NAMES = ("PREFECT_", "PENSTOCK_")
"""Variables that are read when they are needed. All others may have been read by an import."""


@dataclass
class _Caller:
    """The connection of a process that waits for its flow run."""

    connection: socket.socket
    pid: int


@dataclass
class _Request:
    connection: socket.socket
    environment: dict[str, str]
    folder: str
    arguments: list[str]
    streams: list[int] = field(default_factory=list)


class ForkServer:
    """Forks a process for each request, relays signals to it, and answers with its exit code."""

    def __init__(self, listening: socket.socket, environment: Mapping[str, str], run: Callable[[], NoReturn]) -> None:
        self._listening = listening
        self._environment = environment
        self._run = run
        self._callers: dict[int, _Caller] = {}
        self._modules = module_marks()
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._waker = socket.socketpair()

    def serve(self) -> None:
        """Serve until the code on disk is another one and no flow run is left."""
        self._wakeup.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno())
        signal.signal(signal.SIGCHLD, _ignore)
        self._selector.register(self._listening, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._reap)
        while self._listening.fileno() >= 0 or self._callers:
            for key, _ in self._selector.select():
                key.data()

    def _accept(self) -> None:
        connection, _ = self._listening.accept()
        try:
            _check_user(connection)
            request = _read_request(connection)
        except (OSError, ValueError, struct.error):  # no request, or none that is whole
            connection.close()
            return
        refusal = self._find_refusal(request)
        if refusal:
            _answer(connection, {"refused": refusal})
            connection.close()
        else:
            self._fork(request)
        for stream in request.streams:
            os.close(stream)

    def _find_refusal(self, request: _Request) -> str:
        if module_marks() != self._modules:
            self._selector.unregister(self._listening)
            self._listening.close()  # the worker starts another server
            return "the code has changed"
        if _foreign(request.environment) != self._environment:
            return "the environment is another one"
        return ""

    def _fork(self, request: _Request) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                _become_flow_run(request, parent)
                for caller in self._callers.values():
                    caller.connection.close()
                for each in (self._listening, self._wakeup, self._waker, request.connection):
                    each.close()
                self._selector.close()
                self._run()
            except Exception:  # noqa: BLE001 # whatever it is, the process ends here
                traceback.print_exc()
            finally:
                os._exit(1)
        self._callers[pid] = _Caller(request.connection, pid)
        self._selector.register(request.connection, selectors.EVENT_READ, lambda: self._relay(pid))
        _answer(request.connection, {"pid": pid})

    def _relay(self, pid: int) -> None:
        """Send a signal on to a flow run's process. Kill the process if its caller is gone."""
        caller = self._callers[pid]
        try:
            numbers = caller.connection.recv(16)
        except OSError:
            numbers = b""
        if not numbers:
            self._selector.unregister(caller.connection)
        for number in numbers or [signal.SIGKILL]:
            os.kill(pid, number)  # not reaped yet, so the pid is still its own

    def _reap(self) -> None:
        """Answer the callers whose flow run's process has ended."""
        while True:
            try:
                self._wakeup.recv(4096)
            except BlockingIOError:
                break
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            caller = self._callers.pop(pid)
            if caller.connection in [key.fileobj for key in self._selector.get_map().values()]:
                self._selector.unregister(caller.connection)
            _answer(caller.connection, {"exit": os.waitstatus_to_exitcode(status)})
            caller.connection.close()


def module_marks() -> dict[str, int]:
    """Return the time of each loaded module's file."""
    marks = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file:
            try:
                marks[file] = os.stat(file).st_mtime_ns
            except OSError:
                marks[file] = 0
    return marks


def find_unsafe_threads() -> set[str]:
    """Return the names of threads that a fork would lose."""
    own = str(os.getpid())
    names = {(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir() if task.name != own}
    return names - FORK_SAFE_THREADS


def _foreign(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(OWN_NAMES)}


def _check_user(connection: socket.socket) -> None:
    """Refuse another user, whom a socket without a file does not keep out."""
    _, user, _ = PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))
    if user != os.getuid():
        raise ValueError(f"user {user} is another one")


def _read_request(connection: socket.socket) -> _Request:
    connection.settimeout(REQUEST_SECONDS)
    head, streams, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
    (length,) = LENGTH.unpack(head)
    with connection.makefile("rb") as body:
        read: dict[str, Any] = json.loads(body.read(length))
    connection.settimeout(None)
    return _Request(connection, read["environment"], read["folder"], read["arguments"], list(streams))


def _answer(connection: socket.socket, told: Mapping[str, Any]) -> None:
    with suppress(OSError):  # the caller is gone
        connection.sendall(json.dumps(told).encode() + b"\n")


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Take SIGCHLD, so that it wakes the selector."""


def _become_flow_run(request: _Request, parent: int) -> None:
    """Make the forked process what a new one in its caller's place would be."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    os.setpgid(0, 0)  # signals to the worker's group reach it once, through its caller
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for standard, stream in enumerate(request.streams):
        os.dup2(stream, standard)
    os.environ.clear()
    os.environ.update(request.environment)
    time.tzset()
    os.chdir(request.folder)
    sys.path.insert(0, request.folder)  # as `python -m` does; this process was started with -P
    sys.argv[:] = request.arguments


def load_all() -> None:
    """Import what a flow run may need."""
    from penstock.deployments.worker.flow_run import load
    from penstock.quality import load_engine

    load()
    gc.disable()
    for name in PRELOADED:
        import_module(name)
    load_engine()
    complete_models()
    gc.freeze()
    gc.enable()


def complete_models() -> None:
    """Build the validators of Prefect's models, which pydantic would build in each fork at their first use."""
    from pydantic import BaseModel

    known = [BaseModel]
    for model in known:  # grows
        known += model.__subclasses__()
        if model.__module__.startswith("prefect.") and not model.__pydantic_complete__:
            model.model_rebuild(raise_errors=False)


def main(name: str) -> None:
    """Serve flow runs at a Unix socket."""
    from penstock.deployments.worker.flow_run import renew_settings, run_engine

    imported_with = dict(os.environ)

    def run() -> NoReturn:
        renew_settings(imported_with)
        run_engine()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # they are for the flow runs; the worker ends this process
    os.environ.pop(SOCKET, None)
    environment = _foreign(os.environ)  # before the libraries add to it
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    load_all()
    if unsafe := find_unsafe_threads():
        raise SystemExit(f"no fork server: a library has started threads: {', '.join(sorted(unsafe))}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(address_of(name))
        listening.listen()
        logger.info("the fork server is ready: flow runs start from it")
        ForkServer(listening, environment, run).serve()


if __name__ == "__main__":
    main(sys.argv[1])
