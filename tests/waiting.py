"""Wait for what must happen: generously, for a test must not depend on how much else its machine has to do."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Happened = TypeVar("Happened")

SECONDS = 240.0
"""How long anything may take on a busy machine; no test has a deadline of its own where it does not test one."""


def wait_until(
    happened: Callable[[], Happened], seconds: float = SECONDS, tell: Callable[[], object] | None = None
) -> Happened:
    """Ask again and again until the answer is true, and return it.

    Args:
        tell: what to say when it does not happen.
    """
    deadline = time.monotonic() + seconds
    while not (answer := happened()):
        assert time.monotonic() < deadline, f"did not happen in {seconds:.0f} s: {tell() if tell else answer}"
        time.sleep(0.1)
    return answer


def is_alive(pid: int) -> bool:
    """Whether a process has not ended yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if not Path("/proc/self/stat").exists():
        return True
    try:  # a dead process that nobody has reaped yet still takes signals
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # reaped meanwhile: the file is gone, or opened and then empty
        return False
