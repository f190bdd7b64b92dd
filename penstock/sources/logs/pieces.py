"""Read a span of a log file in pieces of whole records, in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass

from penstock.sources.logs.content import MARK, Content, digest
from penstock.sources.logs.records import Layout
from penstock.sources.logs.split import MAX_LINE, SHOWN, Lines, oversize_line

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


def cut_pieces(content: Content, start: int, end: int, batch_lines: int, layout: Layout) -> Iterator[Piece]:
    """Yield the records in `[start, end)`. Stop early if the file has changed since it was opened."""
    mark, header = content.hash_before(start), layout.header(content, start)
    while start < end:
        before = content.read_at(start - min(start, MARK), min(start, MARK))
        block = content.handle.read(min(BLOCK, end - start))
        if digest(before) != mark or len(block) < min(BLOCK, end - start):
            return  # truncated or rewritten while it was read
        cuts = _cuts(layout, block, start, batch_lines, start + len(block) == end)
        if not cuts:
            piece = _long_piece(content, start, end, block[: SHOWN * 4])
            if piece is None:
                return
            yield piece
            start, mark = start + piece.length, piece.tail_hash
            continue
        for begin, stop in zip([0, *cuts], cuts, strict=False):
            mark = digest((before + block[max(0, stop - MARK) : stop])[-MARK:])
            lines, header = layout.split(block[begin:stop], start + begin, header)
            yield Piece(start + begin, stop - begin, lines, mark)
        start += cuts[-1]


def _cuts(layout: Layout, block: bytes, base: int, batch_lines: int, is_last: bool) -> list[int]:
    """Return the ends of pieces of `batch_lines` records. The rest is read again with the next block."""
    ends = layout.ends(block, base, is_last)
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
