"""Types that all parts of a spec share, and the parts for schedule, notifications, budget and retention."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Self, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from penstock.interval import CalendarGrain, Grain, as_utc, parse_duration
from penstock.spec.schedule_times import check_cron, check_rule
from penstock.timezones import check_timezone

MAX_NAME = 63
"""Longest name in bytes that every database keeps. Postgres truncates longer names silently, so two could collide."""


def _check_name(name: str) -> str:
    size = len(name.encode())
    if size > MAX_NAME:
        raise ValueError(f"a name has at most {MAX_NAME} bytes in UTF-8, and this one has {size}")
    return name


_DURATION: dict[str, Any] = {"type": "string", "pattern": r"^\d+\s*[mhdw]$", "examples": ["15m", "1h", "1d"]}
_CALENDAR_GRAINS: tuple[str, ...] = get_args(CalendarGrain)


def twin_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that more than one column has. Upper and lower case are the same."""
    spelled: dict[str, list[str]] = {}
    for name in names:
        spelled.setdefault(name.casefold(), []).append(name)
    return tuple(dict.fromkeys(name for same in spelled.values() if len(same) > 1 for name in same))


def compile_regex(text: str) -> re.Pattern[str]:
    """Compile a regular expression of a spec.

    Raises:
        ValueError: it is none.
    """
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None


def write_duration(value: timedelta) -> str:
    """Write a duration as a spec does: `15m`, `1h`, `7d`, and less than a minute as `2ms`."""
    if timedelta(0) < value < timedelta(minutes=1):
        return f"{round(value / timedelta(milliseconds=1))}ms"
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
    PlainSerializer(write_duration),
    WithJsonSchema(_DURATION),
]
UtcDatetime = Annotated[datetime, AfterValidator(as_utc)]


def write_grain(value: Grain) -> str:
    """Write a grain as a spec does: `15m`, `1d`, `month`."""
    return write_duration(value) if isinstance(value, timedelta) else value


def _read_grain(value: Any) -> Any:
    if value in _CALENDAR_GRAINS:
        return value
    try:
        return _read_duration(value)
    except ValueError as error:
        raise ValueError(f"{error}, or one of {', '.join(f'`{name}`' for name in _CALENDAR_GRAINS)}") from None


GrainText = Annotated[
    Grain,
    BeforeValidator(_read_grain),
    PlainSerializer(write_grain),
    WithJsonSchema({"anyOf": [_DURATION, {"type": "string", "enum": list(_CALENDAR_GRAINS)}]}),
]


