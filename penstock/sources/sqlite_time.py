"""Find how a SQLite column writes times. SQLite has no time type, so bounds must be in the same style."""

from collections.abc import Sequence
from datetime import timedelta

import sqlalchemy as sa

from penstock.database.types import EPOCH_MILLISECONDS
from penstock.errors import UnreadableTime
from penstock.interval import DataInterval


def sqlite_time_bounds(
    connection: sa.Connection,
    source: str,
    rows: sa.FromClause,
    column: str,
    interval: DataInterval,
    slice_: Sequence[sa.ColumnElement[bool]] = (),
) -> tuple[str, str] | tuple[int, int]:
    """Return the interval's bounds in the column's style: ISO text with `T` or blank, date only, or epoch numbers.

    Args:
        slice_: conditions for the rows to look at.

    Raises:
        UnreadableTime: the column mixes styles, or writes zones other than UTC.
    """
    value = sa.type_coerce(rows.c[column], sa.Text())
    number = connection.execute(
        sa.select(sa.type_coerce(rows.c[column], sa.Integer()))
        .where(sa.type_coerce(rows.c[column], sa.Text()) < "", *slice_)
        .limit(1)
    ).scalar()
    styles = _text_styles(connection, rows, value, interval, slice_)
    if number is not None:
        if styles:
            raise UnreadableTime(source, column, "is a number in some rows and text in others")
        scale = 1000 if abs(number) > EPOCH_MILLISECONDS else 1
        return int(interval.start.timestamp()) * scale, int(interval.end.timestamp()) * scale
    if any(zone == "other" for _, zone in styles):
        raise UnreadableTime(source, column, "is written with zones other than UTC")
    separators = {separator for separator, _ in styles}
    if len(separators) > 1:
        shown = " and ".join(f"`{'date only' if s == '' else s}`" for s in sorted(separators))
        raise UnreadableTime(source, column, f"is written in different styles ({shown} between date and clock)")
    separator = separators.pop() if separators else " "
    style = "%Y-%m-%d" if separator == "" else f"%Y-%m-%d{separator}%H:%M:%S"
    return interval.start.strftime(style), interval.end.strftime(style)


def _text_styles(
    connection: sa.Connection,
    rows: sa.FromClause,
    value: sa.ColumnElement[str],
    interval: DataInterval,
    slice_: Sequence[sa.ColumnElement[bool]],
) -> set[tuple[str, str]]:
    """Return (separator, zone) of the texts near the interval. All styles begin with the date, so text order works."""
    tail = sa.func.substr(value, 20)
    zone = sa.case(
        (sa.func.length(value) <= 19, ""),
        (value.like("%Z"), "utc"),
        (value.like("%+00:00"), "utc"),
        (sa.or_(sa.func.instr(tail, "+") > 0, sa.func.instr(tail, "-") > 0), "other"),
        else_="",
    )
    near = sa.and_(
        value >= (interval.start - timedelta(days=1)).strftime("%Y-%m-%d"),
        value < (interval.end + timedelta(days=2)).strftime("%Y-%m-%d"),
    )
    found = connection.execute(
        sa.select(sa.func.substr(value, 11, 1), zone).select_from(rows).where(near, *slice_).distinct()
    )
    return {(str(separator), str(zone)) for separator, zone in found}
