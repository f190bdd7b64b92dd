"""Keep log files of child processes small. The processes append to them, so a file can be emptied while it is open."""

import os
import shutil
from pathlib import Path

MAX_BYTES = 10_000_000
KEPT = 3
"""Older files that stay: `worker.log.1` is the newest."""


def rotate_log(log: Path, max_bytes: int = MAX_BYTES) -> None:
    """If the log is larger, copy it to `<log>.1`, move the older ones, and empty it."""
    if not log.exists() or log.stat().st_size <= max_bytes:
        return
    for number in range(KEPT - 1, 0, -1):
        older = _older(log, number)
        if older.exists():
            older.replace(_older(log, number + 1))
    shutil.copyfile(log, _older(log, 1))
    os.truncate(log, 0)


def _older(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")
