"""Read files of the model store, never outside of it."""

import os
import stat
from pathlib import Path

from penstock.errors import ModelRefused


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
