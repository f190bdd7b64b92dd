"""Find network file systems. There, locks of SQLite and DuckDB are unreliable, and SQLite's WAL does not work."""

import re
from collections.abc import Mapping
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
NETWORK = re.compile(r"nfs\d?|cifs|smb\d?|smbfs|afs|9p|ceph|glusterfs|lustre|beegfs|gpfs|fuse\.(?!ext|ntfs|overlay).*")


def read_mounts() -> dict[Path, str]:
    """Return the kind of file system at each mount point. Empty if the system does not show them."""
    return parse_mounts(MOUNTS.read_text(encoding="utf-8", errors="replace")) if MOUNTS.is_file() else {}


def parse_mounts(text: str) -> dict[Path, str]:
    """Read the lines of `/proc/self/mounts`. Blanks in a path are written as \\040."""
    rows = (line.split(" ") for line in text.splitlines())
    return {Path(row[1].replace(r"\040", " ")): row[2] for row in rows if len(row) > 2}


def network_kind(file: Path, mounts: Mapping[Path, str]) -> str | None:
    """Return the kind of network file system of a file, if it is on one."""
    above = (parent for parent in (file.absolute(), *file.absolute().parents) if parent in mounts)
    kind = mounts[found] if (found := next(above, None)) is not None else ""
    return kind if NETWORK.fullmatch(kind) else None
