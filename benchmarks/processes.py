"""Processor time and memory of a process and its descendants, from Linux's `/proc`. Needs nothing but Python."""

import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_MB = 2**20


@dataclass(frozen=True)
class Process:
    """A process. One that has ended counts until its parent has read its exit status."""

    parent: int
    cpu_seconds: float
    """Its own, and those of its children that have ended."""
    resident_mb: float
    """Memory that it shares with others is counted."""


def read_descendants(pid: int) -> dict[int, Process]:
    """Return the descendants of a process by their IDs. Empty where there is no `/proc`."""
    processes = _read_all()
    found: dict[int, Process] = {}
    parents = {pid}
    while parents:
        parents = {each for each, process in processes.items() if process.parent in parents}
        found |= {each: processes[each] for each in parents}
    return found


def cpu_seconds() -> float:
    """Return the processor time of this process and its descendants, those that have ended included."""
    ended = os.times()
    below = sum(process.cpu_seconds for process in read_descendants(os.getpid()).values())
    return time.process_time() + ended.children_user + ended.children_system + below


def peak_mb() -> float:
    """Return the peak of this process's own memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (_MB if sys.platform == "darwin" else 2**10)


def resident_mb(pid: int) -> float:
    """Return the memory of a process and its descendants at this moment. Nothing where there is no `/proc`."""
    own = _read(pid)
    below = read_descendants(pid)
    return sum(process.resident_mb for process in below.values()) + own.resident_mb if own and below else 0.0


def _read_all() -> dict[int, Process]:
    if not _PROC.is_dir():
        return {}
    read = {int(entry.name): _read(int(entry.name)) for entry in _PROC.iterdir() if entry.name.isdigit()}
    return {pid: process for pid, process in read.items() if process}


def _read(pid: int) -> Process | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended meanwhile
        return None
    fields = stat.rpartition(")")[2].split()  # from the third field of proc_pid_stat(5)
    ticks = sum(int(field) for field in fields[11:15])
    pages = int(fields[21])
    return Process(int(fields[1]), ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / _MB)
