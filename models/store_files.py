"""Files of the model store: written whole or not at all, moved under a lock, never outside the store."""

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
    """Replace a file's content in one move: readers see the old content or the new one."""
    draft = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        write_durably(draft, content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the folder's entries are on disk. POSIX only, because Windows cannot open a folder."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Lock a file among threads and, on POSIX, among processes. The kernel unlocks it when the process dies."""
    with _IN_PROCESS, path.open("ab") as file:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_inside(model: str, path: Path, limit: int) -> bytes:
    """Read a file of the store, but no link in its place, and no more than `limit` bytes.

    Raises:
        ModelRefused: it is a link, not a regular file, or larger.
        FileNotFoundError: it does not exist.
    """
    refuse_links(model, path)
    # A link may have been made since: the kernel checks again. NONBLOCK: opening a pipe would wait.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ModelRefused(model, f"{path} is not a regular file. Restore the version's folder.")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ModelRefused(
            model,
            f"{path} is larger than {limit:,} bytes, the most that the store accepts. Restore the version's folder.",
        )
    return content


def refuse_links(model: str, *paths: Path) -> None:
    """Raise `ModelRefused` if part of a version is a symbolic link: it may point out of the store."""
    for path in paths:
        if path.is_symlink():
            raise ModelRefused(model, f"{path} is a symbolic link. Put the file itself into the store.")
