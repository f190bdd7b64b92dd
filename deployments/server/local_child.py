"""The child process of `server.local`: one Prefect server that ends after its last user."""

import fcntl
import os
import socket
import sys
import threading
import time
from pathlib import Path

from uvicorn import Config, Server

from penstock.deployments.server.failed_cursors import close_failed_cursors
from penstock.deployments.server.write_locks import lock_before_reading

GRACE_SECONDS = 15.0


def stop_when_unused(server: Server, users: Path) -> None:
    """Wait until the kernel has released every user's lock, then stop the server. Kill it if it hangs."""
    with users.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        users.with_name("server.json").unlink(missing_ok=True)
        server.should_exit = True
        time.sleep(GRACE_SECONDS)
        os._exit(1)


def main(users: Path, listening: socket.socket) -> None:
    """Serve the Prefect API on a bound socket until no process holds the users' lock."""
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
    threading.Thread(target=stop_when_unused, args=(server, users), daemon=True).start()
    server.run(sockets=[listening])


if __name__ == "__main__":
    main(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
