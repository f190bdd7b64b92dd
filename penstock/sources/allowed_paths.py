"""Where `files` and `log` sources may read: inside the folders of `PENSTOCK_ROOTS`, when that is set.

The check stands where a path becomes files, so no reader can pass it by. Links are followed before a file is judged.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from penstock.errors import OutsideRoots
from penstock.settings import load_settings

_REMOTE = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")


def check_pattern(source: str, path: str) -> None:
    """Refuse a path whose fixed part, before the first wildcard, already lies outside; nothing is listed then.

    Raises:
        OutsideRoots: it does.
    """
    if _REMOTE.match(path):
        roots = load_settings().allowed_roots
        if roots and not any(_REMOTE.match(root) and _is_under(path, root) for root in roots):
            raise OutsideRoots(source, path, path, roots)
        return
    fixed = re.split(r"[*?\[]", path)[0]
    check_files(source, path, [Path(fixed) if fixed == path or fixed.endswith("/") else Path(fixed).parent])


def check_files(source: str, path: str, files: Iterable[Path]) -> None:
    """Refuse files that do not lie inside the roots, wherever their links lead.

    Raises:
        OutsideRoots: the first one that does not.
    """
    roots = load_settings().allowed_roots
    if not roots:
        return
    folders = [Path(root).resolve() for root in roots if not _REMOTE.match(root)]
    for file in files:
        real = file.resolve()
        if not any(real.is_relative_to(folder) for folder in folders):
            raise OutsideRoots(source, path, str(real), roots)


def _is_under(path: str, root: str) -> bool:
    return ".." not in path.split("/") and (path + "/").startswith(root.rstrip("/") + "/")
