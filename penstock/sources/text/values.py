"""Texts that look like a number, a time or a missing value. They help to guess how a file is written."""

import re

MISSING = ("NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null", "None", "\\N", "?", "-")
"""Texts that stand for a missing value in many files. The empty text always does."""
_NUMBER = re.compile(r"[+-]?(\d[\d.,']*|[.,]\d+)([eE][+-]?\d+)?")
_TIME = re.compile(
    r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T]\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[AaPp][Mm])?( ?(Z|UTC|[+-]\d{2}:?\d{2}))?)?"
    r"|\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?"
)
_PIECES = re.compile(r"\d+|[^\W\d_]+")


def is_missing(text: str) -> bool:
    return not text or text in MISSING


def is_number(text: str) -> bool:
    """Whether a text is a number in some notation."""
    return _NUMBER.fullmatch(text) is not None


def is_time(text: str) -> bool:
    """Whether a text is a date, a clock time or both in some notation."""
    return _TIME.fullmatch(text) is not None


def kind_of(text: str) -> str:
    """Return `number`, `time` or `text`."""
    if is_time(text):
        return "time"
    return "number" if is_number(text) else "text"


def shape_of(text: str) -> str:
    """Return a text with all digits and letters made alike: `k1` and `m22` have one shape."""
    return _PIECES.sub(lambda piece: "9" if piece[0][0].isdigit() else "a", text)
