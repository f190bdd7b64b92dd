"""Select rows by a time in SQLite, which has no time type: text of several styles, or epoch numbers.

Texts are compared as they are, which can use an index, where they sort as time does. Others are parsed by SQLite. What
cannot be parsed is refused.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from penstock.database.types import EPOCH_MILLISECONDS, EPOCH_UNITS, epoch_unit
from penstock.errors import UnreadableTime
from penstock.interval import DataInterval
from penstock.sources.event_time import convert_in_query

_DATE = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
_MINUTES = f"{_DATE}[ T][0-9][0-9]:[0-9][0-9]"
_LAST = "\U0010ffff"
"""Sorts after all other characters."""
_EARLIEST_EPOCH = 100_000_000
"""The smallest number that is read as epoch seconds: 1973. Julian days and numbers like 20260301 are smaller."""


@dataclass(frozen=True)
class _Style:
    """One way in which texts of a column are written."""

    separator: str
    zone: str
    is_readable: bool
    sample: str


def sqlite_within(
    connection: sa.Connection,
    source: str,
    rows: sa.FromClause,
    column: str,
    interval: DataInterval,
    slice_: Sequence[sa.ColumnElement[bool]] = (),
) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for the rows of an interval.

    Args:
        slice_: conditions for the rows to look at. Without any, all rows are searched for times that cannot be read.

    Raises:
        UnreadableTime: a time cannot be read, or the column contains texts and numbers.
    """
    value = sa.type_coerce(rows.c[column], sa.Text())
    text = connection.execute(sa.select(value).where(value > "", *slice_).limit(1)).scalar()
    lowest, highest = _extreme_numbers(connection, rows, column, slice_)
    if highest is None or lowest is None:
        return _text_conditions(connection, source, rows, column, interval, slice_)
    if text is not None:
        raise UnreadableTime(source, column, "is a number in some rows and text in others", str(text))
    return _number_conditions(source, rows, column, interval, lowest, highest)


def sqlite_near(column: sa.ColumnElement[Any], interval: DataInterval) -> sa.ColumnElement[bool]:
    """Return a condition that all rows of an interval meet, whatever the style of their times."""
    text, number = sa.type_coerce(column, sa.Text()), sa.type_coerce(column, sa.BigInteger())
    start, end = (int(moment.timestamp()) for moment in (interval.start, interval.end))
    ranges = [sa.and_(number >= start * scale, number < end * scale) for scale in EPOCH_UNITS.values()]
    return sa.or_(sa.and_(*_near(text, interval)), *ranges)


