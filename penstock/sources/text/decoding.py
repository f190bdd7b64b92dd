"""Open a text file as lines: decompress it, decode it, and keep each line's end.

The compression is found by the first bytes, so that a wrong suffix does no harm. Bytes that the encoding does not have
become lone surrogates. A line with one is a refused row, and the other lines are read.
"""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, Literal, Protocol, cast

import pyarrow as pa

from penstock.wording import plural

_MAGIC = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "bz2": re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
    "zip": re.compile(rb"PK(\x03\x04|\x05\x06)"),
}
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by byte order mark. The marks of UTF-32 come first, because one begins like that of UTF-16."""
_KEEP_BYTES = "penstock.keep_bytes"
_STRAY_BYTE = re.compile("[\ud800-\udfff]")
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, pa.ArrowException, ValueError)
"""What reading a damaged file raises."""


class ReadableFile(Protocol):
    """A local file, or an object of a store. Its text is its path."""

    def open(self, mode: Literal["rb"]) -> BinaryIO: ...


class UnreadableArchive(ValueError):
    """A zip file that does not have exactly one file in it."""


@contextmanager
def open_bytes(path: ReadableFile) -> Iterator[io.BufferedReader]:
    """Open a file, and decompress it if it is compressed.

    Raises:
        UnreadableArchive: a zip file has no file in it, or several.
    """
    with path.open("rb") as file, ExitStack() as opened:
        yield opened.enter_context(_decompressed(file, find_compression(file), opened))


def find_compression(file: BinaryIO) -> str | None:
    """Return how a file is compressed, by its first bytes. None if it is not."""
    head = file.read(16)
    file.seek(0)
    return next((kind for kind, magic in _MAGIC.items() if magic.match(head)), None)


@contextmanager
def decompress_stream(file: BinaryIO, kind: str) -> Iterator[io.BufferedReader]:
    """Decompress an open file of a known compression."""
    with ExitStack() as opened:
        yield opened.enter_context(_decompressed(file, kind, opened))


def _decompressed(file: BinaryIO, kind: str | None, opened: ExitStack) -> io.BufferedReader:
    raw: object = file
    if kind == "gzip":
        raw = gzip.GzipFile(fileobj=file)
    elif kind == "bz2":
        raw = bz2.BZ2File(file)
    elif kind == "xz":
        raw = lzma.LZMAFile(file)  # noqa: SIM115 # the caller enters it
    elif kind == "zstd":
        raw = pa.CompressedInputStream(pa.PythonFile(cast(io.IOBase, file), "r"), "zstd")
    elif kind == "zip":
        archive = opened.enter_context(zipfile.ZipFile(file))
        raw = opened.enter_context(archive.open(_only_member(archive)))
    return io.BufferedReader(cast(io.RawIOBase, raw), buffer_size=1 << 18)


def _only_member(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
    if len(members) == 1:
        return members[0]
    named = ", ".join(f"`{m.filename}`" for m in members[:5])
    found = f"{plural(len(members), 'file')} in it ({named})" if members else "no file in it"
    raise UnreadableArchive(f"it is a zip file with {found}, and one is read; unpack it")


def find_encoding(head: bytes, encoding: str) -> str:
    """Return the encoding of a file that begins with these bytes. A byte order mark wins over the stated one."""
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), encoding)


@contextmanager
def open_text(path: ReadableFile, encoding: str) -> Iterator[io.TextIOWrapper]:
    """Open a file as text. Lines end in LF, CRLF or CR, and keep their end.

    Args:
        encoding: that of files without a byte order mark.

    Raises:
        UnreadableArchive: a zip file has no file in it, or several.
    """
    codecs.register_error(_KEEP_BYTES, _keep_bytes)
    with open_bytes(path) as file:
        found = find_encoding(file.peek(4)[:4], encoding)
        with io.TextIOWrapper(file, found, errors=_KEEP_BYTES, newline="") as text:
            yield text


def _keep_bytes(error: UnicodeError) -> tuple[str, int]:
    """Replace each byte that cannot be decoded by a lone surrogate."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


def has_stray_bytes(text: str) -> bool:
    """Whether bytes of a text could not be decoded."""
    return not text.isascii() and _STRAY_BYTE.search(text) is not None


def show_stray_bytes(text: str) -> str:
    r"""Return a text in which each byte that could not be decoded is written as `\xe9`."""
    return _STRAY_BYTE.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", text)
