"""The Prefect server that a command starts when the environment names none.

Prefect's own ephemeral server recorded 42 of 60 task runs and outlived a killed flow. This server keeps its history in
`<home>/prefect` and is shared. It ends when its last user has gone and not before, so it needs no owner, and two
servers never use one SQLite file (see `server.lock`). `penstock run` starts a small server, which may linger for the
next command (see docs/adr/0029). `penstock up` starts a full one with the services that schedule and watch, and other
commands use it meanwhile.
"""

import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import IO
from urllib.request import ProxyHandler, build_opener

from penstock.deployments.server.lock import (
    START_SECONDS,
    end_unused,
    hold_as_user,
    is_alive,
    lock_file,
    not_started,
    wait_until_gone,
)
from penstock.deployments.server.log_rotation import rotate_log
from penstock.errors import SettingsError

logger = logging.getLogger(__name__)

SMALL_SERVER_SECONDS = 10.0
"""How long a full server waits for a small one to end, since a `penstock run` may be finishing."""
CHILD = Path(__file__).with_name("local_child.py")

# A server that others still use outlives our context. Keep its handle, so that Python reaps it without a warning.
_outliving: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class LocalServer:
    """A running server: its address, its process and its log."""

    api_url: str
    pid: int
    log: Path
    full: bool = False
    """Whether the server has the scheduling services, so that deployments on it run."""
    linger_seconds: float = 0.0
    """How long the server waits for another user after its last one."""
    code: str = ""
    """What the server's process runs (see `server_code`)."""

    @property
    def ui_url(self) -> str:
        return self.api_url.removesuffix("/api")


@dataclass(frozen=True)
class _Wanted:
    """The kind of server to start."""

    port: int | None
    full: bool = False
    linger_seconds: float = 0.0
    find_database: Callable[[Path], str] | None = None


@contextmanager
def local_server(home: Path, *, port: int | None = None, linger_seconds: float = 0.0) -> Iterator[LocalServer]:
    """Use the Prefect server of `home`, or start a small one. The server stops after its last user.

    A server that already runs keeps its port and its time to linger, whatever the arguments are. One that lingers with
    other code is ended first.

    Raises:
        SettingsError: the server did not start, or `port` is taken. The message names the log file.
    """
    folder = _folder(home)
    started: list[subprocess.Popen[bytes]] = []
    running = _read(folder)
    if running is not None and running.linger_seconds and running.code != server_code():
        end_unused(folder)
    lingers = False
    try:
        with hold_as_user(folder):
            server = _find_or_start(folder, _Wanted(port, linger_seconds=linger_seconds), started)
            lingers = server.linger_seconds > 0
            yield server
    finally:
        if not lingers:
            wait_until_gone(folder)
        _outliving.extend(process for process in started if process.poll() is None)


@contextmanager
def full_server(home: Path, *, port: int, find_database: Callable[[Path], str] | None = None) -> Iterator[LocalServer]:
    """Run a Prefect server with scheduling for `home`, on a port of 127.0.0.1.

    Args:
        find_database: Takes the server's folder, once no other server can start there, and returns the URL of the
            server's database. None: SQLite in that folder.

    Raises:
        SettingsError: another server runs on this home, `port` is taken, or the server did not start.
    """
    folder = _folder(home)
    started: list[subprocess.Popen[bytes]] = []
    try:
        # Take the life lock first: a user's lock would keep alive the small server that we wait for.
        with _held_life(folder) as life, hold_as_user(folder):
            server = _start(folder, _Wanted(port, True, find_database=find_database), life, started)
            life.close()  # from now on the server's own copy keeps the lock
            yield server
    finally:
        wait_until_gone(folder)
        _outliving.extend(process for process in started if process.poll() is None)


def running_server(home: Path) -> LocalServer | None:
    """Return the running server of `home` if it answers. This does not keep it alive."""
    folder = (home / "prefect").absolute()
    if not (folder / "server.lock").exists() or not is_alive(folder):
        return None
    running = _read(folder)
    return running if running is not None and _is_healthy(running.api_url) else None


def end_lingering(home: Path) -> bool:
    """End the server of `home` that lingers. Return whether one did.

    Raises:
        SettingsError: a process uses the server.
    """
    folder = (home / "prefect").absolute()
    if not (folder / "server.lock").exists() or not is_alive(folder):
        return False
    running = _read(folder)
    if not end_unused(folder):
        using = "`penstock up`" if running is not None and running.full else "a command such as `penstock run`"
        raise SettingsError(
            f"{using} is using the Prefect server on {folder.parent}",
            "Wait until it has finished, or stop it with Ctrl-C where it runs",
        )
    return True


def client_environment(api_url: str, *, patient: bool = False) -> dict[str, str]:
    """Return the variables for a Prefect client of `api_url`. Set them before `prefect` is imported.

    Run logs go to the API in full. The console shows warnings and errors.

    Args:
        patient: wait for a server that is busy for a minute. Otherwise a server that does not answer soon is gone.
    """
    past_proxies = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1"]))
    environment = {
        "PREFECT_API_URL": api_url,
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",  # the server has it off, and each client asks for a token
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLI_PROMPT": "false",
        "DO_NOT_TRACK": "1",
        "NO_PROXY": past_proxies,
        "no_proxy": past_proxies,
    }
    if not patient:
        environment["PREFECT_CLIENT_MAX_RETRIES"] = "2"  # each retry costs seconds
    return environment


