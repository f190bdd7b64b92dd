"""Homes of Prefect servers with a migrated database: migrations take half of a first start."""

import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

from penstock.deployments.server.local import local_server

CACHE = Path(__file__).parents[1] / ".pytest_cache"


def prepare_home(home: Path) -> Path:
    """Copy the database of a server that has run its migrations into a new home, and return the home."""
    folder = home / "prefect"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_migrated_database(), folder / "prefect.db")
    return home


def _migrated_database() -> Path:
    """Return a database that all tests of this checkout copy; it is made once for each version of Prefect."""
    kept = CACHE / f"prefect-{version('prefect')}.db"
    if not kept.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            home = Path(folder)
            with local_server(home):
                pass
            os.replace(home / "prefect" / "prefect.db", kept)  # in one step: another process may make it too
    return kept
