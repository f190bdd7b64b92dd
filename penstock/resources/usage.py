"""Measure processor seconds, bytes and memory of a process, and compute their price."""

import os
import resource
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HOUR = 3600.0
_LOOK_SECONDS = 0.002
GB = 2**30
"""Bytes of a gigabyte, as clouds bill memory."""


@dataclass(frozen=True)
class Spent:
    """Resources of one partition, measured in its process."""

    process: str
    cpu_begun: float
    """CPU clock of the process when the partition began."""
    cpu_ended: float
    """CPU clock of the process when the partition ended. Partitions on other threads share this clock."""
    bytes_read: int
    """Arrow bytes of the extracted rows."""
    bytes_written: int
    """Arrow bytes of the scored rows that were loaded."""
    peak_bytes: int
    """Peak memory of the process so far."""

    @property
    def cpu_seconds(self) -> float:
        return self.cpu_ended - self.cpu_begun


@dataclass(frozen=True)
class Prices:
    """Prices per hour, in any currency. None if not set."""

    cpu_hour: float | None = None
    gb_hour: float | None = None

    def cost(self, cpu_seconds: float, peak_bytes: int, seconds: float) -> float | None:
        """Return the cost of CPU hours and of peak memory, counted for the whole time.

        cost = cpu_seconds / 3600 * cpu_hour + peak_bytes / 2**30 * seconds / 3600 * gb_hour
        """
        if self.cpu_hour is None and self.gb_hour is None:
            return None
        memory = peak_bytes / GB * seconds * (self.gb_hour or 0.0)
        return (cpu_seconds * (self.cpu_hour or 0.0) + memory) / HOUR


NO_PRICES = Prices()


@dataclass(frozen=True)
class Usage:
    """Resources of a run from its claim to its end."""

    cpu_seconds: float
    """CPU seconds of the flow's process and of the processes of partitions, not of databases."""
    bytes_read: int
    bytes_written: int
    peak_bytes: int
    """Peak memory of the process since its start. With several processes, the sum of their peaks."""
    processes: int
    cost: float | None


class PartitionMeter:
    """Measures one partition, from its creation on."""

    def __init__(self) -> None:
        self._begun = time.process_time()
        self.bytes_read = 0

    def read(self, bytes_written: int) -> Spent:
        return Spent(process_name(), self._begun, time.process_time(), self.bytes_read, bytes_written, peak_memory())


class RunMeter:
    """Measures one run, from its creation on, and adds the partitions' figures."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._cpu_begun = time.process_time()
        self._begun = time.monotonic()
        self._spent: list[Spent] = []

    def add(self, spent: Spent | None) -> None:
        """Add the figures of a partition."""
        if spent is not None:
            self._spent.append(spent)

    def read(self) -> Usage:
        """Return the resources of the run so far."""
        own = process_name()
        spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
        peaks: dict[str, int] = {own: peak_memory()}
        for spent in self._spent:
            # This process's too: Linux counts its pages a little late, and can report less than a moment before.
            peaks[spent.process] = max(peaks.get(spent.process, 0), spent.peak_bytes)
            if spent.process != own:
                spans[spent.process].append((spent.cpu_begun, spent.cpu_ended))
        cpu_seconds = time.process_time() - self._cpu_begun + sum(map(covered, spans.values()))
        peak_bytes = sum(peaks.values())
        return Usage(
            cpu_seconds=round(cpu_seconds, 3),
            bytes_read=sum(spent.bytes_read for spent in self._spent),
            bytes_written=sum(spent.bytes_written for spent in self._spent),
            peak_bytes=peak_bytes,
            processes=len(peaks),
            cost=self._prices.cost(cpu_seconds, peak_bytes, time.monotonic() - self._begun),
        )


def covered(spans: list[tuple[float, float]]) -> float:
    """Return the total that the spans cover on one clock. Overlaps count once."""
    total, reached = 0.0, float("-inf")
    for begun, ended in sorted(spans):
        total += max(0.0, ended - max(begun, reached))
        reached = max(reached, ended)
    return total


def process_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def peak_memory() -> int:
    """Return the peak memory of this process since its start, in bytes."""
    # Prefer /proc over getrusage, whose figure survives exec: a small child would report its parent's peak.
    return _status("VmHWM") or _most_by_rusage()


def held_memory() -> int:
    """Return the memory of this process now, in bytes, or its peak if the system gives only that."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return _most_by_rusage()
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Watched:
    """Peak memory of the process while it was watched."""

    def __init__(self) -> None:
        self.begun = self.most = held_memory()

    @property
    def growth(self) -> int:
        return self.most - self.begun

    def look(self) -> None:
        self.most = max(self.most, held_memory())


@contextmanager
def watching_memory() -> Iterator[Watched]:
    """Watch this process's memory from a thread, every few milliseconds."""
    watched, done = Watched(), threading.Event()
    before = peak_memory()

    def watch() -> None:
        while not done.wait(_LOOK_SECONDS):
            watched.look()

    thread = threading.Thread(target=watch, name="watch memory", daemon=True)
    thread.start()
    try:
        yield watched
    finally:
        done.set()
        thread.join()
        watched.look()
        after = peak_memory()
        if after > before:  # a new peak of the process, which the thread may have missed
            watched.most = max(watched.most, after)


def format_bytes(size: int) -> str:
    """Write a size for people: `820 KiB`, `1.4 GiB`."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            number = size / factor
            return f"{number:.1f} {unit}" if number < 10 else f"{number:,.0f} {unit}"
    return f"{size} B"


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def _most_by_rusage() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
