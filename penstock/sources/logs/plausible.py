"""Read the times of a batch of lines, and refuse those that cannot be times of this log."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from penstock.database.types import TIMESTAMP
from penstock.errors import ImplausibleTimes
from penstock.interval import iso
from penstock.sources.logs.files import LineBatch
from penstock.sources.logs.formats import FormatParser
from penstock.spec.sources import LogSource

pc: Any = pyarrow.compute  # the stubs allow neither strings nor NULL as operands

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
AHEAD = timedelta(days=366)
"""How far after its file was written a line's time may lie."""
APART = timedelta(days=20 * 366)
"""How far a line's time may lie from the middle one of the lines that are read with it."""
_LATER = timedelta(days=9 * 366)
"""A file's time so much later gives all times without a year another one, a 29 February too."""
_HALF_YEAR = timedelta(days=183)

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


def read_times(
    name: str, source: LogSource, parser: FormatParser, batch: LineBatch, after: datetime | None
) -> pa.TimestampArray:
    """Return each line's event time, or NULL if the line cannot be read or its time is not one of this log.

    Args:
        after: the time of the file's line before the batch.

    Raises:
        ImplausibleTimes: most times are far from those of a log, or years are missing and cannot be known.
    """
    times = parser.times(batch.lines, batch.seen_at, after)
    times = pc.if_else(batch.oversize, pa.scalar(None, TIMESTAMP), times)
    valid = np.array(pc.is_valid(times).to_numpy(zero_copy_only=False), np.bool_)
    micros = np.array(pc.fill_null(pc.cast(times, pa.int64()), 0))
    far = valid & _is_far(micros, valid, batch.seen_at)
    if far.sum() > max(0.5, source.max_malformed) * valid.sum():
        raise _implausible(name, batch, times, far, "is not one of a log that was written on")
    if source.year is None and _turns(micros[valid & ~far], after):
        shifted = parser.times(batch.lines, batch.seen_at + _LATER, after)
        undated = valid & ~far & np.array(pc.fill_null(pc.not_equal(times, shifted), False))
        if _turns(micros[undated], after):
            why = "has no year, and lines before or after it are of another one; their file was written on"
            raise _implausible(name, batch, times, undated, why)
    kept: pa.TimestampArray = pc.if_else(pa.array(far), pa.scalar(None, TIMESTAMP), times)
    return kept


def _is_far(micros: Ints, valid: Bools, seen_at: datetime) -> Bools:
    if not valid.any():
        return valid
    middle = np.median(micros[valid])
    apart = np.abs(micros - middle) > APART / timedelta(microseconds=1)
    return apart | (micros < _micros(EARLIEST)) | (micros > _micros(seen_at + AHEAD))


def _turns(micros: Ints, after: datetime | None) -> bool:
    """Whether times fall back by half a year and do not return, or have a 29 February of another year."""
    if after is not None:
        micros = np.concatenate(([_micros(after)], micros))
    steps, half = np.diff(micros), _HALF_YEAR // timedelta(microseconds=1)
    falls, rises = steps < -half, steps > half
    leap = np.array(
        [str(day).endswith("02-29") for day in micros[1:][falls].astype("M8[us]").astype("M8[D]")], np.bool_
    )
    return bool(falls.sum() > rises.sum() or leap.any())


def _implausible(name: str, batch: LineBatch, times: Any, chosen: Bools, why: str) -> ImplausibleTimes:
    first = int(np.flatnonzero(chosen)[0])
    offset, time = batch.offsets[first].as_py(), times[first].as_py()
    assert offset is not None
    return ImplausibleTimes(name, batch.file.path, offset, iso(time), f"{why} {iso(batch.seen_at)}")


def _micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
