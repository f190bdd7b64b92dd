"""The child process of `server.postgres`: start Postgres, and stop it after the Prefect server."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

OWNER = "postgres"
"""The user that runs Postgres if we are root, which Postgres refuses. Postgres packages create this user."""


def main(folder: Path, programs: Path) -> None:
    """Start Postgres, write its URL to stdout, and stop it when no server lives in the folder."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # to end here would leave Postgres running
    data, fresh = folder / "postgres", folder / "postgres.new"
    # A socket's path must be short. No other user may enter, because everyone who connects is a superuser.
    sockets = Path(tempfile.mkdtemp(prefix="penstock-"))
    own(sockets)
    with (folder / "server.lock").open("a") as life:
        try:
            if not data.exists():
                shutil.rmtree(fresh, ignore_errors=True)  # from an initdb that was killed
                fresh.mkdir(mode=0o700)
                own(fresh)
                call(programs / "initdb", "-D", fresh, "--auth=trust", "--username=postgres", "--encoding=UTF8")
                fresh.rename(data)
            elif (data / "postmaster.pid").exists():  # left by a child that was killed
                call(programs / "pg_ctl", "-D", data, "-m", "fast", "-w", "stop", check=False)
            options = f"-k {sockets} -c listen_addresses=''"
            call(programs / "pg_ctl", "-D", data, "-w", "-l", data / "log", "-o", options, "start")
            sys.stdout.write(f"postgresql+asyncpg://postgres@/postgres?host={sockets}\n")
            sys.stdout.flush()
            fcntl.flock(life, fcntl.LOCK_EX)
        finally:
            # Still under the lock, so that the next server does not meet a stopping database.
            call(programs / "pg_ctl", "-D", data, "-m", "fast", "-w", "stop", check=False)
            shutil.rmtree(sockets, ignore_errors=True)


def call(program: Path, *arguments: object, check: bool = True) -> None:
    """Run a program of Postgres. Its output goes to the log."""
    command = [str(program), *map(str, arguments)]
    user = OWNER if os.geteuid() == 0 else None
    subprocess.run(command, check=check, stdin=subprocess.DEVNULL, stdout=sys.stderr, user=user)


def own(folder: Path) -> None:
    """Give a folder to the user that runs Postgres."""
    if os.geteuid() == 0:
        shutil.chown(folder, OWNER, OWNER)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
