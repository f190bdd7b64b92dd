"""Read cron expressions and recurrence rules, so that a wrong schedule is refused without Prefect's import."""

import re
from dataclasses import dataclass

from penstock.errors import nearest

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_ALIASES = ("@annually", "@daily", "@hourly", "@midnight", "@monthly", "@weekly", "@yearly")
_DAYS_OF_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_LONGEST_RULE = 6500
"""Characters of the longest rule that Prefect takes."""


@dataclass(frozen=True)
class _Field:
    name: str
    first: int
    last: int
    words: tuple[str, ...] = ()
    special: str = ""
    """Pattern of further values."""


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31, special=r"l"),
    _Field("month", 1, 12, ("", *_MONTHS)),
    _Field("day of week", 0, 7, _WEEKDAYS, special=r"l[0-7]|(?:[0-7]|sun|mon|tue|wed|thu|fri|sat)#[1-5]"),
)


def check_cron(text: str) -> None:
    """Require a cron expression with five fields that comes at some time.

    Raises:
        ValueError: names the field that is wrong.
    """
    if text.casefold() in _ALIASES:
        return
    if text.startswith("@"):
        raise ValueError(f"`{text[:60]}` is not a cron expression.{nearest(text, _ALIASES)}")
    parts = text.split()
    if len(parts) != len(_FIELDS):
        fields = "minute, hour, day of month, month and day of week"
        raise ValueError(f"`{text[:60]}` has {len(parts)} fields; cron needs five: {fields}, as in `15 2 * * *`")
    read = [_read_field(part.casefold(), field) for part, field in zip(parts, _FIELDS, strict=True)]
    days, months = read[2], read[3]
    if days and parts[4] in ("*", "?") and all(min(days) > _DAYS_OF_MONTHS[m - 1] for m in months or range(1, 13)):
        raise ValueError(f"`{text}` never comes, since none of its months has a day {min(days)}")


def read_field(text: str, name: str) -> set[int]:
    """Return the numbers of a field that is known to be right."""
    return _read_field(text, next(field for field in _FIELDS if field.name == name))


def _read_field(text: str, field: _Field) -> set[int]:
    """Return the numbers of a field. Empty if it has others, such as the last day of a month."""
    numbers: set[int] = set()
    others = False
    for part in text.split(","):
        if field.special and re.fullmatch(field.special, part):
            others = True
        else:
            numbers |= _read_range(part, field, whole=text)
    return set() if others else numbers


def _read_range(text: str, field: _Field, whole: str) -> set[int]:
    span, slash, step = text.partition("/")
    low, dash, high = span.partition("-")
    every = 1
    if slash:
        if not re.fullmatch(r"[0-9]{1,4}", step) or not 1 <= int(step) <= field.last - field.first + 1:
            raise ValueError(
                f"{field.name} `{whole}`: a step is a whole number from 1 to {field.last - field.first + 1}"
            )
        every = int(step)
    if span == "*" or (span == "?" and field.name.startswith("day")):
        return set(range(field.first, field.last + 1, every))
    start = _read_number(low, field, whole)
    if not dash:
        return set(range(start, field.last + 1, every)) if slash else {start}
    end = _read_number(high, field, whole)
    if start <= end:
        return set(range(start, end + 1, every))
    return {*range(start, field.last + 1), *range(field.first, end + 1)}  # over the end, as in `22-2`


def _read_number(text: str, field: _Field, whole: str) -> int:
    if text and text in field.words:
        return field.words.index(text)
    if not re.fullmatch(r"[0-9]{1,4}", text):
        also = f", or {field.words[-1]} and its like" if field.words else ""
        raise ValueError(f"{field.name} `{whole}`: write numbers from {field.first} to {field.last}{also}")
    if not field.first <= int(text) <= field.last:
        raise ValueError(f"{field.name} `{whole}`: {text} is not from {field.first} to {field.last}")
    return int(text)


def check_rule(text: str) -> None:
    """Require a recurrence rule of iCalendar.

    Raises:
        ValueError: it is no rule, or too long.
    """
    from dateutil.rrule import rrulestr  # not above: few specs have a rule

    if len(text) > _LONGEST_RULE:
        raise ValueError(f"a rule has at most {_LONGEST_RULE:,} characters, and this one has {len(text):,}")
    try:
        rrulestr(text)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        why = str(error).strip() or type(error).__name__
        raise ValueError(
            f"`{text[:60]}` is not a rule ({why}); write it as in `FREQ=WEEKLY;BYDAY=MO;BYHOUR=6;BYMINUTE=0`"
        ) from None
