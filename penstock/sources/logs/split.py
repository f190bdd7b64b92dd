"""Split the bytes of a log into lines, in bulk, on LF only and not on other Unicode line ends."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

MAX_LINE = 1 << 20
"""The longest line, in bytes, that is kept as it is."""
SHOWN = 256
"""Characters that are kept of a longer line."""

_LF, _CR, _BOM = 10, 13, b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Lines:
    """Non-empty lines, each with the offset of its first byte."""

    offsets: pa.Int64Array
    text: pa.StringArray
    broken: pa.BooleanArray
    """Whether the text differs from the file: bytes that are not UTF-8, and NUL, are written as `\\xff`, `\\x00`."""
    oversize: pa.BooleanArray
    """Whether the line is longer than MAX_LINE. Its text is then the beginning and the length."""


def split_lines(data: bytes, base: int) -> Lines:
    """Split whole lines. The last may lack its LF. Drop one CR before each LF, and a BOM at the file's start.

    Args:
        data: Bytes from the beginning of a line on.
        base: Their offset in the file.
    """
    view = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(view == _LF)
    if len(data) and view[-1] != _LF:
        ends = np.append(ends, len(data))
    starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
    if base == 0 and data.startswith(_BOM):
        starts[0] = len(_BOM)
    returns = (ends > starts) & (view[ends - 1] == _CR)
    stops = ends - returns
    kept = stops > starts
    starts, stops = starts[kept], stops[kept]
    oversize = stops - starts > MAX_LINE
    broken = np.zeros(len(starts), np.bool_)
    text = None
    if data.count(b"\r") == returns.sum() and b"\0" not in data and not oversize.any():
        body = data.removeprefix(_BOM if base == 0 else b"").translate(None, b"\r\n")
        text = _strings(body, stops - starts)
    if text is None:
        lines = [data[a:b] for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
        doubtful = np.searchsorted(stops, np.flatnonzero((view >= 0x80) | (view == 0)), side="right")
        for i in np.union1d(doubtful[doubtful < len(lines)], np.flatnonzero(oversize)).tolist():
            line, broken[i] = _read_line(lines[i])
            lines[i] = line.encode()
        text = _strings(b"".join(lines), np.array([len(line) for line in lines], np.int64))
    assert text is not None  # every line that could fail was decoded separately
    return Lines(pa.array(starts + base, pa.int64()), text, _flags(broken), _flags(oversize))


def split_spans(data: bytes, base: int, starts: "np.ndarray[Any, np.dtype[np.int64]]") -> Lines:
    """Split bytes at the given offsets. Line ends inside a span become LF, those at its end are dropped."""
    stops = np.append(starts[1:], base + len(data))
    spans = [data[a - base : b - base].rstrip(b"\r\n") for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
    read = [_read_line(span.replace(b"\r\n", b"\n")) for span in spans]
    oversize = np.array([len(span) > MAX_LINE for span in spans], np.bool_)
    text: pa.StringArray = pa.array([line for line, _ in read], pa.string())
    return Lines(pa.array(starts, pa.int64()), text, _flags(np.array([b for _, b in read], np.bool_)), _flags(oversize))


def oversize_line(beginning: bytes, length: int, offset: int) -> Lines:
    """Return one line that is too long for memory."""
    text, broken = _shorten(beginning, length)
    flags = _flags(np.array([True])), _flags(np.array([broken]))
    return Lines(pa.array([offset], pa.int64()), pa.array([text], pa.string()), flags[1], flags[0])


def _strings(body: bytes, lengths: np.ndarray[Any, Any]) -> pa.StringArray | None:
    """Build the lines from their joined bytes, without a loop. None if some byte is not UTF-8."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    text = pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets.tobytes()), pa.py_buffer(body))
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return None
    return text


def _read_line(raw: bytes) -> tuple[str, bool]:
    if len(raw) > MAX_LINE:
        return _shorten(raw[: SHOWN * 4], len(raw))
    try:
        text, broken = raw.decode(), b"\0" in raw
    except UnicodeDecodeError:
        text, broken = raw.decode(errors="backslashreplace"), True
    return text.replace("\0", "\\x00"), broken


def _shorten(beginning: bytes, length: int) -> tuple[str, bool]:
    text, broken = _read_line(beginning)
    return f"{text[:SHOWN]}… ({length} bytes)", broken


def _flags(values: np.ndarray[Any, np.dtype[np.bool_]]) -> pa.BooleanArray:
    flags: pa.BooleanArray = pa.array(values, pa.bool_())
    return flags
