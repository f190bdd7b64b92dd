"""Read times from log text, in bulk. Each function returns UTC microseconds, or NULL for text that is not a time.

Neither engine does this correctly: Arrow's `strptime` reads `31/Feb` as 3 March, and DuckDB's cast to TIMESTAMP
silently drops a zone offset.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from penstock.database.types import TIMESTAMP

if TYPE_CHECKING:
    import duckdb

pc: Any = pyarrow.compute  # the stubs allow neither strings nor NULL as operands
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_MONTH = f"(?:{'|'.join(MONTHS)})"
_ISO = (
    r"^(?P<minute>[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2})(?P<second>:[0-9]{2})?"
    r"(?:[.,](?P<fraction>[0-9]{1,9}))?(?:[Zz]| ?(?P<zone>[+-][0-9]{2}(?::?[0-9]{2})?))?$"
)
_CLF = rf"^[0-9]{{2}}/{_MONTH}/[0-9]{{4}}:[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}} [+-][0-9]{{4}}$"
_RFC3164 = rf"^(?P<month>{_MONTH}) {{1,2}}(?P<day>[0-9]{{1,2}}) (?P<clock>[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}})$"
_MONTH_CODES = np.array([int.from_bytes(name.encode()) for name in MONTHS])
_MONTH_ORDER = np.argsort(_MONTH_CODES)
_DAY = 86_400_000_000

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


def read_iso(texts: pa.StringArray) -> pa.TimestampArray:
    """Read ISO 8601 dates and times with `T` or a blank. Seconds, fraction and offset are optional.

    Digits beyond the microsecond are dropped. A leap second (`:60`) is not a time.
    """
    parts = pc.extract_regex(texts, pattern=_ISO)
    minute, second, fraction, zone = (pc.struct_field(parts, i) for i in range(4))
    second = pc.if_else(pc.equal(second, ""), ":00", second)
    fraction = pc.utf8_rpad(pc.utf8_slice_codeunits(fraction, 0, 6), 6, "0")
    zone = pc.if_else(pc.equal(zone, ""), "+", pc.replace_substring(zone, ":", ""))
    joined = pc.binary_join_element_wise(minute, second, fraction, pc.utf8_rpad(zone, 5, "0"), "")
    cells, found = _cells(joined, 30)
    clock = [_number(cells, start, 2) for start in (11, 14, 17)]
    micros, valid = _moments(_number(cells, 0, 4), _number(cells, 5, 2), _number(cells, 8, 2), *clock)
    shift, shift_valid = _offsets(cells, 25)
    return _timestamps(micros + _number(cells, 19, 6) - shift, found & valid & shift_valid)


def read_clf(texts: pa.StringArray) -> pa.TimestampArray:
    """Read the times of web server logs: `17/May/2015:10:05:03 +0000`."""
    shaped = pc.fill_null(pc.match_substring_regex(texts, _CLF), False)
    cells, found = _cells(pc.if_else(shaped, texts, None), 26)
    clock = [_number(cells, start, 2) for start in (12, 15, 18)]
    micros, valid = _moments(_number(cells, 7, 4), _months(cells, 3), _number(cells, 0, 2), *clock)
    shift, shift_valid = _offsets(cells, 21)
    return _timestamps(micros - shift, found & valid & shift_valid)


def read_rfc3164(texts: pa.StringArray, seen_at: datetime) -> pa.TimestampArray:
    """Read `Oct 11 22:14:15`. The year is the latest in which it is at most a day after `seen_at`."""
    parts = pc.extract_regex(texts, pattern=_RFC3164)
    month, day, clock = (pc.struct_field(parts, i) for i in range(3))
    cells, found = _cells(pc.binary_join_element_wise(month, pc.utf8_lpad(day, 2, "0"), clock, ""), 13)
    month_of, day_of = _months(cells, 0), _number(cells, 3, 2)
    clock_of = [_number(cells, start, 2) for start in (5, 8, 11)]
    limit = seen_at.astimezone(UTC) + timedelta(days=1)
    limit_micros = np.int64((limit - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
    result = np.zeros(len(cells), np.int64)
    open_ = found.copy()
    for year in range(limit.year, limit.year - 9, -1):  # nine years contain a 29 February, even around 1900 and 2100
        if not open_.any():
            break
        micros, valid = _moments(np.full(len(cells), year), month_of, day_of, *clock_of)
        fits = open_ & valid & (micros <= limit_micros)
        result[fits] = micros[fits]
        open_ &= ~fits
    return _timestamps(result, found & ~open_)


def read_epoch(texts: pa.StringArray) -> pa.TimestampArray:
    """Read numbers as seconds since 1970, or as milliseconds from 1e11 on (1e11 seconds is the year 5138)."""
    shaped = pc.fill_null(pc.match_substring_regex(texts, r"^-?[0-9]{1,15}(?:\.[0-9]*)?$"), False)
    numbers = pc.cast(pc.if_else(shaped, texts, None), pa.float64()).to_numpy(zero_copy_only=False)
    size = np.abs(numbers)
    valid = size < 1e14
    scaled = np.where(size < 1e11, numbers * 1e6, numbers * 1e3)
    return _timestamps(np.rint(np.where(valid, scaled, 0)).astype(np.int64), valid)


def read_strptime(texts: pa.StringArray, time_format: str) -> pa.TimestampArray:
    """Read times in a strptime format with Python's meaning. Times without offset are UTC.

    DuckDB reads them in bulk. Python reads the rest one by one (codes that DuckDB lacks, `Z` for `%z`).
    """
    encoded = pc.dictionary_encode(texts)
    unique, found = encoded.dictionary, _strptime_in_bulk(encoded.dictionary, time_format)
    rest = pc.is_null(found)
    if pc.any(rest).as_py():
        tried = pa.array([_strptime(text, time_format) for text in unique.filter(rest).to_pylist()], TIMESTAMP)
        found = pc.replace_with_mask(found, rest, tried)
    times: pa.TimestampArray = pc.take(found, encoded.indices)
    return times


def is_time_format(time_format: str) -> bool:
    """Whether strptime knows all codes of a format."""
    try:
        datetime.strptime("", time_format)  # noqa: DTZ007  no time is kept
    except ValueError as error:
        return "does not match" in str(error)
    return True


def open_engine() -> "duckdb.DuckDBPyConnection":
    """Return an in-memory database without access to files and network."""
    import duckdb  # a late import, because only some log formats need it

    off = {"autoinstall_known_extensions": False, "autoload_known_extensions": False, "enable_external_access": False}
    return duckdb.connect(config=dict(off))


def _strptime_in_bulk(texts: pa.StringArray, time_format: str) -> pa.TimestampArray:
    import duckdb

    with open_engine() as connection:
        connection.register("texts", pa.table({"text": texts}))
        try:
            query = connection.sql("select try_strptime(text, $1) as time from texts", params=[time_format])
            column: Any = query.to_arrow_table().column(0)
        except (duckdb.InvalidInputException, duckdb.BinderException):
            column = pa.chunked_array([pa.array([None] * len(texts), TIMESTAMP)])
    times: pa.TimestampArray = pa.concat_arrays(column.cast(TIMESTAMP).chunks or [pa.array([], TIMESTAMP)])
    return times


def _strptime(text: str | None, time_format: str) -> datetime | None:
    try:
        moment = datetime.strptime(text or "", time_format)  # noqa: DTZ007  made UTC in the next line
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _cells(texts: pa.StringArray, width: int) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], Bools]:
    """Return texts of equal width as a matrix of bytes, and a mask. NULL rows are zeros, and False in the mask."""
    found = pc.is_valid(texts).to_numpy(zero_copy_only=False)
    filled: Any = pc.fill_null(texts, "0" * width)
    start = filled.offset * width
    raw = np.frombuffer(filled.buffers()[2] or b"", np.uint8)[start : start + len(filled) * width]
    return raw.reshape(len(filled), width), found


def _number(cells: np.ndarray[Any, np.dtype[np.uint8]], start: int, digits: int) -> Ints:
    value = np.zeros(len(cells), np.int64)
    for column in range(start, start + digits):
        value = value * 10 + (cells[:, column] - np.uint8(ord("0")))
    return value


def _months(cells: np.ndarray[Any, np.dtype[np.uint8]], start: int) -> Ints:
    codes = sum(cells[:, start + i].astype(np.int64) << (16 - 8 * i) for i in range(3))
    spot = np.searchsorted(_MONTH_CODES, codes, sorter=_MONTH_ORDER)
    return _MONTH_ORDER[np.minimum(spot, 11)] + 1


def _offsets(cells: np.ndarray[Any, np.dtype[np.uint8]], start: int) -> tuple[Ints, Bools]:
    """Read `+HHMM` as microseconds east of UTC."""
    hours, minutes = _number(cells, start + 1, 2), _number(cells, start + 3, 2)
    micros = (hours * 60 + minutes) * 60_000_000
    return np.where(cells[:, start] == ord("-"), -micros, micros), (hours < 24) & (minutes < 60)


def _moments(year: Ints, month: Ints, day: Ints, hour: Ints, minute: Ints, second: Ints) -> tuple[Ints, Bools]:
    """Return the microseconds since 1970 of calendar times, and a mask of those that exist."""
    valid = (year >= 1) & (month >= 1) & (month <= 12) & (hour < 24) & (minute < 60) & (second < 60)
    months = ((year - 1970) * 12 + np.clip(month, 1, 12) - 1).astype("M8[M]")
    first = months.astype("M8[D]").astype(np.int64)
    valid &= (day >= 1) & (day <= (months + np.timedelta64(1, "M")).astype("M8[D]").astype(np.int64) - first)
    return (first + day - 1) * _DAY + ((hour * 60 + minute) * 60 + second) * 1_000_000, valid


def _timestamps(micros: Ints, valid: Bools) -> pa.TimestampArray:
    times: pa.TimestampArray = pc.cast(pa.array(micros, pa.int64(), mask=~valid), TIMESTAMP)
    return times