def sqlite_seconds(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """Return the epoch second of a time in any style."""
    number = sa.type_coerce(column, sa.BigInteger())
    *scales, last = EPOCH_UNITS.values()
    units = [(number <= EPOCH_MILLISECONDS * scale, number.op("/")(sa.literal(scale))) for scale in scales]
    seconds = sa.cast(sa.case(*units, else_=number.op("/")(sa.literal(last))), sa.BigInteger)
    is_number = sa.func.typeof(column).in_(("integer", "real"))
    return sa.case((is_number, seconds), else_=_seconds(sa.type_coerce(column, sa.Text())))


def _near(value: sa.ColumnElement[str], interval: DataInterval) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for the dates around an interval. A zone can move a time by a day."""
    return [
        value >= (interval.start - timedelta(days=1)).strftime("%Y-%m-%d"),
        value < (interval.end + timedelta(days=2)).strftime("%Y-%m-%d"),
    ]


def _extreme_numbers(
    connection: sa.Connection, rows: sa.FromClause, column: str, slice_: Sequence[sa.ColumnElement[bool]]
) -> tuple[Any, Any]:
    """Return the smallest and the largest number above zero. Zero and less often mean that a time is unknown."""
    number = sa.type_coerce(rows.c[column], sa.Integer())
    # SQLite sorts all numbers before all texts. It finds one extreme in an index, but not two at once.
    is_number = (number > 0, sa.type_coerce(number, sa.Text()) < "", *slice_)
    numbers = sa.select(sa.func.min(number)).select_from(rows).where(*is_number)
    if (lowest := connection.execute(numbers).scalar()) is None:
        return None, None  # without an index, each look reads all rows
    highest = connection.execute(sa.select(sa.func.max(number)).select_from(rows).where(*is_number)).scalar()
    return lowest, highest


def _number_conditions(
    source: str, rows: sa.FromClause, column: str, interval: DataInterval, lowest: float, highest: float
) -> list[sa.ColumnElement[bool]]:
    if lowest < _EARLIEST_EPOCH:
        raise _no_epoch(source, column, lowest)
    if epoch_unit(lowest) != epoch_unit(highest):
        raise UnreadableTime(source, column, f"is in {epoch_unit(lowest)} and in {epoch_unit(highest)}", str(highest))
    number = sa.type_coerce(rows.c[column], sa.BigInteger())
    scale = EPOCH_UNITS[epoch_unit(lowest)]
    start, end = (int(moment.timestamp()) * scale for moment in (interval.start, interval.end))
    return [number >= sa.literal(start, sa.BigInteger()), number < sa.literal(end, sa.BigInteger())]


def _no_epoch(source: str, column: str, number: float) -> UnreadableTime:
    reason, remedy = "is a number that is no epoch time", "Store it in ISO 8601, or convert it in a `query:`."
    if 19_000_101 <= number <= 21_001_231:
        reason += " and may be a date of eight digits"
        parts = (f"substr({column}, {first}, {length})" for first, length in ((1, 4), (5, 2), (7, 2)))
        remedy = convert_in_query(" || '-' || ".join(parts))
    elif 1_700_000 <= number <= 5_400_000:
        reason, remedy = f"{reason} and may be a Julian day", convert_in_query(f"datetime({column})")
    return UnreadableTime(source, column, reason, str(number), remedy)


def _text_conditions(
    connection: sa.Connection,
    source: str,
    rows: sa.FromClause,
    column: str,
    interval: DataInterval,
    slice_: Sequence[sa.ColumnElement[bool]],
) -> list[sa.ColumnElement[bool]]:
    value = sa.type_coerce(rows.c[column], sa.Text())
    stranger = None if slice_ else _first_stranger(connection, rows, column)
    if stranger is not None:
        raise UnreadableTime(source, column, "is text that does not begin with a date like `2026-01-31`", str(stranger))
    near = _near(value, interval)
    styles = _styles(connection, rows, value, [*near, *slice_])
    unreadable = next((style.sample for style in styles if not style.is_readable), None)
    if unreadable is not None:
        raise UnreadableTime(source, column, "is text that is no time in ISO 8601", unreadable)
    separator = _sorted_by(styles, interval)
    if separator is not None:
        return [value >= _bound(interval.start, separator), value < _bound(interval.end, separator)]
    seconds = _seconds(value)
    invalid = connection.execute(sa.select(value).where(*near, *slice_, seconds.is_(None)).limit(1)).scalar()
    if invalid is not None:
        raise UnreadableTime(source, column, "is text that is no time in ISO 8601", str(invalid))
    return [*near, seconds >= int(interval.start.timestamp()), seconds < int(interval.end.timestamp())]


def _first_stranger(connection: sa.Connection, rows: sa.FromClause, column: str) -> Any:
    """Return a text that does not begin with a date. No range of dates would contain it."""
    value = sa.type_coerce(rows.c[column], sa.Text())
    if not _has_index(connection, rows, column):
        strange = (value > "", sa.not_(value.op("GLOB")(f"{_DATE}*")))
        return connection.execute(sa.select(value).where(*strange).limit(1)).scalar()
    # With an index, look at one text of each date only.
    first = sa.select(sa.func.min(value).label("value")).select_from(rows).where(value > "")
    dates = first.cte("dates", recursive=True)
    after = sa.func.substr(dates.c.value, 1, 10).concat(_LAST)
    following = sa.select(sa.func.min(value)).select_from(rows).where(value > after).scalar_subquery()
    is_date = dates.c.value.op("GLOB")(f"{_DATE}*")
    dates = dates.union_all(sa.select(following).select_from(dates).where(is_date))
    strange = (dates.c.value.is_not(None), sa.not_(dates.c.value.op("GLOB")(f"{_DATE}*")))
    return connection.execute(sa.select(dates.c.value).where(*strange).limit(1)).scalar()


def _has_index(connection: sa.Connection, rows: sa.FromClause, column: str) -> bool:
    if not isinstance(rows, sa.TableClause):
        return False
    indexes = sa.inspect(connection).get_indexes(rows.name, schema=rows.schema)
    whole = (i for i in indexes if "sqlite_where" not in i.get("dialect_options", {}))
    return any(index["column_names"][:1] == [column] for index in whole)


def _styles(
    connection: sa.Connection,
    rows: sa.FromClause,
    value: sa.ColumnElement[str],
    conditions: Sequence[sa.ColumnElement[bool]],
) -> list[_Style]:
    """Return the styles of the texts.

    Most texts have the shape of the first one. One GLOB finds the others, and only they are taken apart by SQLite.
    """
    first = connection.execute(sa.select(value).select_from(rows).where(*conditions).limit(1)).scalar()
    if first is None:
        return []
    alone = sa.select(sa.literal(str(first), sa.Text()).label("value")).subquery()
    known = _group_styles(connection, alone, alone.c.value, [])
    if not all(style.is_readable for style in known):
        return _group_styles(connection, rows, value, conditions)  # the message shows the smallest text
    others = sa.not_(value.op("GLOB")(_shape(str(first))))
    return [*known, *_group_styles(connection, rows, value, [*conditions, others])]


def _shape(text: str) -> str:
    """Return the GLOB pattern of all texts that have other digits and the same zone."""
    found = re.fullmatch(r"(.{16,}?)([+-][0-9]{2}(?::?[0-9]{2})?)", text, re.DOTALL)
    body, zone = found.groups() if found else (text, "")
    return re.sub(r"[0-9]", "[0-9]", re.sub(r"[*?[]", r"[\g<0>]", body)) + zone


def _group_styles(
    connection: sa.Connection,
    rows: sa.FromClause,
    value: sa.ColumnElement[str],
    conditions: Sequence[sa.ColumnElement[bool]],
) -> list[_Style]:
    separator, zone, readable = sa.func.substr(value, 11, 1), _zone(value), _is_readable(value)
    found = sa.select(separator, zone, readable, sa.func.min(value)).select_from(rows).where(*conditions)
    return [
        _Style(s, z, bool(r), str(v)) for s, z, r, v in connection.execute(found.group_by(separator, zone, readable))
    ]


def _sorted_by(styles: Sequence[_Style], interval: DataInterval) -> str | None:
    """Return the separator of bounds with which the texts compare as times do. None if the texts must be parsed.

    The bounds end at their last part that is not zero. A text with more digits is then not before an equal bound.
    """
    if any(style.zone not in ("", "Z", "+00:00", "-00:00") for style in styles):
        return None
    separators = {style.separator for style in styles if style.separator}
    at_midnight = all(m.hour == m.minute == m.second == 0 for m in (interval.start, interval.end))
    if len(separators) > 1 and not at_midnight:
        return None
    return next(iter(separators), " ")


def _bound(moment: datetime, separator: str) -> str:
    text = moment.strftime(f"%Y-%m-%d{separator}%H:%M:%S")
    for zeros in (":00", ":00", f"{separator}00"):
        if not text.endswith(zeros):
            return text
        text = text.removesuffix(zeros)
    return text


def _zone(value: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Return the zone of a text as SQLite reads it: nothing, `Z` or `+02:00`."""
    colon = sa.func.substr(value, -4, 2).op("||")(":").op("||")(sa.func.substr(value, -2))
    return sa.case(
        (sa.func.length(value) <= 16, ""),
        (value.op("GLOB")("*[Zz]"), "Z"),
        (value.op("GLOB")("*[+-][0-9][0-9]:[0-9][0-9]"), sa.func.substr(value, -6)),
        (value.op("GLOB")("*[+-][0-9][0-9][0-9][0-9]"), sa.func.substr(value, -5, 1).op("||")(colon)),
        (value.op("GLOB")("*[+-][0-9][0-9]"), sa.func.substr(value, -3).op("||")(":00")),
        else_="",
    )


def _is_readable(value: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether a text is a date, or a date with a clock: minutes, and maybe seconds, a fraction and a zone."""
    zone_length = sa.case(
        (sa.func.length(value) <= 16, 0),
        (value.op("GLOB")("*[Zz]"), 1),
        (value.op("GLOB")("*[+-][0-9][0-9]:[0-9][0-9]"), 6),
        (value.op("GLOB")("*[+-][0-9][0-9][0-9][0-9]"), 5),
        (value.op("GLOB")("*[+-][0-9][0-9]"), 3),
        else_=0,
    )
    rest = sa.func.rtrim(sa.func.substr(value, 17, sa.func.length(value) - 16 - zone_length))
    second = "[:][0-9][0-9]"
    fraction = sa.and_(rest.op("GLOB")(f"{second}.[0-9]*"), sa.func.trim(sa.func.substr(rest, 5), "0123456789") == "")
    clock = sa.or_(rest == "", rest.op("GLOB")(second), fraction)
    return sa.or_(value.op("GLOB")(_DATE), sa.and_(value.op("GLOB")(f"{_MINUTES}*"), clock))


def _seconds(value: sa.ColumnElement[str]) -> sa.ColumnElement[int]:
    """Return the epoch second. SQLite would round a fraction, and the bounds of intervals are whole seconds."""
    has_second = sa.func.substr(value, 17, 1) == ":"
    clock = sa.case((has_second, sa.func.substr(value, 1, 19)), else_=sa.func.substr(value, 1, 16))
    return sa.cast(sa.func.strftime("%s", clock.op("||")(_zone(value))), sa.BigInteger)