TimeZone = Annotated[str, AfterValidator(check_timezone)]
Identifier = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(_check_name)]
"""A name in a database, spelled as the database spells it."""
Column = Identifier
MOST_TABLE = 54
"""Most characters of a destination's table, because databases cut names at 63 bytes and others are made of it."""
TableName = Annotated[str, Field(min_length=1, max_length=MOST_TABLE, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
SchemaName = Identifier
ConnectionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]

LIVE = "live"
"""The variant of the runs that readers of a pipeline's table see."""
SERVED = "served"
"""The variant of the runs that recorded requests belong to."""
SANDBOX = "sandbox:"
"""How the variants of a sandbox's runs begin: `sandbox:<name>`."""
SANDBOX_TABLE = "__sandbox_"
"""What stands between the table of a pipeline and the name of a sandbox, in the name of the sandbox's table."""


class Part(BaseModel):
    """Base of everything in a spec: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values, validated like a new one.

        Pydantic's own copy checks nothing and keeps cached values, so it would score with the steps of the original.

        Raises:
            ValidationError: the values are wrong, or do not fit the others.
        """
        values = {name: getattr(self, name) for name in type(self).model_fields} | dict(update or {})
        return type(self).model_validate(values, by_alias=True, by_name=True)


Place: TypeAlias = tuple[str | int, ...]
"""Keys and positions that lead to a value of a spec."""


def refuse_parts(part: type[Part], problems: Iterable[tuple[Place, Any, str]]) -> None:
    """Refuse values of a spec, each at its own place, so that a message gets its line.

    Args:
        problems: Place, value and what is wrong. An empty text means that the key is missing.

    Raises:
        ValidationError: there is a problem.
    """
    errors: list[InitErrorDetails] = [
        {"type": PydanticCustomError("part", what) if what else "missing", "loc": place, "input": value}
        for place, value, what in problems
    ]
    if errors:
        raise ValidationError.from_exception_data(part.__name__, errors)


class Schedule(Part):
    """When runs start. Give exactly one of `cron`, `interval` and `rrule`."""

    cron: str | None = Field(default=None, examples=["15 2 * * *"])
    """Cron expression with five fields."""
    interval: Duration | None = Field(default=None, examples=["1h"])
    """Time between the starts of two runs."""
    rrule: str | None = Field(default=None, examples=["FREQ=WEEKLY;BYDAY=MO;BYHOUR=6;BYMINUTE=0"])
    """Recurrence rule of iCalendar (RFC 5545)."""
    timezone: TimeZone = Field(default="UTC", examples=["Europe/Paris"])
    """IANA time zone of the schedule. The data intervals have a zone of their own, `interval.timezone`."""
    active: bool | None = Field(default=None, examples=[False])
    """Whether the schedule starts runs. Each deploy sets it so on the server. Null keeps a pause made there."""

    @field_validator("cron")
    @classmethod
    def _cron_is_read(cls, value: str | None) -> str | None:
        if value is not None:
            check_cron(value)
        return value

    @field_validator("rrule")
    @classmethod
    def _rule_is_read(cls, value: str | None) -> str | None:
        if value is not None:
            check_rule(value)
        return value

    @field_validator("interval")
    @classmethod
    def _interval_is_positive(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and value <= timedelta(0):
            raise ValueError("the time between two runs must be longer than zero")
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
    """Prefect notification blocks that get a message when a run does not publish, drifts, or scored badly."""

    on_halt: tuple[BlockName, ...] = Field(default=(), examples=[["slack-webhook/data-team"]])
    """Blocks to notify when a gate halts a run."""
    on_drift: tuple[BlockName, ...] = Field(default=(), examples=[["slack-webhook/data-team"]])
    """Blocks to notify when a column begins to drift: once, not for each of the runs after it that still do."""
    on_failure: tuple[BlockName, ...] = Field(default=(), examples=[["custom-webhook/ops"]])
    """Blocks to notify when a run fails or its process dies."""
    on_performance: tuple[BlockName, ...] = Field(default=(), examples=[["slack-webhook/data-team"]])
    """Blocks to notify when a metric of `labels.alert` goes beyond its limit, once until it is back."""
    on_delivery: tuple[BlockName, ...] = Field(default=(), examples=[["custom-webhook/ops"]])
    """Blocks to notify when a target of `deliver` does not get its rows, once until it has all of them."""

    @property
    def blocks(self) -> tuple[str, ...]:
        """All blocks."""
        return (*self.on_halt, *self.on_failure, *self.on_drift, *self.on_performance, *self.on_delivery)


class Budget(Part):
    """Limits of one scoring run. A run whose estimate is above a limit halts before it reads a row."""

    rows: int | None = Field(default=None, ge=0, examples=[5_000_000])
    """Most rows of the primary source in one interval. They are counted, not estimated."""
    minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False, examples=[90])
    """Most minutes of one run, estimated from past runs. The first run has no estimate and always passes."""
    cost: float | None = Field(default=None, ge=0, allow_inf_nan=False, examples=[2.5])
    """Highest cost of one run at PENSTOCK_PRICE_CPU_HOUR and PENSTOCK_PRICE_GB_HOUR, estimated from past runs."""


class Retention(Part):
    """What `penstock prune` removes. A key that is null removes nothing."""

    keep_runs: int | None = Field(default=None, ge=0, le=1000, examples=[2])
    """How many superseded or withdrawn runs of an interval keep their rows. Null keeps all of them."""
    unpublished: Duration | None = Field(default=timedelta(days=7), examples=["7d"])
    """Age after which the rows of halted, failed and abandoned runs are removed."""
    quarantine: Duration | None = Field(default=None, examples=["90d"])
    """Age after which refused rows are removed, counted from their run."""
    log_lines: Duration | None = Field(default=None, examples=["30d"])
    """Age after which landed log lines are removed. Lines that an interval may still need always stay."""
    deliveries: Duration | None = Field(default=timedelta(days=90), examples=["30d"])
    """Age after which the records of deliveries that have ended are removed. What a target has always stays known."""
    labels: Duration | None = Field(default=None, examples=["730d"])
    """Age after which labels are removed, counted from `seen_at`. The performance of older intervals stays as it is."""
