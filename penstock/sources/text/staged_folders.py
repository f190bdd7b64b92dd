"""The folders that text files are staged in: one a run, removed at its end, or by a later run if its process died."""

import shutil
import time
from collections.abc import Container, Iterator
from pathlib import Path

_UNKNOWN_SECONDS = 7 * 86_400
"""After so long a folder is removed whose run this ledger does not know: it may be that of another warehouse."""


def staging_folder(home: Path) -> Path:
    """Return the folder that has those of the runs."""
    return (home / "staged").absolute()


def remove_folder(folder: Path) -> None:
    """Remove a run's folder, if there is one."""
    shutil.rmtree(folder, ignore_errors=True)


def staged_runs(staging: Path) -> list[str]:
    """Return the IDs of the runs that have a folder."""
    return [folder.name for folder in _folders(staging)]


def remove_ended(staging: Path, running: Container[str], ended: Container[str]) -> list[str]:
    """Remove the folders of runs that have ended. Return their IDs.

    Args:
        running: IDs of runs of the ledger that are running.
        ended: those of runs that have ended.
    """
    oldest = time.time() - _UNKNOWN_SECONDS
    removed = []
    for folder in _folders(staging):
        if folder.name in ended or (folder.name not in running and folder.stat().st_mtime < oldest):
            remove_folder(folder)
            removed.append(folder.name)
    return removed


def _folders(staging: Path) -> Iterator[Path]:
    yield from sorted(f for f in staging.iterdir() if f.is_dir()) if staging.is_dir() else ()
