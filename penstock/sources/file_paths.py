"""Find the files of a source, and those of an interval if the path names it."""

import glob
import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from penstock.database.connections import Connector
from penstock.errors import NoFiles
from penstock.interval import DataInterval, Grid, calendar_boundaries, is_fixed
from penstock.object_stores import ENVIRONMENT, StoreAccess, is_remote, list_files, locate, parse_access
from penstock.run_types import FileState
from penstock.sources.allowed_paths import FoundFile, check_files, check_pattern
from penstock.spec.sources import FilesSource


def matching_files(
    name: str,
    source: FilesSource,
    interval: DataInterval | None,
    roots: tuple[str, ...],
    *,
    zone: str,
    access: StoreAccess = ENVIRONMENT,
) -> list[FoundFile]:
    """Return the files of a source (of an interval, if the path contains it), sorted by name.

    Args:
        roots: the folders that may be read; empty: no limit.
        zone: the time zone of the dates in the path.
        access: the options that an object store is opened with.

    Raises:
        NoFiles: no file matches.
        OutsideRoots: the path, or a file's link, points outside the allowed folders.
        StoreRefused: an object store refuses the request, as for a bucket that does not exist.
        StoreUnavailable: an object store does not answer.
    """
    paths = _paths(source, interval, zone)
    for path in paths:
        check_pattern(name, path, roots)
    found: list[FoundFile] = [*_list_objects(paths, access)] if is_remote(source.path) else [*_list_local(paths)]
    if not found:
        raise NoFiles(name, paths[0] if len(paths) == 1 else f"{paths[0]} to {paths[-1]}")
    check_files(name, source.path, found, roots)
    return found


def store_access(source: FilesSource, connect: Connector) -> StoreAccess:
    """Return the options that the object store of a source is opened with.

    Raises:
        SettingsError: the source's connection does not have such options.
    """
    if source.connection is None or connect.read_value is None:
        return ENVIRONMENT
    return parse_access(source.connection, connect.read_value(source.connection))


def _list_local(paths: Sequence[str]) -> list[Path]:
    return sorted({Path(p) for path in paths for p in glob.glob(path, recursive=True) if Path(p).is_file()})


def _list_objects(paths: Sequence[str], access: StoreAccess) -> list[FileState]:
    found = {state.path: state for path in paths for state in list_files(path, access)}
    return [state for _, state in sorted(found.items())]


def covered_span(source: FilesSource, interval: DataInterval, zone: str) -> DataInterval | None:
    """Return the span of time that the interval's files are named by. None if the path does not name it."""
    if "{" not in source.path:
        return None
    pieces = [interval] if source.every is None else _pieces(source.every, source.lookback, interval, zone)
    return DataInterval(pieces[0].start, pieces[-1].end)


def interval_patterns(source: FilesSource, interval: DataInterval, zone: str) -> list[tuple[str, datetime]]:
    """Return the path of each span of time that a file is named by, with the start of the span. None without spans."""
    if not source.is_named_by_interval:
        return []
    pieces = [interval] if source.every is None else _pieces(source.every, source.lookback, interval, zone)
    paths = ((_path_of(source, piece, zone), piece.start) for piece in pieces)
    return [(str(locate(path)) if is_remote(path) else path, start) for path, start in paths]


@lru_cache(maxsize=256)
def fixed_folder(path: str) -> str:
    """Return the folder of a path before its first wildcard or interval. Empty for the working folder."""
    fixed = re.split(r"[*?\[{]", path)[0] + "x"
    if is_remote(fixed):
        return str(locate(fixed)).rpartition("/")[0]
    folder = str(Path(fixed).parent)
    return "" if folder == "." else folder


def may_lack_documents(source: FilesSource) -> bool:
    """Whether it is normal that no file matches: documents in a folder that exists."""
    # An object store has no folders. A bucket that does not exist is an error of its own.
    return source.is_documents and (is_remote(source.path) or Path(fixed_folder(source.path)).is_dir())


def below_fixed_folder(pattern: str, file: str) -> str:
    """Return the part of a file's path below the fixed folder of the pattern. It is the same on each machine."""
    folder = fixed_folder(pattern)
    return file[len(folder) + (0 if folder == "/" else 1) :] if folder else file


def _paths(source: FilesSource, interval: DataInterval | None, zone: str) -> list[str]:
    """Return the path of the interval. With `every`, one path per piece, beginning with those of `lookback`."""
    if "{" not in source.path or interval is None:
        return [source.path]
    pieces = [interval] if source.every is None else _pieces(source.every, source.lookback, interval, zone)
    return [_path_of(source, piece, zone) for piece in pieces]


def _path_of(source: FilesSource, piece: DataInterval, zone: str) -> str:
    start, end = piece.start.astimezone(ZoneInfo(zone)), piece.end.astimezone(ZoneInfo(zone))
    return source.path.format(interval_start=start, interval_end=end)


def _pieces(every: timedelta, lookback: timedelta, interval: DataInterval, zone: str) -> list[DataInterval]:
    """Return the span of each file. The last one may extend beyond the interval."""
    if is_fixed(every, zone):
        first = interval.start - lookback
    else:
        day, _ = calendar_boundaries(interval.start, every, zone)
        first = Grid(day, every, zone).previous(day, -(-lookback // every))
    return Grid(first, every, zone).covering(first, interval.end)


def file_marks(files: Sequence[FoundFile]) -> str:
    """Return a fingerprint of the files: their paths, sizes and times. An object's ETag takes the place of its time."""
    return json.dumps([_mark(file) for file in files])


def state_marks(states: Sequence[FileState]) -> str:
    """Return the same fingerprint of files as a run was planned with them."""
    return json.dumps([_mark_of_state(state) for state in states])


def _mark_of_state(state: FileState) -> tuple[str, int, int | str]:
    is_tagged = is_remote(state.path) and state.digest
    return state.path, state.size, state.digest if is_tagged else state.written_ns


def _mark(file: FoundFile) -> tuple[str, int | None, int | str | None]:
    if isinstance(file, FileState):
        return _mark_of_state(file)
    try:
        status = file.stat()
    except FileNotFoundError:  # removed since the folder was listed
        return str(file), None, None
    return str(file), status.st_size, status.st_mtime_ns
