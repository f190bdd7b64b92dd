"""Whether a process of this machine is alive."""

import os
from pathlib import Path


def is_alive(pid: int) -> bool:
    """Whether a process has the id. One that is dead and not reaped yet does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = Path("/proc", str(pid), "stat")  # a dead process that is not reaped still accepts signals
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")
