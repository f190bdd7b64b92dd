"""Environments of the peers. Beside Penstock's own libraries, theirs would not be the newest.

A candidate with a file `<its name>.txt` here runs in an environment of its own, which `make bench-peers` creates.
`make lock` writes the file from `<its name>.in`.
"""

import sys
from pathlib import Path

FOLDER = Path(__file__).parent
ENVIRONMENTS = FOLDER.parents[1] / ".venv-peers"


def has_environment(candidate: str) -> bool:
    """Return whether a candidate runs in an environment of its own."""
    return (FOLDER / f"{candidate}.txt").exists()


def python_of(candidate: str) -> Path:
    """Return the Python that runs a candidate."""
    return ENVIRONMENTS / candidate / "bin" / "python" if has_environment(candidate) else Path(sys.executable)


def describe_lacking(candidate: str) -> str:
    """Say how to install what a candidate lacks. Empty if it can run."""
    if not has_environment(candidate) or (ENVIRONMENTS / candidate / ".installed").exists():
        return ""
    return f"{candidate} is not installed; `make bench-peers` installs it."


def version_of(candidate: str) -> str:
    """Return name and version of a peer's library, which has the first line of its requirements."""
    first = next(
        line for line in (FOLDER / f"{candidate}.in").read_text(encoding="utf-8").splitlines() if line[0] != "#"
    )
    name = first.partition("[")[0].partition(">")[0]
    pinned = (FOLDER / f"{candidate}.txt").read_text(encoding="utf-8").splitlines()
    return next(line.partition(" ")[0] for line in pinned if line.startswith(f"{name}==")).replace("==", " ")
