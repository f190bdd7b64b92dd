"""The time of a document: from its path, or else that of the file.

A copy of a file has the time of the copy. So a date in the path is taken before the file's own time.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from penstock.interval import DataInterval
from penstock.object_stores import matches_pattern
from penstock.run_types import FileState
from penstock.sources.allowed_paths import FoundFile
from penstock.sources.file_paths import below_fixed_folder, interval_patterns
from penstock.spec.documents import PathTime
from penstock.spec.sources import FilesSource

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}
_NANOSECONDS = 1_000
TIME, MODIFIED = "time", "modified"
"""Columns of a document that are times."""


@dataclass(frozen=True)
class DocumentTimes:
    """The times of a source's documents."""

    spec: FilesSource
    patterns: Sequence[tuple[str, datetime]] = ()
    """The path of each span that files are named by, with the start of the span."""

    @classmethod
    def of_interval(cls, spec: FilesSource, interval: DataInterval | None, zone: str) -> "DocumentTimes":
        return cls(spec, tuple(interval_patterns(spec, interval, zone)) if interval else ())

    def find(self, file: str, written_ns: int) -> datetime | None:
        """Return the time of a document. None if its path lacks the time that the spec says it has."""
        stated = self.spec.documents.time
        if stated is not None:
            return _time_in_path(stated, below_fixed_folder(self.spec.path, file), self.spec.timezone)
        for pattern, start in self.patterns:
            if matches_pattern(file, pattern):
                return start
        return modified_at(written_ns)

    def select(
        self, files: Sequence[FoundFile], column: str, low: datetime | None, high: datetime | None
    ) -> list[FoundFile]:
        """Return the files in a span of time by a column, and those without a time, which are refused later."""
        return [file for file in files if self._is_within(file, column, low, high)]

    def _is_within(self, file: FoundFile, column: str, low: datetime | None, high: datetime | None) -> bool:
        try:
            written = file.written_ns if isinstance(file, FileState) else file.stat().st_mtime_ns
        except FileNotFoundError:  # removed since the folder was listed
            return False
        path = file.path if isinstance(file, FileState) else str(file)
        time = modified_at(written) if column == MODIFIED else self.find(path, written)
        return time is None or ((low is None or time >= low) and (high is None or time < high))


def modified_at(written_ns: int) -> datetime:
    """Return the time of a file to the microsecond. Further digits are cut off."""
    return _EPOCH + timedelta(microseconds=written_ns // _NANOSECONDS)


def _time_in_path(stated: PathTime, path: str, zone: str) -> datetime | None:
    found = re.search(stated.path, path)
    return None if found is None or found[1] is None else _read_time(found[1], stated.format, zone)


@lru_cache(maxsize=4_096)
def _read_time(text: str, format_: str, zone: str) -> datetime | None:
    """Read a time. None if it is no time, or a local time that the clock skips or shows twice."""
    try:
        if format_ in _UNITS:
            return _EPOCH + timedelta(microseconds=int(text) * _UNITS[format_])
        if format_ == "epoch_ns":
            return modified_at(int(text))
        time = datetime.strptime(text, format_)  # noqa: DTZ007 # a local time, given its zone below
        if time.tzinfo is not None:
            return time.astimezone(UTC)
        moments = {time.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1)}
    except (ValueError, OverflowError):
        return None
    return moments.pop() if len(moments) == 1 else None
