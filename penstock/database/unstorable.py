"""Values that Arrow can hold and some warehouse cannot: times outside the years 1 to 9999, NUL in text.

Arrow and DuckDB can hold them; Python's datetime, pandas' text and Postgres cannot. A row with such a value is refused.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.database.types import TIMESTAMP, compute
from penstock.run_types import Misfit
from penstock.wording import write_decimal

_CALENDAR = {TIMESTAMP: (-62_135_596_800_000_000, 253_402_300_799_999_999), pa.date32(): (-719_162, 2_932_896)}
"""The first and last moment of Python's calendar, in microseconds and in days since 1970."""
_INFINITE = {TIMESTAMP: 2**63 - 1, pa.date32(): 2**31 - 1}
"""The number for infinity. Its negative is minus infinity. DuckDB uses the same numbers."""


def unstorable_rows(table: pa.Table, columns: Iterable[str]) -> dict[int, tuple[Misfit, ...]]:
    """Return position and reasons of the rows that not every warehouse can store in these columns."""
    reasons: dict[int, tuple[Misfit, ...]] = {}
    for position, reason in _unstorable(table, columns):
        reasons[position] = (*reasons.get(position, ()), reason)
    return reasons


def to_records(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows as Python values. Decimals, and a column with times outside Python's calendar, become text."""
    for number, name in enumerate(table.column_names):
        column = table.column(number)
        if pa.types.is_decimal(column.type):
            texts = [None if value is None else write_decimal(value) for value in column.to_pylist()]
            table = table.set_column(number, name, pa.array(texts, pa.string()))
        elif _off_calendar(column) is not None:
            table = table.set_column(number, name, pa.array(_written(column), pa.string()))
    return table.to_pylist()


def mend_infinity(table: pa.Table) -> pa.Table:
    """Restore infinity, which overflows when Postgres's driver moves the epoch from 2000 to 1970.

    Times beyond the year 294246 become infinity too.
    """
    for number, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        date = pa.types.is_date32(column.type)
        if not date and not pa.types.is_timestamp(column.type):
            continue
        count, low, offset, earliest = (
            (pa.int32(), -(2**31), 10_957, -2_000_000_000)
            if date
            else (pa.int64(), -(2**63), 946_684_800_000_000, -211_000_000_000_000_000)
        )
        numbers = column.cast(count)
        least = compute.min(numbers).as_py()
        if least is None or least >= earliest:
            continue
        minus, infinity = pa.scalar(low + 1, count), pa.scalar(-(low + 1), count)
        infinite = compute.if_else(compute.equal(numbers, pa.scalar(low + offset, count)), minus, infinity)
        replaced = compute.if_else(compute.less(numbers, pa.scalar(earliest, count)), infinite, numbers)
        table = table.set_column(number, name, replaced.cast(column.type))
    return table


def _unstorable(table: pa.Table, columns: Iterable[str]) -> Iterator[tuple[int, Misfit]]:
    for name in dict.fromkeys(c for c in columns if c in table.column_names):
        column = table[name]
        off = _off_calendar(column)
        if off is not None:
            for position in compute.indices_nonzero(off).to_pylist():
                yield position, Misfit(name, "a time outside the years 1 to 9999")
        if pa.types.is_string(column.type):
            for position in compute.indices_nonzero(compute.match_substring(column, "\0")).to_pylist():
                yield position, Misfit(name, "text with a NUL, which not every database can hold")


def _off_calendar(column: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any] | None":
    """Mark the values outside Python's calendar. None if all are inside."""
    if column.type not in _CALENDAR:
        return None
    first, last = _CALENDAR[column.type]
    numbers = column.cast(pa.int64() if column.type == TIMESTAMP else pa.int32())
    extremes = compute.min_max(numbers)
    if extremes["min"].as_py() is None or (extremes["min"].as_py() >= first and extremes["max"].as_py() <= last):
        return None
    mask: pa.ChunkedArray[Any] = compute.or_(compute.less(numbers, first), compute.greater(numbers, last))
    return mask


def _written(column: "pa.ChunkedArray[Any]") -> list[str | None]:
    first, last = _CALENDAR[column.type]
    infinite = _INFINITE[column.type]
    numbers = column.cast(pa.int64() if column.type == TIMESTAMP else pa.int32()).to_pylist()

    def write(number: int | None, value: Any) -> str | None:
        if number is None:
            return None
        if first <= number <= last:
            return str(value.as_py())
        if abs(number) == infinite:
            return "infinity" if number > 0 else "-infinity"
        return str(np.datetime64(number, "us" if column.type == TIMESTAMP else "D"))

    return [write(number, value) for number, value in zip(numbers, column, strict=True)]
