"""The child process of `server.local`: one Prefect server that ends after its last user."""

import fcntl
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import IO

from uvicorn import Config, Server

from penstock.deployments.server.failed_cursors import close_failed_cursors
from penstock.deployments.server.lock import lock_file
from penstock.deployments.server.write_locks import lock_before_reading

GRACE_SECONDS = 15.0
POLL_SECONDS = 0.25


def stop_when_unused(server: Server, users: Path, linger_seconds: float) -> None:
    """Wait until no process holds a user's lock, and longer if it lingers. Then stop the server. Kill it if it hangs.

    A server that lingers ends at once when its `server.json` or its folder is removed.
    """
    with users.open("a") as lock:
        if linger_seconds:
            _wait_until_unused(lock, users.with_name("server.json"), linger_seconds)
        else:
            fcntl.flock(lock, fcntl.LOCK_EX)
        users.with_name("server.json").unlink(missing_ok=True)
        server.should_exit = True
        time.sleep(GRACE_SECONDS)
        os._exit(1)


def _wait_until_unused(lock: IO[str], entry: Path, linger_seconds: float) -> None:
    """Return with the lock taken, or while another process holds it alone and has removed the entry."""
    unused_since: float | None = None
    while True:
        time.sleep(POLL_SECONDS)
        if not lock_file(lock, fcntl.LOCK_EX):
            if not lock_file(lock, fcntl.LOCK_SH) and not entry.exists():
                return
            unused_since = None
        elif unused_since is None:
            unused_since = time.monotonic()
        elif time.monotonic() - unused_since > linger_seconds or not entry.exists():
            return
        fcntl.flock(lock, fcntl.LOCK_UN)


def main(users: Path, listening: socket.socket, linger_seconds: float) -> None:
    """Serve the Prefect API on a bound socket until no process holds the users' lock, and `linger_seconds` more."""
    close_failed_cursors()
    lock_before_reading()
    server = Server(
        Config(
            "penstock.deployments.server.health:create_app_with_health",
            factory=True,
            lifespan="on",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=5,
        )
    )
    threading.Thread(target=stop_when_unused, args=(server, users, linger_seconds), daemon=True).start()
    server.run(sockets=[listening])


if __name__ == "__main__":
    main(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])), float(sys.argv[3]))
