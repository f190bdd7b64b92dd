"""The state of a run's files: recorded when the run is planned, and compared when each partition is read.

Partitions are cut by the position of rows in the files. If a file changes in between, the positions mean other rows.
"""

import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import BinaryIO

from penstock.errors import BrokenFile, FilesChanged, ObjectChanged, ObjectNotFound, PenstockError
from penstock.object_urls import is_remote
from penstock.run_types import FileState
from penstock.sources.allowed_paths import FoundFile

SAMPLES, SAMPLE_BYTES = 8, 16_384
"""The samples of a file's content: the first bytes, the last (the footer of a Parquet file), and some in between."""


def read_states(source: str, files: Iterable[FoundFile]) -> tuple[FileState, ...]:
    """Return the present state of files. Objects have it already.

    Raises:
        FilesChanged: a file was removed since the folder was listed.
        BrokenFile: a file may not be read.
    """
    listed = list(files)
    found = [file if isinstance(file, FileState) else _read_state(source, str(file)) for file in listed]
    removed = tuple(f"{file} was removed" for file, state in zip(listed, found, strict=True) if state is None)
    if removed:
        raise FilesChanged(source, removed)
    return tuple(state for state in found if state is not None)


@contextmanager
def unchanged_files(source: str, planned: Sequence[FileState]) -> Iterator[None]:
    """Compare files with their planned states before and after they are read in the block.

    Objects are not compared here: each range of them is read from the planned state, or not at all.

    Raises:
        FilesChanged: a file differs. It takes the place of an error that reading raised, because it is the cause.
    """
    _refuse_changes(source, planned)
    try:
        yield
    except ObjectChanged as error:
        raise FilesChanged(source, (f"{error.url} {error.change}",)) from None
    except ObjectNotFound as error:
        raise FilesChanged(source, (f"{error.url} was removed",)) from None
    except PenstockError:
        _refuse_changes(source, planned)
        raise
    _refuse_changes(source, planned)


def _refuse_changes(source: str, planned: Sequence[FileState]) -> None:
    compared = ((state, _read_state(source, state.path)) for state in planned if not is_remote(state.path))
    changes = tuple(f"{then.path} {change}" for then, now in compared if (change := _difference(then, now)))
    if changes:
        raise FilesChanged(source, changes)


def _difference(then: FileState, now: FileState | None) -> str:
    """Say how a file differs. Empty if it does not."""
    if now is None:
        return "was removed"
    if now.size != then.size:
        return f"has {now.size:,} bytes instead of {then.size:,}"
    if now.digest != then.digest:
        return "has other content"
    if now.written_ns != then.written_ns:
        return "was written again"
    # Another machine may see another time of change, for example over a network.
    return "was replaced or changed" if now.machine == then.machine and now.changed_ns != then.changed_ns else ""


def _read_state(source: str, path: str) -> FileState | None:
    try:
        with open(path, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            digest = _sample(file, status.st_size)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BrokenFile(source, path, error.strerror or str(error)) from error
    return FileState(path, status.st_size, status.st_mtime_ns, digest, socket.gethostname(), status.st_ctime_ns)


def _sample(file: BinaryIO, size: int) -> str:
    """Return the digest of a file's samples. A small file is read whole."""
    digest = sha256()
    last = max(0, size - SAMPLE_BYTES)
    step = last // (SAMPLES - 1) if size > SAMPLES * SAMPLE_BYTES else SAMPLE_BYTES
    for start in (*range(0, last, step), last):
        file.seek(start)
        digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()
