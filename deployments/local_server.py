"""The Prefect server that a command starts for itself when the environment names none.

Prefect's own ephemeral server recorded 42 of 60 task runs and outlived a killed flow. This one is a full server, keeps
its history in `<home>/prefect`, and is shared: whoever uses it holds a shared lock on `users.lock`, and the server
waits for the exclusive one. The kernel releases a user's lock however the user dies, `kill -9` included, so the server
ends with its last user and never before, and there is no owner to wait for. `server.lock` is held by the server
process for as long as it lives: two servers never meet on one SQLite file.
"""

import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.request import ProxyHandler, build_opener
from uuid import UUID

from penstock.errors import SettingsError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

logger = logging.getLogger(__name__)

START_SECONDS = 60.0
STOP_SECONDS = 20.0
STABLE_SECONDS = 0.6
CHILD = Path(__file__).with_name("local_server_child.py")

# A server still used by others outlives our context; its handle is kept, so that it is reaped and not warned of.
_outliving: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class LocalServer:
    """A running server: where to reach it, its process, and what it said."""

    api_url: str
    pid: int
    log: Path


@contextmanager
def local_server(home: Path, *, port: int | None = None) -> Iterator[LocalServer]:
    """Use the Prefect server of `home`, starting it when none runs; it stops after its last user.

    A server that already runs there is used on the port that it has, whatever `port` says.

    Raises:
        SettingsError: the server did not start, or `port` is taken; the message names the log file.
    """
    folder = (home / "prefect").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    started: list[subprocess.Popen[bytes]] = []
    try:
        with _used(folder):
            yield _find_or_start(folder, port, started)
    finally:
        _wait_until_gone(folder)
        _outliving.extend(process for process in started if process.poll() is None)


def client_environment(api_url: str) -> dict[str, str]:
    """Return the variables a Prefect client of `api_url` wants; set them before `prefect` is imported.

    Run logs go to the API in full, to the console from warnings upwards.
    """
    past_proxies = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1"]))
    return {
        "PREFECT_API_URL": api_url,
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
        "PREFECT_CLIENT_MAX_RETRIES": "2",  # a server of our own that does not answer is gone: each retry costs seconds
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLI_PROMPT": "false",
        "DO_NOT_TRACK": "1",
        "NO_PROXY": past_proxies,
        "no_proxy": past_proxies,
    }


def wait_for_history(api_url: str, flow_run_id: str, timeout: float = 15.0) -> bool:
    """Wait until the server has recorded every task run of a flow run that ended in this process.

    Sends what the client still holds (events, logs), then polls until all task runs of the flow run and of its
    subflows are in a terminal state and their number has stood still. Call it outside of any event loop.

    Returns:
        False when `timeout` seconds were not enough, or the server does not answer.
    """
    import httpx  # here, not above: Prefect reads its settings on import
    from prefect.client.orchestration import get_client
    from prefect.events.worker import EventsWorker
    from prefect.settings import PREFECT_API_URL, temporary_settings

    deadline = time.monotonic() + timeout
    EventsWorker.drain_all(timeout=timeout, at_exit=False)
    seen, since = -1, time.monotonic()
    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            try:
                finished = _count_if_finished(client, UUID(flow_run_id))
            except httpx.HTTPError as error:
                logger.debug("the Prefect server at %s does not answer: %s", api_url, error)
                finished = None
            if finished is None or finished != seen:
                seen, since = -1 if finished is None else finished, time.monotonic()
            elif time.monotonic() - since >= STABLE_SECONDS:
                return True
            time.sleep(0.1)
    return False


def _count_if_finished(client: "SyncPrefectClient", flow_run_id: UUID) -> int | None:
    """Count the task runs of a flow run and its subflows; None while one of them is not terminal."""
    from prefect.client.schemas.objects import TERMINAL_STATES

    family = _family(client, flow_run_id)
    of_family = {"flow_runs": {"id": {"any_": family}}}
    of_terminal = {"task_runs": {"state": {"type": {"any_": sorted(state.value for state in TERMINAL_STATES)}}}}
    terminal: int = client.request("POST", "/task_runs/count", json=of_family | of_terminal).json()
    total: int = client.request("POST", "/task_runs/count", json=of_family).json()
    return total if terminal == total else None


def _family(client: "SyncPrefectClient", flow_run_id: UUID) -> list[str]:
    """Return the ids of a flow run and of all flow runs below it."""
    family, generation = [str(flow_run_id)], [str(flow_run_id)]
    while generation:
        body = {"flow_runs": {"parent_flow_run_id": {"any_": generation}}, "limit": 200}
        page = [run["id"] for run in client.request("POST", "/flow_runs/filter", json=body).json()]
        family += page
        generation = page
    return family


