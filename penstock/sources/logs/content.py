"""Read a log file's bytes at any offset. A compressed file is first unpacked and checked to its end."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from penstock.errors import BrokenArchive, BrokenFile
from penstock.sources.logs.archives import CHUNK, Codec, unpack

MARK = 1024
"""Bytes of a file's head, and before an offset, that identify it."""
MAX_UNPACKED_BYTES = 8 << 30
MAX_RATIO = 200
"""The largest allowed ratio of an archive above `FREE_BYTES`. Logs have about 10 to 30."""
FREE_BYTES = 100 << 20

_SPOOLED = 32 << 20


@dataclass(frozen=True)
class Content:
    """An open file, with its size at opening."""

    handle: BinaryIO
    size: int
    head: bytes
    signature: str
    complete: bool
    """Whether it is an archive. An archive does not grow."""
    finished: bool
    """Whether no more is written to the file. Then its last line counts without an LF."""
    seen_at: datetime
    """When the file was last written."""

    def read_at(self, offset: int, count: int) -> bytes:
        self.handle.seek(offset)
        return self.handle.read(count)

    def hash_before(self, offset: int) -> str:
        start = max(0, offset - MARK)
        return digest(self.read_at(start, offset - start))

    def end_of_lines(self, start: int) -> int:
        """Return the end of the last whole line, or `start` if none follows it."""
        stop = self.size
        while stop > start and not self.finished:
            begin = max(start, stop - CHUNK)
            found = self.read_at(begin, stop - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            stop = begin
        return max(stop, start)

    def begins_as(self, other: "Content", length: int) -> bool:
        """Whether both have the same first `length` bytes."""
        if min(self.size, other.size) < length:
            return False
        last = max(0, length - MARK)
        if self.read_at(last, length - last) != other.read_at(last, length - last):
            return False
        spans = ((at, min(CHUNK, length - at)) for at in range(0, length, CHUNK))
        return all(self.read_at(at, count) == other.read_at(at, count) for at, count in spans)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_stamp(status: os.stat_result) -> str:
    """Return size and time of writing, which change when a file is written."""
    return f"{status.st_size}:{status.st_mtime_ns}"


@contextmanager
def open_raw(source_name: str, path: Path) -> Iterator[BinaryIO | None]:
    """Open a file. Yield None if it has gone since the folder was listed.

    Raises:
        BrokenFile: the file may not be read.
    """
    try:
        handle = path.open("rb", buffering=0)  # a buffer would mix bytes from before and after a truncation
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise BrokenFile(source_name, str(path), error.strerror or str(error)) from error
    with handle:
        yield handle


def packed_digest(handle: BinaryIO) -> str:
    """Return the digest of an archive's packed bytes, which is far quicker than unpacking it."""
    found = hashlib.sha256()
    handle.seek(0)
    while chunk := handle.read(CHUNK):
        found.update(chunk)
    return found.hexdigest()


@contextmanager
def plain_content(handle: BinaryIO, finished: bool) -> Iterator[Content]:
    status = os.fstat(handle.fileno())
    handle.seek(0)
    head = handle.read(min(MARK, status.st_size))
    yield Content(handle, status.st_size, head, write_stamp(status), False, finished, written_at(status))


@contextmanager
def unpacked_content(source_name: str, path: Path, handle: BinaryIO, codec: Codec, packed: str) -> Iterator[Content]:
    """Unpack an archive into a temporary file. No content is returned before its end has been checked.

    Raises:
        BrokenArchive: the archive is truncated, corrupt or too large.
    """
    status = os.fstat(handle.fileno())
    with tempfile.SpooledTemporaryFile(max_size=_SPOOLED) as spool:
        size = 0
        for chunk in unpack(source_name, path, handle, codec):
            size += len(chunk)
            if size > MAX_UNPACKED_BYTES:
                raise BrokenArchive(source_name, str(path), f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes")
            if size > FREE_BYTES and size > MAX_RATIO * status.st_size:
                raise BrokenArchive(source_name, str(path), f"it unpacks to more than {MAX_RATIO} times its size")
            spool.write(chunk)
        spool.seek(0)
        head, signature = spool.read(MARK), f"{write_stamp(status)}:{packed}"
        yield Content(spool, size, head, signature, True, True, written_at(status))  # type: ignore[arg-type] # a spooled file has all used methods of a BinaryIO


def written_at(status: os.stat_result) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=status.st_mtime_ns // 1000)
