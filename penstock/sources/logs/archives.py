"""Unpack compressed log files as a stream, and check them to their end."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from penstock.errors import BrokenArchive

CHUNK = 1 << 20


@dataclass(frozen=True)
class Codec:
    """A way of compressing."""

    name: str
    suffixes: tuple[str, ...]
    magic: tuple[bytes, ...]
    """Beginnings of its files."""
    unpack: Callable[[BinaryIO], Iterator[bytes]]


def _unpack_gzip(handle: BinaryIO) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=handle) as unpacked:
        while chunk := unpacked.read(CHUNK):
            yield chunk


def _unpack_bzip2(handle: BinaryIO) -> Iterator[bytes]:
    return _unpack_streams(handle, bz2.BZ2Decompressor)


def _unpack_xz(handle: BinaryIO) -> Iterator[bytes]:
    return _unpack_streams(handle, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ))


def _unpack_streams(handle: BinaryIO, open_stream: Callable[[], Any]) -> Iterator[bytes]:
    """Unpack streams that follow each other. Python's own readers ignore what is wrong behind the first."""
    stream, packed = open_stream(), b""
    while packed := packed or handle.read(CHUNK):
        if stream.eof:
            packed = packed.lstrip(b"\0")  # padding
            if not packed:
                continue
            stream = open_stream()
        yield stream.decompress(packed, CHUNK)
        while not stream.eof and not stream.needs_input:
            yield stream.decompress(b"", CHUNK)
        packed = stream.unused_data if stream.eof else b""
    if not stream.eof:
        raise EOFError("it ends within a stream")


def _unpack_zstd(handle: BinaryIO) -> Iterator[bytes]:
    with pa.CompressedInputStream(pa.PythonFile(cast(Any, handle), "r"), "zstd") as unpacked:
        while chunk := unpacked.read(CHUNK):
            yield chunk


_SKIPPED = tuple(bytes([0x50 + i]) + b"\x2a\x4d\x18" for i in range(16))
CODECS = (
    Codec("gzip", (".gz",), (b"\x1f\x8b",), _unpack_gzip),
    Codec(
        "bzip2",
        (".bz2",),
        tuple(b"BZh%d" % i + block for i in range(1, 10) for block in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")),
        _unpack_bzip2,
    ),
    Codec("xz", (".xz",), (b"\xfd7zXZ\0",), _unpack_xz),
    Codec("zstd", (".zst", ".zstd"), (b"\x28\xb5\x2f\xfd", *_SKIPPED), _unpack_zstd),
)
_UNREADABLE = {
    "zip": ((".zip",), b"PK\x03\x04"),
    "7-Zip": ((".7z",), b"7z\xbc\xaf\x27\x1c"),
    "LZ4": ((".lz4",), b"\x04\x22\x4d\x18"),
    "lzip": ((".lz",), b"LZIP"),
    "compress": ((".Z",), b"\x1f\x9d"),
}


def find_codec(source: str, path: Path, handle: BinaryIO) -> Codec | None:
    """Return how a file is compressed, by its first bytes. None if it is not.

    Raises:
        BrokenArchive: the file has the name of a compressed one and is not, or is of a kind that is not read.
    """
    handle.seek(0)
    beginning = handle.read(10)
    for codec in CODECS:
        if beginning.startswith(codec.magic):
            return codec
    for name, (suffixes, magic) in _UNREADABLE.items():
        if beginning.startswith(magic) and path.suffix in suffixes:
            raise BrokenArchive(source, str(path), f"{name} files are not read; pack it as .gz, .bz2, .xz or .zst")
    for codec in CODECS:
        if path.suffix.lower() in codec.suffixes:
            raise BrokenArchive(source, str(path), f"it is named {path.suffix} and is not a {codec.name} file")
    return None


def unpack(source: str, path: Path, handle: BinaryIO, codec: Codec) -> Iterator[bytes]:
    """Yield the content in chunks. It is whole only if no error follows.

    Raises:
        BrokenArchive: the file is truncated or corrupt.
    """
    handle.seek(0)
    try:
        yield from codec.unpack(handle)
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, OSError) as error:
        cut = isinstance(error, EOFError) or "Truncated" in str(error)
        raise BrokenArchive(
            source, str(path), f"the {codec.name} is {'truncated' if cut else 'corrupt'} ({error})"
        ) from error