@contextmanager
def _used(folder: Path) -> Iterator[None]:
    """Hold a user's lock; while a server is just stopping, wait for it."""
    with (folder / "users.lock").open("a") as users:
        deadline = time.monotonic() + START_SECONDS
        while not _lock(users, fcntl.LOCK_SH):
            if time.monotonic() > deadline:
                raise _not_started(folder, f"the last one has been stopping for {START_SECONDS:.0f} s")
            time.sleep(0.05)
        yield


def _find_or_start(folder: Path, port: int | None, started: list[subprocess.Popen[bytes]]) -> LocalServer:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with (folder / "server.lock").open("a") as life:
            if _lock(life, fcntl.LOCK_EX):
                return _start(folder, port, life, started)
        running = _read(folder)
        if running is not None and _is_healthy(running.api_url):
            return running
        time.sleep(0.1)
    raise _not_started(folder, f"another process holds {folder / 'server.lock'} and its server does not answer")


def _start(folder: Path, port: int | None, life: IO[str], started: list[subprocess.Popen[bytes]]) -> LocalServer:
    """Start the server process; it inherits the bound socket and the lock that says it lives."""
    (folder / "server.json").unlink(missing_ok=True)
    log = folder / "server.log"
    with closing(_bound_socket(port)) as listening, log.open("wb") as output:
        api_url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        process = subprocess.Popen(
            # -P: the folder of the script must not become an import root.
            [sys.executable, "-P", str(CHILD), str(folder / "users.lock"), str(listening.fileno())],
            cwd=folder,  # not the project: its .env and prefect.toml are not meant for this server
            env=_server_environment(folder, api_url),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(listening.fileno(), life.fileno()),
            start_new_session=True,  # Ctrl-C is for the run, which then still has a history to write
        )
    started.append(process)
    begun = time.monotonic()
    while not _is_healthy(api_url):
        if process.poll() is not None:
            raise _not_started(folder, f"it ended with exit code {process.returncode}")
        if time.monotonic() - begun > START_SECONDS:
            raise _not_started(folder, f"it gave no sign of health in {START_SECONDS:.0f} s")
        time.sleep(0.05)
    logger.info("started a Prefect server at %s in %.1f s", api_url, time.monotonic() - begun)
    server = LocalServer(api_url, process.pid, log)
    _write(folder, server)
    return server


def _server_environment(folder: Path, api_url: str) -> dict[str, str]:
    """Return the server's whole environment: of Prefect's variables only ours, so that its database is its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    needless = ("SCHEDULER", "LATE_RUNS", "FOREMAN", "TRIGGERS")  # nothing is deployed on this server
    return (
        inherited
        | {f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false" for service in needless}
        | {
            "PREFECT_HOME": str(folder),
            "PREFECT_SERVER_UI_API_URL": api_url,
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
            # In memory, a slot of a killed holder would be gone with the server or held for ever.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",  # its service locks the SQLite file
            "DO_NOT_TRACK": "1",
        }
    )


def _wait_until_gone(folder: Path) -> None:
    """Wait for the server to stop, unless others use it."""
    deadline = time.monotonic() + STOP_SECONDS
    used_since: float | None = None
    while time.monotonic() < deadline and not _is_free(folder / "server.lock", fcntl.LOCK_EX):
        # A shared lock is to be had while others hold theirs, and for the moment that the server needs to wake up.
        if not _is_free(folder / "users.lock", fcntl.LOCK_SH):
            used_since = None
        elif used_since is None:
            used_since = time.monotonic()
        elif time.monotonic() - used_since > 1.0:
            return
        time.sleep(0.05)


def _lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_free(path: Path, kind: int) -> bool:
    with path.open("a") as file:
        return _lock(file, kind)


def _bound_socket(port: int | None) -> socket.socket:
    """Bind now and listen in the child: no other process can take the port in between."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(("127.0.0.1", port or 0))
    except OSError as error:
        bound.close()
        raise SettingsError(
            f"the Prefect server cannot have port {port}: {error.strerror}", "Name another port, or none"
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
    return LocalServer(entry["api_url"], entry["pid"], Path(entry["log"]))


def _write(folder: Path, server: LocalServer) -> None:
    draft = folder / f"server.json.{os.getpid()}"
    draft.write_text(json.dumps(asdict(server), default=str), encoding="utf-8")
    draft.replace(folder / "server.json")


def _not_started(folder: Path, why: str) -> SettingsError:
    return SettingsError(
        f"the local Prefect server did not start: {why}",
        f"Read {folder / 'server.log'}, or set PREFECT_API_URL to another server",
    )
