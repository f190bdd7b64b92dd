"""Types of columns that a source of files declares."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from penstock.spec.parts import Part

TypeName = Literal["string", "number", "int", "float", "bool", "date", "timestamp"]
EPOCH_FORMATS = ("epoch_s", "epoch_ms", "epoch_us", "epoch_ns")
STRPTIME = {
    "%Y": "[0-9]{4}",
    "%y": "[0-9]{2}",
    "%m": "[0-9]{1,2}",
    "%d": "[0-9]{1,2}",
    "%j": "[0-9]{1,3}",
    "%b": r"\pL+\.?",
    "%B": r"\pL+",
    "%a": r"\pL+\.?",
    "%A": r"\pL+",
    "%H": "[0-9]{1,2}",
    "%I": "[0-9]{1,2}",
    "%M": "[0-9]{1,2}",
    "%S": "[0-9]{1,2}",
    "%f": "[0-9]{1,9}",
    "%p": "[AaPp][Mm]",
    "%z": "[+-][0-9]{2}(:?[0-9]{2})?",
    "%%": "%",
}
"""Directives of a format, each with the regular expression of the texts that it takes."""
_DAY = ({"%d", "%m"}, {"%d", "%b"}, {"%d", "%B"}, {"%j"})


class DeclaredType(Part):
    """The type of a column, and how its times are written."""

    type: TypeName = Field(examples=["timestamp"])
    """Type of the column."""
    format: str | None = Field(default=None, min_length=1, max_length=60, examples=["%m/%d/%Y"])
    """How a date or a timestamp is written: a `strptime` format, or `epoch_s`, `epoch_ms`, `epoch_us`, `epoch_ns` for
    the seconds, milli-, micro- or nanoseconds since 1970. Without it the values are ISO 8601, as in `2026-01-31`."""

    @field_validator("format")
    @classmethod
    def _has_a_date(cls, value: str | None) -> str | None:
        if value is None or value in EPOCH_FORMATS:
            return value
        directives = {d.replace("-", "") for d in re.findall(r"%-?.?", value)}
        unknown = sorted(directives - STRPTIME.keys())
        if unknown:
            raise ValueError(f"`{unknown[0]}` is not known in a format; known: {', '.join(sorted(STRPTIME))}")
        if not directives & {"%Y", "%y"} or not any(day <= directives for day in _DAY):
            raise ValueError(
                f"the format `{value}` needs a year, a month and a day, as in `%m/%d/%Y`, or is one of "
                f"{', '.join(f'`{name}`' for name in EPOCH_FORMATS)}"
            )
        return value

    @model_validator(mode="after")
    def _only_times_have_a_format(self) -> Self:
        if self.format is not None and self.type not in ("date", "timestamp"):
            raise ValueError(f"`format` is for the types `date` and `timestamp`, not for `{self.type}`")
        return self
