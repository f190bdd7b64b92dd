"""Where `files` and `log` sources may read: inside the folders of `PENSTOCK_ROOTS`, if it is set.

Paths are checked where they are turned into files, so every reader is checked. Links are followed first.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from penstock.errors import OutsideRoots
from penstock.object_urls import is_remote, parse_url
from penstock.run_types import FileState

FoundFile = Path | FileState
"""A local file, or an object with its state, which its store's list gives."""


def check_pattern(source: str, path: str, roots: tuple[str, ...]) -> None:
    """Refuse a path whose fixed part, before the first wildcard, is outside of the roots. Nothing is listed then.

    Raises:
        OutsideRoots: it is.
    """
    if is_remote(path):
        _check_url(source, path, path, roots)
        return
    fixed = re.split(r"[*?\[]", path)[0]
    check_files(source, path, [Path(fixed) if fixed == path or fixed.endswith("/") else Path(fixed).parent], roots)


def check_files(source: str, path: str, files: Iterable[FoundFile], roots: tuple[str, ...]) -> None:
    """Refuse files that are outside of the roots once their links are followed. Without roots nothing is refused.

    Raises:
        OutsideRoots: the first one that is.
    """
    if not roots:
        return
    folders = [Path(root).resolve() for root in roots if not is_remote(root)]
    for file in files:
        if isinstance(file, FileState):
            _check_url(source, path, file.path, roots)
            continue
        real = file.resolve()
        if not any(real.is_relative_to(folder) for folder in folders):
            raise OutsideRoots(source, path, str(real), roots)


def _check_url(source: str, path: str, url: str, roots: tuple[str, ...]) -> None:
    """Refuse a URL that begins with none of the remote roots, or that has `..` in it."""
    if not roots:
        return
    found = parse_url(url)
    folders = [f"{parse_url(root.rstrip('/'))}".rstrip("/") + "/" for root in roots if is_remote(root)]
    if ".." in found.key.split("/") or not any(f"{found}/".startswith(folder) for folder in folders):
        raise OutsideRoots(source, path, url, roots)
