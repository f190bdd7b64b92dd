"""Read times from log text, in bulk. Each function returns UTC microseconds, or NULL for text that is not a time.

Neither engine does this correctly: Arrow's `strptime` reads `31/Feb` as 3 March, and DuckDB's cast to TIMESTAMP
silently drops a zone offset.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from penstock.database.types import TIMESTAMP
from penstock.sources.logs.years import LEAP, Years
from penstock.sources.logs.zones import LocalZone

if TYPE_CHECKING:
    import duckdb

pc: Any = pyarrow.compute  # the stubs allow neither strings nor NULL as operands
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_MONTH = f"(?:{'|'.join(MONTHS)})"
_ISO = (
    r"^(?P<minute>[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2})(?P<second>:[0-9]{2})?"
    r"(?:[.,](?P<fraction>[0-9]{1,9}))?(?:(?P<utc>[Zz])| ?(?P<zone>[+-][0-9]{2}(?::?[0-9]{2})?))?$"
)
_CLF = rf"^[0-9]{{2}}/{_MONTH}/[0-9]{{4}}:[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}} [+-][0-9]{{4}}$"
_RFC3164 = rf"^(?P<month>{_MONTH}) {{1,2}}(?P<day>[0-9]{{1,2}}) (?P<clock>[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}})$"
_EPOCH = (
    r"^(?P<sign>-?)0*(?P<whole>[0-9]{1,18}|[1-8][0-9]{18}|9[01][0-9]{17})"
    r"(?:\.(?P<fraction>[0-9]*))?(?P<exponent>[eE]\+?[0-9]{1,3})?$"
)
EPOCH_UNITS = ("epoch_s", "epoch_ms", "epoch_us", "epoch_ns")
_LAST_SECOND = 253_402_300_799
_UNIT_LIMITS = np.array([10**11, 10**14, 10**17])
_MONTH_CODES = np.array([int.from_bytes(name.encode()) for name in MONTHS])
_MONTH_ORDER = np.argsort(_MONTH_CODES)
_DAY = 86_400_000_000

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


def read_iso(texts: pa.StringArray, local: LocalZone | None = None) -> pa.TimestampArray:
    """Read ISO 8601 dates and times with `T` or a blank. Seconds, fraction and offset are optional.

    Digits beyond the microsecond are dropped. A leap second (`:60`) is not a time. Times without offset are in the
    local zone, or UTC.
    """
    parts = pc.extract_regex(texts, pattern=_ISO)
    minute, second, fraction, utc, zone = (pc.struct_field(parts, i) for i in range(5))
    second = pc.if_else(pc.equal(second, ""), ":00", second)
    fraction = pc.utf8_rpad(pc.utf8_slice_codeunits(fraction, 0, 6), 6, "0")
    bare = pc.and_(pc.equal(zone, ""), pc.equal(utc, ""))
    zone = pc.if_else(pc.equal(zone, ""), "+", pc.replace_substring(zone, ":", ""))
    joined = pc.binary_join_element_wise(minute, second, fraction, pc.utf8_rpad(zone, 5, "0"), "")
    cells, found = _cells(joined, 30)
    clock = [_number(cells, start, 2) for start in (11, 14, 17)]
    micros, valid = _moments(_number(cells, 0, 4), _number(cells, 5, 2), _number(cells, 8, 2), *clock)
    shift, shift_valid = _offsets(cells, 25)
    micros, valid = micros + _number(cells, 19, 6) - shift, found & valid & shift_valid
    if local is not None:
        micros, valid = _from_local(micros, valid, local, _flags(bare))
    return _timestamps(micros, valid)


def read_clf(texts: pa.StringArray) -> pa.TimestampArray:
    """Read the times of web server logs: `17/May/2015:10:05:03 +0000`."""
    shaped = pc.fill_null(pc.match_substring_regex(texts, _CLF), False)
    cells, found = _cells(pc.if_else(shaped, texts, None), 26)
    clock = [_number(cells, start, 2) for start in (12, 15, 18)]
    micros, valid = _moments(_number(cells, 7, 4), _months(cells, 3), _number(cells, 0, 2), *clock)
    shift, shift_valid = _offsets(cells, 21)
    return _timestamps(micros - shift, found & valid & shift_valid)


def read_rfc3164(texts: pa.StringArray, years: Years, local: LocalZone | None = None) -> pa.TimestampArray:
    """Read `Oct 11 22:14:15`, a time without year."""
    parts = pc.extract_regex(texts, pattern=_RFC3164)
    month, day, clock = (pc.struct_field(parts, i) for i in range(3))
    cells, found = _cells(pc.binary_join_element_wise(month, pc.utf8_lpad(day, 2, "0"), clock, ""), 13)
    clock_of = [_number(cells, start, 2) for start in (5, 8, 11)]
    micros, valid = _moments(np.full(len(cells), LEAP), _months(cells, 0), _number(cells, 3, 2), *clock_of)
    micros, valid = years.date(micros, found & valid)
    if local is not None:
        micros, valid = _from_local(micros, valid, local, valid)
    return _timestamps(micros, valid)


def read_epoch(texts: pa.StringArray, unit: str | None = None) -> pa.TimestampArray:
    """Read numbers as the time since 1970, rounded to microseconds.

    Args:
        unit: one of `EPOCH_UNITS`. Without it the size tells: seconds up to 1e11 (the year 5138), milliseconds from
            there to 1e14, microseconds to 1e17, and nanoseconds beyond.
    """
    parts = pc.extract_regex(texts, pattern=_EPOCH)
    sign, whole, fraction, exponent = (pc.struct_field(parts, i) for i in range(4))
    if pc.any(pc.not_equal(exponent, "")).as_py():  # a large float is written as 1.7e+18
        plain = [
            _write_out(text) if e else text for text, e in zip(texts.to_pylist(), exponent.to_pylist(), strict=True)
        ]
        return read_epoch(pa.array(plain, pa.string()), unit)
    found = pc.is_valid(whole).to_numpy(zero_copy_only=False)
    number = np.array(pc.fill_null(pc.cast(whole, pa.int64()), 0))
    digits = np.array(
        pc.fill_null(pc.cast(pc.utf8_rpad(pc.utf8_slice_codeunits(fraction, 0, 7), 7, "0"), pa.int64()), 0)
    )
    if unit is None:
        units = np.searchsorted(_UNIT_LIMITS, number, side="right")
    else:
        units = np.full(len(number), EPOCH_UNITS.index(unit))
    valid, last = found, np.array([_LAST_SECOND, _LAST_SECOND * 10**3, _LAST_SECOND * 10**6, 2**63 - 1])
    kept = np.where(valid, np.minimum(number, last[units]), 0)  # a number in another unit is of the year 9999
    micros = np.choose(
        units,
        [
            np.where(units == 0, kept, 0) * 1_000_000 + (digits + 5) // 10,
            np.where(units == 1, kept, 0) * 1_000 + (digits + 5_000) // 10_000,
            kept + (digits >= 5_000_000),
            kept // 1000 + (kept % 1000 >= 500),
        ],
    )
    negative = _flags(pc.equal(sign, "-"))
    return _timestamps(np.where(negative, -micros, micros), valid)


def _write_out(text: str | None) -> str | None:
    number = Decimal(text or "0")
    return f"{number:.7f}" if abs(number) < 10**19 else None


def read_strptime(
    texts: pa.StringArray, time_format: str, years: Years | None = None, local: LocalZone | None = None
) -> pa.TimestampArray:
    """Read times in a strptime format with Python's meaning. Times without offset are in the local zone, or UTC.

    DuckDB reads them in bulk. Python reads the rest one by one (codes that DuckDB lacks, `Z` for `%z`).

    Args:
        years: what is known of the years, for a format without one.
    """
    if years is not None:
        texts = pc.binary_join_element_wise(str(LEAP), texts, " ")
        time_format = f"%Y {time_format}"
    encoded = pc.dictionary_encode(texts)
    unique, found = encoded.dictionary, _strptime_in_bulk(encoded.dictionary, time_format)
    rest = pc.is_null(found)
    if pc.any(rest).as_py():
        tried = pa.array([_strptime(text, time_format) for text in unique.filter(rest).to_pylist()], TIMESTAMP)
        found = pc.replace_with_mask(found, rest, tried)
    times: pa.TimestampArray = pc.take(found, encoded.indices)
    bare = local is not None and "%z" not in time_format
    if years is None and not bare:
        return times
    valid = _flags(pc.is_valid(times))
    micros = np.array(pc.fill_null(pc.cast(times, pa.int64()), 0))
    if years is not None:
        micros, valid = years.date(micros, valid)
    if local is not None and bare:
        micros, valid = _from_local(micros, valid, local, valid)
    return _timestamps(micros, valid)


def has_year(time_format: str) -> bool:
    """Whether a strptime format has a year."""
    return bool(_codes(time_format) & {"Y", "y", "G", "c", "x"})


def has_day(time_format: str) -> bool:
    """Whether a strptime format has a month and a day of it."""
    codes = _codes(time_format)
    return "d" in codes and bool(codes & {"m", "b", "B"})


def _codes(time_format: str) -> set[str]:
    return {code[-1] for code in re.findall(r"%-?.", time_format)}


def is_time_format(time_format: str) -> bool:
    """Whether strptime knows all codes of a format."""
    dated = time_format if has_year(time_format) else f"%Y {time_format}"  # Python 3.13 warns of a day without a year
    try:
        datetime.strptime("", dated)  # noqa: DTZ007  no time is kept
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


def _from_local(micros: Ints, valid: Bools, local: LocalZone, bare: Bools) -> tuple[Ints, Bools]:
    """Move those of the times that have no offset from local time to UTC. Some do not exist in local time."""
    chosen = valid & bare
    moved, exist = local.to_utc(micros[chosen])
    result, kept = micros.copy(), valid.copy()
    result[chosen], kept[chosen] = moved, exist
    return result, kept


def _flags(mask: Any) -> Bools:
    return np.array(pc.fill_null(mask, False).to_numpy(zero_copy_only=False), np.bool_)


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
