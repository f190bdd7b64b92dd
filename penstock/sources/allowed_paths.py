"""Where `files` and `log` sources may read: inside the folders of `PENSTOCK_ROOTS`, if it is set.

Paths are checked where they are turned into files, so every reader is checked. Links are followed first.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from penstock.errors import OutsideRoots

_REMOTE = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")


def check_pattern(source: str, path: str, roots: tuple[str, ...]) -> None:
    """Refuse a path whose fixed part, before the first wildcard, is outside of the roots. Nothing is listed then.

    Raises:
        OutsideRoots: it is.
    """
    if _REMOTE.match(path):
        if roots and not any(_REMOTE.match(root) and _is_under(path, root) for root in roots):
            raise OutsideRoots(source, path, path, roots)
        return
    fixed = re.split(r"[*?\[]", path)[0]
    check_files(source, path, [Path(fixed) if fixed == path or fixed.endswith("/") else Path(fixed).parent], roots)


def check_files(source: str, path: str, files: Iterable[Path], roots: tuple[str, ...]) -> None:
    """Refuse files that are outside of the roots once their links are followed. Without roots nothing is refused.

    Raises:
        OutsideRoots: the first one that is.
    """
    if not roots:
        return
    folders = [Path(root).resolve() for root in roots if not _REMOTE.match(root)]
    for file in files:
        real = file.resolve()
        if not any(real.is_relative_to(folder) for folder in folders):
            raise OutsideRoots(source, path, str(real), roots)


def _is_under(path: str, root: str) -> bool:
    return ".." not in path.split("/") and (path + "/").startswith(root.rstrip("/") + "/")