def _folder(home: Path) -> Path:
    folder = (home / "prefect").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _find_or_start(folder: Path, wanted: _Wanted, started: list[subprocess.Popen[bytes]]) -> LocalServer:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with (folder / "server.lock").open("a") as life:
            if lock_file(life, fcntl.LOCK_EX):
                return _start(folder, wanted, life, started)
        running = _read(folder)
        if running is not None and _is_healthy(running.api_url):
            return running
        time.sleep(0.1)
    raise not_started(folder, f"another process has locked {folder / 'server.lock'} and its server does not answer")


@contextmanager
def _held_life(folder: Path) -> Iterator[IO[str]]:
    """Hold the lock of a live server. Raise an error that names the holder if another server has it."""
    begun = time.monotonic()
    with (folder / "server.lock").open("a") as life:
        while not lock_file(life, fcntl.LOCK_EX):
            waited = time.monotonic() - begun
            running = _read(folder)
            if running is not None and running.linger_seconds and end_unused(folder):
                continue
            if running is not None and running.full and _is_healthy(running.api_url):
                raise SettingsError(
                    f"`penstock up` already runs on {folder.parent}, at {running.ui_url}",
                    "Use that one, or stop it first",
                )
            if running is not None and not running.full and waited > SMALL_SERVER_SECONDS:
                raise SettingsError(
                    f"a command such as `penstock run` is using its own Prefect server on {folder.parent}",
                    "Wait until the command has finished, then start again",
                )
            if waited > START_SECONDS:
                raise not_started(folder, f"another process has locked {folder / 'server.lock'}")
            time.sleep(0.1)
        yield life


def _start(folder: Path, wanted: _Wanted, life: IO[str], started: list[subprocess.Popen[bytes]]) -> LocalServer:
    """Start the server process. It inherits the bound socket and the lock of a live server."""
    (folder / "server.json").unlink(missing_ok=True)
    log = folder / "server.log"
    rotate_log(log, 0)
    with closing(_bound_socket(wanted.port)) as listening, log.open("ab") as output:
        api_url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        process = subprocess.Popen(
            # -P: the script's folder must not become an import root.
            [
                *(sys.executable, "-P", str(CHILD), str(folder / "users.lock"), str(listening.fileno())),
                str(wanted.linger_seconds),
            ],
            cwd=folder,  # not the project, whose .env and prefect.toml are not for this server
            env=_server_environment(folder, api_url, wanted),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(listening.fileno(), life.fileno()),
            start_new_session=True,  # Ctrl-C is for the run, which still has to store its history
        )
    started.append(process)
    begun = time.monotonic()
    while not _is_healthy(api_url):
        if process.poll() is not None:
            raise not_started(folder, f"it ended with exit code {process.returncode}")
        if time.monotonic() - begun > START_SECONDS:
            raise not_started(folder, f"it was not healthy after {START_SECONDS:.0f} s")
        time.sleep(0.05)
    logger.info("started a Prefect server at %s in %.1f s", api_url, time.monotonic() - begun)
    server = LocalServer(api_url, process.pid, log, wanted.full, wanted.linger_seconds, server_code())
    _write(folder, server)
    return server


def _server_environment(folder: Path, api_url: str, wanted: _Wanted) -> dict[str, str]:
    """Return the server's environment, without the user's Prefect variables, so that it has its own database."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    own = {
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_UI_API_URL": api_url,
        "PREFECT_UI_URL": api_url.removesuffix("/api"),  # the beginning of links in its notifications
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        # In memory, the slot of a killed run would be lost with the server or kept for ever.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",  # its service locks the SQLite file
        "DO_NOT_TRACK": "1",
    }
    # The services that schedule and watch. A small server has no deployments.
    services = ("SCHEDULER", "LATE_RUNS", "FOREMAN", "TRIGGERS")
    own |= {f"PREFECT_SERVER_SERVICES_{service}_ENABLED": str(wanted.full).lower() for service in services}
    if wanted.full:
        own |= {
            # A run that waits for its pipeline's slot asks again after these seconds, not after 30 s.
            "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
            "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
            # A flow run renews its slot after its start. A run that never starts gives it back after these seconds.
            "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "60",
        }
    if wanted.find_database is not None:
        own["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = wanted.find_database(folder)
    return inherited | own


def server_code() -> str:
    """Return a mark of what a server started now would run: Python, Prefect, and our own modules."""
    ours = sorted((file.name, file.stat().st_mtime_ns) for file in Path(__file__).parent.glob("*.py"))
    marks = json.dumps([sys.executable, version("prefect"), ours])
    return sha256(marks.encode()).hexdigest()[:16]


def _bound_socket(port: int | None) -> socket.socket:
    """Bind now and listen in the child, so that no other process can take the port in between."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(("127.0.0.1", port or 0))
    except OSError as error:
        bound.close()
        raise SettingsError(
            f"the Prefect server cannot use port {port}: {error.strerror}",
            "Stop the process that listens there, or choose another port, as in `--port 4300`",
        ) from None
    return bound


def _is_healthy(api_url: str) -> bool:
    try:
        with build_opener(ProxyHandler({})).open(f"{api_url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _read(folder: Path) -> LocalServer | None:
    try:
        entry = json.loads((folder / "server.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    known = {field.name for field in fields(LocalServer)}  # the entry may be that of another version of Penstock
    return LocalServer(**{name: value for name, value in entry.items() if name in known} | {"log": Path(entry["log"])})


def _write(folder: Path, server: LocalServer) -> None:
    draft = folder / f"server.json.{os.getpid()}"
    draft.write_text(json.dumps(asdict(server), default=str), encoding="utf-8")
    draft.replace(folder / "server.json")
