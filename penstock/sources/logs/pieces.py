"""Read a span of a log file in pieces of whole lines, in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from penstock.sources.logs.content import MARK, Content, digest
from penstock.sources.logs.split import MAX_LINE, SHOWN, Lines, oversize_line, split_lines

BLOCK = 8 * MAX_LINE
"""Bytes in memory at a time."""


@dataclass(frozen=True)
class Piece:
    """Lines and their place in the file."""

    start: int
    length: int
    lines: Lines
    tail_hash: str
    """Hash of the last bytes up to the piece's end."""


def cut_pieces(content: Content, start: int, end: int, batch_lines: int) -> Iterator[Piece]:
    """Yield the lines in `[start, end)`. Stop early if the file has changed since it was opened."""
    mark = content.hash_before(start)
    while start < end:
        before = content.read_at(start - min(start, MARK), min(start, MARK))
        block = content.handle.read(min(BLOCK, end - start))
        if digest(before) != mark or len(block) < min(BLOCK, end - start):
            return  # truncated or rewritten while it was read
        cuts = _cuts(block, batch_lines, start + len(block) == end)
        if not cuts:
            piece = _long_piece(content, start, end, block[: SHOWN * 4])
            if piece is None:
                return
            yield piece
            start, mark = start + piece.length, piece.tail_hash
            continue
        for begin, stop in zip([0, *cuts], cuts, strict=False):
            mark = digest((before + block[max(0, stop - MARK) : stop])[-MARK:])
            yield Piece(start + begin, stop - begin, split_lines(block[begin:stop], start + begin), mark)
        start += cuts[-1]


def _cuts(block: bytes, batch_lines: int, is_last: bool) -> list[int]:
    """Return the ends of pieces of `batch_lines` lines. The rest is read again with the next block."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1
    if is_last and (not len(ends) or ends[-1] < len(block)):
        ends = np.append(ends, len(block))
    cuts: list[int] = ends[batch_lines - 1 :: batch_lines].tolist()
    if len(ends) and (is_last or not cuts) and (not cuts or cuts[-1] != ends[-1]):
        cuts.append(int(ends[-1]))
    return cuts


def _long_piece(content: Content, start: int, end: int, beginning: bytes) -> Piece | None:
    """Return a line that is longer than a block, shortened."""
    at = start
    while at < end:
        chunk = content.read_at(at, min(BLOCK, end - at))
        if not chunk:
            return None
        found = chunk.find(b"\n")
        at += found + 1 if found >= 0 else len(chunk)
        if found >= 0:
            break
    length = at - start
    ended = content.read_at(at - 1, 1) == b"\n"
    return Piece(start, length, oversize_line(beginning, length - ended, start), content.hash_before(at))
