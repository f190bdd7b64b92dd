"""Put the lines of a file together to records: a line each, several lines each, or lines below a header of fields."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from penstock.sources.logs.archives import CHUNK
from penstock.sources.logs.content import Content
from penstock.sources.logs.split import Lines, split_lines, split_spans

pc: Any = pyarrow.compute  # the stubs allow neither strings nor NULL as operands
FIELDS = "#Fields:"

Bools = np.ndarray[Any, np.dtype[np.bool_]]
Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Layout:
    """How lines make up records. Without anything set, each line is a record."""

    record_start: str | None = None
    """Expression of the first lines of records. Other lines continue the record before."""
    has_fields: bool = False
    """Whether lines that begin with `#` are directives. `#Fields:` names the fields of the lines that follow."""

    def end(self, content: Content, start: int) -> int:
        """Return the end of the last whole record, or `start`. The last record of a growing file is not whole."""
        end = content.end_of_lines(start)
        if self.record_start is None or content.finished or end == start:
            return end
        last = _find_last(content, start, end, self._starts)
        return start if last is None else last[0]

    def header(self, content: Content, start: int) -> str | None:
        """Return the `#Fields:` line that holds at an offset."""
        found = _find_last(content, 0, start, _is_fields) if self.has_fields and start else None
        return found[1] if found else None

    def ends(self, block: bytes, base: int, is_last: bool) -> Ints:
        """Return the ends of the records in a block that begins with one."""
        if self.record_start is None:
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1
            if is_last and (not len(ends) or ends[-1] < len(block)):
                ends = np.append(ends, len(block))
            return ends
        whole = len(block) if is_last else block.rfind(b"\n") + 1
        lines = split_lines(block[:whole], base)
        starts = lines.offsets.to_numpy()[1:][self._starts(lines.text)[1:]] - base
        if is_last or (not len(starts) and whole):  # a record longer than a block is cut
            starts = np.append(starts, whole)
        return starts

    def split(self, data: bytes, base: int, header: str | None) -> tuple[Lines, str | None]:
        """Return the records of whole lines, and the header that holds after them."""
        lines = split_lines(data, base)
        if self.record_start is not None and len(lines.offsets):
            starts = self._starts(lines.text)
            starts[0] = True
            lines = split_spans(data, base, lines.offsets.to_numpy()[starts])
        return _with_header(lines, header) if self.has_fields else (lines, None)

    def _starts(self, texts: Any) -> Bools:
        """Whether each line begins a record."""
        assert self.record_start is not None
        try:
            found = pc.match_substring_regex(texts, rf"\A(?:{self.record_start})")
        except pa.ArrowInvalid:  # the bulk engine does not support all of Python's expressions
            pattern = re.compile(self.record_start, re.ASCII)
            return np.array([pattern.match(text) is not None for text in texts.to_pylist()], np.bool_)
        return np.array(found.to_numpy(zero_copy_only=False), np.bool_)


ONE_LINE = Layout()


def _is_fields(texts: Any) -> Bools:
    return np.array(pc.starts_with(texts, FIELDS).to_numpy(zero_copy_only=False), np.bool_)


def _with_header(lines: Lines, header: str | None) -> tuple[Lines, str | None]:
    """Drop the directives, and write before each line the `#Fields:` line that holds for it."""
    texts, kept = [], []
    known: list[str] = lines.text.to_pylist()  # type: ignore[assignment] # no line is NULL
    for number, text in enumerate(known):
        if text.startswith(FIELDS):
            header = text
        elif not text.startswith("#"):
            kept.append(number)
            texts.append(text if header is None else f"{header}\n{text}")
    rows = pa.array(kept, pa.int64())
    below = replace(
        lines,
        offsets=lines.offsets.take(rows),
        text=pa.array(texts, pa.string()),
        broken=lines.broken.take(rows),
        oversize=lines.oversize.take(rows),
    )
    return below, header


def _find_last(content: Content, start: int, stop: int, wanted: Callable[[Any], Bools]) -> tuple[int, str] | None:
    """Return offset and text of the last line in `[start, stop)` that is wanted. Both are beginnings of lines."""
    size = CHUNK
    while stop > start:
        begin = max(start, stop - size)
        data = content.read_at(begin, stop - begin)
        skipped = 0 if begin == start else data.find(b"\n") + 1
        if begin > start and (not skipped or skipped == len(data)):  # the line is longer than the chunk
            size *= 2
            continue
        lines = split_lines(data[skipped:], begin + skipped)
        found = np.flatnonzero(wanted(lines.text)) if len(lines.offsets) else np.array([], np.int64)
        if len(found):
            last = int(found[-1])
            offset, text = lines.offsets[last].as_py(), lines.text[last].as_py()
            assert offset is not None
            assert text is not None
            return offset, text
        stop, size = begin + skipped, CHUNK
    return None
