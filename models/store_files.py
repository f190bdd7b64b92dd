"""Files of the model store: written whole or not at all, one mover at a time, never outside the store."""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from uuid import uuid4

from penstock.errors import ModelRefused

if sys.platform != "win32":
    import fcntl

_IN_PROCESS = Lock()


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, content: bytes) -> None:
    """Put new content in a file's place in one move: readers see the old one or the new one."""
    draft = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        write_durably(draft, content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the folder's own entries are on disk (POSIX only; elsewhere a folder cannot be opened)."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold a lock file among threads and, on POSIX, among processes; the kernel lets go when the holder dies."""
    with _IN_PROCESS, path.open("ab") as file:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_inside(model: str, path: Path, limit: int) -> bytes:
    """Read a file of the store: never through a link that stands in its place, and never more than `limit` bytes.

    Raises:
        ModelRefused: it is a link, no regular file, or larger.
        FileNotFoundError: it is not there.
    """
    refuse_links(model, path)
    # The link may have come since: the kernel looks again. A pipe would be waited for.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ModelRefused(model, f"{path} is no regular file. Restore the version's folder.")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ModelRefused(model, f"{path} is larger than {limit:,} bytes, and no such file was registered.")
    return content


def refuse_links(model: str, *paths: Path) -> None:
    """Raise `ModelRefused` where part of a version is a symbolic link: it may point out of the store."""
    for path in paths:
        if path.is_symlink():
            raise ModelRefused(model, f"{path} is a symbolic link. A version's files lie in the store themselves.")
