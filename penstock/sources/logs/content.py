"""Read a log file's bytes at any offset. A gzip is first unpacked and checked to its end."""

import gzip
import hashlib
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from penstock.errors import BrokenFile

MARK = 1024
"""Bytes of a file's head, and before an offset, that identify it."""
MAX_GZIP_BYTES = 8 << 30
MAX_GZIP_RATIO = 200
"""The largest allowed ratio of a gzip above `FREE_GZIP_BYTES`. Logs have about 10 to 30."""
FREE_GZIP_BYTES = 100 << 20

_CHUNK = 1 << 20
_SPOOLED = 32 << 20


@dataclass(frozen=True)
class Content:
    """An open file, with its size at opening."""

    handle: BinaryIO
    size: int
    head: bytes
    signature: str
    complete: bool
    """Whether it is a gzip. A gzip does not grow, so its last line counts without an LF."""
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
        while stop > start and not self.complete:
            begin = max(start, stop - _CHUNK)
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
        spans = ((at, min(_CHUNK, length - at)) for at in range(0, length, _CHUNK))
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


def is_gzip(source_name: str, path: Path, handle: BinaryIO) -> bool:
    """Whether a file is a gzip, by its first bytes.

    Raises:
        BrokenFile: the file is named `.gz` and is not a gzip.
    """
    handle.seek(0)
    packed = handle.read(2) == b"\x1f\x8b"
    if not packed and path.suffix.lower() == ".gz":
        raise BrokenFile(source_name, str(path), "it is named .gz and is not a gzip file")
    return packed


def packed_digest(handle: BinaryIO) -> str:
    """Return the digest of a gzip's packed bytes, which is far quicker than unpacking it."""
    found = hashlib.sha256()
    handle.seek(0)
    while chunk := handle.read(_CHUNK):
        found.update(chunk)
    return found.hexdigest()


@contextmanager
def plain_content(handle: BinaryIO) -> Iterator[Content]:
    status = os.fstat(handle.fileno())
    handle.seek(0)
    head = handle.read(min(MARK, status.st_size))
    yield Content(handle, status.st_size, head, write_stamp(status), False, written_at(status))


@contextmanager
def unpacked_content(source_name: str, path: Path, handle: BinaryIO, packed: str) -> Iterator[Content]:
    """Unpack a gzip into a temporary file. No content is returned before its end has been checked.

    Raises:
        BrokenFile: the gzip is truncated, corrupt or too large.
    """
    status = os.fstat(handle.fileno())
    with tempfile.SpooledTemporaryFile(max_size=_SPOOLED) as spool:
        size = _unpack(source_name, path, handle, status.st_size, spool)
        spool.seek(0)
        head, signature = spool.read(MARK), f"{write_stamp(status)}:{packed}"
        yield Content(spool, size, head, signature, True, written_at(status))  # type: ignore[arg-type] # a spooled file has all used methods of a BinaryIO


def _unpack(
    source_name: str, path: Path, handle: BinaryIO, packed_size: int, spool: "tempfile.SpooledTemporaryFile[bytes]"
) -> int:
    handle.seek(0)
    size = 0
    try:
        with gzip.GzipFile(fileobj=handle) as unpacked:
            while chunk := unpacked.read(_CHUNK):
                size += len(chunk)
                if size > MAX_GZIP_BYTES:
                    raise BrokenFile(source_name, str(path), f"it unpacks to more than {MAX_GZIP_BYTES} bytes")
                if size > FREE_GZIP_BYTES and size > MAX_GZIP_RATIO * packed_size:
                    raise BrokenFile(source_name, str(path), f"it unpacks to more than {MAX_GZIP_RATIO} times its size")
                spool.write(chunk)
    except EOFError as error:
        raise BrokenFile(source_name, str(path), f"the gzip is truncated ({error})") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BrokenFile(source_name, str(path), f"the gzip is corrupt ({error})") from error
    return size


def written_at(status: os.stat_result) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=status.st_mtime_ns // 1000)
