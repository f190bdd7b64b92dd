"""The two locks of a local Prefect server's folder: one for its users, one for the live server.

Each user of the server holds a shared lock on `users.lock`, and the server waits for the exclusive lock. The server
process holds `server.lock` as long as it lives. The kernel releases the locks of a process however it dies.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from penstock.errors import SettingsError

START_SECONDS = 180.0
"""The longest start or stop of a server: 4 s on a machine of its own, and over 60 s was seen on a busy one."""
STOP_SECONDS = 20.0


@contextmanager
def hold_as_user(folder: Path) -> Iterator[None]:
    """Hold a user's lock. Wait first if a server is stopping.

    Raises:
        SettingsError: the stopping server does not end.
    """
    with (folder / "users.lock").open("a") as users:
        deadline = time.monotonic() + START_SECONDS
        while not lock_file(users, fcntl.LOCK_SH):
            if time.monotonic() > deadline:
                raise not_started(folder, f"the previous server has been stopping for {START_SECONDS:.0f} s")
            time.sleep(0.05)
        yield


def wait_until_gone(folder: Path) -> None:
    """Wait for the server to stop, unless others use it."""
    deadline = time.monotonic() + STOP_SECONDS
    used_since: float | None = None
    while time.monotonic() < deadline and is_alive(folder):
        # A shared lock is available while others hold theirs, and until the server wakes up.
        if not _is_free(folder / "users.lock", fcntl.LOCK_SH):
            used_since = None
        elif used_since is None:
            used_since = time.monotonic()
        elif time.monotonic() - used_since > 1.0:
            return
        time.sleep(0.05)


def end_unused(folder: Path) -> bool:
    """End the server that lingers in the folder, if no process uses it. Return whether it was unused."""
    with (folder / "users.lock").open("a") as users:
        if lock_file(users, fcntl.LOCK_EX):
            # With the lock held alone and no entry, the server ends. New users wait for the lock until it has.
            (folder / "server.json").unlink(missing_ok=True)
        elif lock_file(users, fcntl.LOCK_SH):
            return False
        # Otherwise the server holds the lock alone, because it is ending.
        deadline = time.monotonic() + STOP_SECONDS
        while is_alive(folder) and time.monotonic() < deadline:
            time.sleep(0.05)
    return True


def is_alive(folder: Path) -> bool:
    """Whether a server process lives in the folder or is starting there."""
    return not _is_free(folder / "server.lock", fcntl.LOCK_EX)


def lock_file(file: IO[str], kind: int) -> bool:
    """Take a lock if it is free. Return whether it was."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def not_started(folder: Path, why: str) -> SettingsError:
    """Return the error for a server that did not start. It names the log."""
    return SettingsError(
        f"the local Prefect server did not start: {why}",
        f"Read {folder / 'server.log'}, or set PREFECT_API_URL to another server",
    )


def _is_free(path: Path, kind: int) -> bool:
    with path.open("a") as file:
        return lock_file(file, kind)
