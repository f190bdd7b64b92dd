"""Keep `files` and `log` sources inside the folders of `PENSTOCK_ROOTS`, if it is set.

The check runs where a path becomes a list of files, so no reader can skip it. Links are resolved before the check.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from penstock.errors import OutsideRoots
from penstock.settings import load_settings

_REMOTE = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")


def check_pattern(source: str, path: str) -> None:
    """Refuse a path whose fixed part, before the first wildcard, is outside the roots. No file is listed.

    Raises:
        OutsideRoots: the path is outside.
    """
    if _REMOTE.match(path):
        roots = load_settings().allowed_roots
        if roots and not any(_REMOTE.match(root) and _is_under(path, root) for root in roots):
            raise OutsideRoots(source, path, path, roots)
        return
    fixed = re.split(r"[*?\[]", path)[0]
    check_files(source, path, [Path(fixed) if fixed == path or fixed.endswith("/") else Path(fixed).parent])


def check_files(source: str, path: str, files: Iterable[Path]) -> None:
    """Refuse files that are not inside the roots, with links resolved.

    Raises:
        OutsideRoots: a file is outside; the error names the first one.
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
