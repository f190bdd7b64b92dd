"""The child process of `local_postgres`: it starts Postgres, and stops it after the Prefect server."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

OWNER = "postgres"
"""Who runs Postgres when we are root, as which it refuses to run; packages of Postgres make this user."""


def main(folder: Path, programs: Path) -> None:
    """Start Postgres, write its URL to stdout, and stop it once no server lives in the folder."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # to end here is to leave Postgres behind
    data, fresh = folder / "postgres", folder / "postgres.new"
    # Short, as a socket's path must be, and closed to others: whoever gets in is the database's superuser.
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
            elif (data / "postmaster.pid").exists():  # left by a guard that was killed
                call(programs / "pg_ctl", "-D", data, "-m", "fast", "-w", "stop", check=False)
            options = f"-k {sockets} -c listen_addresses=''"
            call(programs / "pg_ctl", "-D", data, "-w", "-l", data / "log", "-o", options, "start")
            sys.stdout.write(f"postgresql+asyncpg://postgres@/postgres?host={sockets}\n")
            sys.stdout.flush()
            fcntl.flock(life, fcntl.LOCK_EX)
        finally:
            # Under the lock: the next server must not meet a database that is just stopping.
            call(programs / "pg_ctl", "-D", data, "-m", "fast", "-w", "stop", check=False)
            shutil.rmtree(sockets, ignore_errors=True)


def call(program: Path, *arguments: object, check: bool = True) -> None:
    """Run a program of Postgres; what it says goes to the log."""
    command = [str(program), *map(str, arguments)]
    user = OWNER if os.geteuid() == 0 else None
    subprocess.run(command, check=check, stdin=subprocess.DEVNULL, stdout=sys.stderr, user=user)


def own(folder: Path) -> None:
    """Give a folder to whoever runs Postgres."""
    if os.geteuid() == 0:
        shutil.chown(folder, OWNER, OWNER)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
