"""The beginnings of files, from which the dialect is guessed, and the encoding of their text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from penstock.errors import AmbiguousDialect, BrokenFile, Reading
from penstock.sources.text.decoding import READ_ERRORS, ReadableFile, find_encoding, open_bytes, open_text

_MOST_FILES = 16
_MOST_BYTES = 1 << 20
_MOST_LINES = 4_000
"""Lines of all files together."""
_EIGHT_BIT = ("cp1252", "cp1250", "cp1251")
"""Encodings of one byte a character that are shown as readings. No rule tells them apart."""


@dataclass(frozen=True)
class Head:
    """The first lines of one file."""

    file: ReadableFile
    lines: tuple[str, ...]
    is_whole: bool
    """Whether these are all lines of the file."""


def read_heads(name: str, files: Sequence[ReadableFile], encoding: str | None) -> tuple[str, tuple[Head, ...]]:
    """Return the encoding and the first lines of the files, evenly chosen if there are many.

    Raises:
        AmbiguousDialect: the encoding is not stated and cannot be known.
        BrokenFile: a file cannot be read.
    """
    step = -(-len(files) // _MOST_FILES)
    chosen = files[::step] if step > 1 else files
    try:
        found = encoding or _guess_encoding(name, chosen)
        heads = tuple(
            head for head in (_read_head(file, found, _MOST_LINES // len(chosen)) for file in chosen) if head.lines
        )
    except READ_ERRORS as error:
        raise BrokenFile(name, ", ".join(map(str, chosen[:3])), str(error)) from None
    return found, heads


def _read_head(file: ReadableFile, encoding: str, most: int) -> Head:
    lines: list[str] = []
    size = 0
    with open_text(file, encoding) as text:
        for line in islice(text, most):
            lines.append(line)
            size += len(line)
            if size > _MOST_BYTES:
                break
        return Head(file, tuple(lines), not text.readline())


def _guess_encoding(name: str, files: Sequence[ReadableFile]) -> str:
    """Return UTF-8 or UTF-16, which bytes show. Of other encodings they show only that it is another one."""
    for file in files:
        with open_bytes(file) as opened:
            data = opened.read(_MOST_BYTES)
            is_whole = not opened.read(1)
        if find_encoding(data[:4], ""):
            continue  # a byte order mark decides for its file
        if 0 in data[:4096]:
            return "utf-16-le" if data[1:4096:2].count(0) > data[0:4096:2].count(0) else "utf-16-be"
        strange = list(_lines_that_are_not_utf8(data if is_whole else data[: data.rfind(b"\n") + 1]))
        special = sum(not line.isascii() for line in data.split(b"\n"))
        if len(strange) > special / 10:
            number, line = strange[0]
            raise AmbiguousDialect(name, str(file), number, "not in UTF-8", tuple(_eight_bit_readings(line)))
    return "utf-8"


def _lines_that_are_not_utf8(data: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            line.decode()
        except UnicodeDecodeError:
            yield number, line


def _eight_bit_readings(line: bytes) -> Iterator[Reading]:
    first = next(place for place, byte in enumerate(line) if byte > 127)
    piece = line[max(0, first - 20) : first + 20]
    for encoding in _EIGHT_BIT:
        text = piece.decode(encoding, errors="replace").strip()
        yield Reading(f"csv: {{encoding: {encoding}}}", f"`{text}`")
