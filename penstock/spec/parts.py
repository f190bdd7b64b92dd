"""What the parts of a spec are made of, and those that say when it runs, who is told and what is kept."""

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from penstock.interval import as_utc, parse_duration

MAX_NAME = 63
"""Bytes of a name that every database keeps; Postgres cuts longer ones in silence, and two may become one."""


def _check_name(name: str) -> str:
    size = len(name.encode())
    if size > MAX_NAME:
        raise ValueError(f"a name has at most {MAX_NAME} bytes in UTF-8, and this one has {size}")
    return name


def _write_duration(value: timedelta) -> str:
    minutes = int(value.total_seconds() // 60)
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes and minutes % size == 0:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"


def _read_duration(value: Any) -> timedelta:
    return value if isinstance(value, timedelta) else parse_duration(str(value))


Duration = Annotated[
    timedelta,
    BeforeValidator(_read_duration),
    PlainSerializer(_write_duration),
    WithJsonSchema({"type": "string", "pattern": r"^\d+\s*[mhdw]$", "examples": ["15m", "1h", "1d"]}),
]
UtcDatetime = Annotated[datetime, AfterValidator(as_utc)]
Identifier = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(_check_name)]
"""A name in a database, spelled as the database spells it."""
Column = Identifier
TableName = Annotated[str, Field(min_length=1, max_length=54, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
SchemaName = Identifier
ConnectionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]


class Part(BaseModel):
    """Base of everything in a spec: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Schedule(Part):
    """When runs start: one of cron, interval or rrule."""

    cron: str | None = None
    interval: Duration | None = None
    rrule: str | None = None
    timezone: str = "UTC"

    @field_validator("timezone")
    @classmethod
    def _timezone_exists(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"there is no time zone `{value}`; write it as in `Europe/Paris`") from None
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(part is not None for part in (self.cron, self.interval, self.rrule)) != 1:
            raise ValueError("give exactly one of `cron`, `interval` and `rrule`")
        return self


BLOCK_PATTERN = r"^[a-z0-9-]+/[a-z0-9-]+$"


def _check_block(value: str) -> str:
    if not re.fullmatch(BLOCK_PATTERN, value):
        raise ValueError(f"`{value}` is not a block; write its type and its name, as in `custom-webhook/ops`")
    return value


BlockName = Annotated[
    str,
    AfterValidator(_check_block),
    WithJsonSchema({"type": "string", "pattern": BLOCK_PATTERN, "examples": ["custom-webhook/ops"]}),
]
"""A Prefect block, as `<type>/<name>`."""


class Notify(Part):
    """Who is told when a run does not publish: Prefect notification blocks."""

    on_halt: tuple[BlockName, ...] = ()
    """A gate refused an interval."""
    on_failure: tuple[BlockName, ...] = ()
    """A run failed, or its process died."""


class Budget(Part):
    """What one scoring run may take; a run whose estimate exceeds it halts before a row is read."""

    rows: int | None = Field(default=None, ge=0)
    """Rows of the primary source in the interval, which are counted."""
    minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Minutes, as past runs of the pipeline tell; the first run is not held to it."""
    cost: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Cost at the prices of PENSTOCK_PRICE_CPU_HOUR and PENSTOCK_PRICE_GB_HOUR, as past runs tell."""


class Retention(Part):
    """What `penstock prune` removes; what is left out stays for ever."""

    keep_runs: int | None = Field(default=None, ge=0, le=1000)
    """Rows of the newest so many superseded or withdrawn runs of an interval stay; left out: of all."""
    unpublished: Duration | None = timedelta(days=7)
    """Rows of runs that halted, failed or were abandoned go after so long."""
    quarantine: Duration | None = None
    """Refused rows go so long after their run."""
    log_lines: Duration | None = None
    """Landed lines go so long after their time, but never those that an interval may still need."""
