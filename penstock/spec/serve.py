"""How requests are scored over HTTP: what they bring, how they are batched, and what limits them."""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, field_validator, model_validator

from penstock.resources.memory import read_size
from penstock.spec.parts import Duration, Part

_WAIT = r"\s*(\d{1,5})\s*ms\s*"
_SIZE: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 1}], "examples": ["1MiB"]}


def _read_wait(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    found = re.fullmatch(_WAIT, str(value))
    if found is None:
        raise ValueError(f"`{value}` is not a time to wait; write milliseconds, like `2ms`")
    return timedelta(milliseconds=int(found[1]))


Wait = Annotated[
    timedelta,
    BeforeValidator(_read_wait),
    PlainSerializer(lambda value: f"{round(value.total_seconds() * 1000)}ms"),
    WithJsonSchema({"type": "string", "pattern": r"^\s*\d{1,5}\s*ms\s*$", "examples": ["2ms"]}),
]
Bytes = Annotated[int, BeforeValidator(read_size), WithJsonSchema(_SIZE)]


_REFRESH = timedelta(minutes=5)
Record = Literal["off", "async", "before_answer"]


class ServeBatch(Part):
    """Requests that wait at the same time are scored together. The answer to a row does not depend on the others."""

    rows: int = Field(default=32, ge=1, le=1024, examples=[32])
    """Most rows that are scored together, unless one request has more."""
    wait: Wait = Field(default=timedelta(milliseconds=2), examples=["2ms"])
    """How long a request waits at most for others that are on their way. Alone it does not wait."""


class ServeLimit(Part):
    """What one process takes of a pipeline's requests."""

    rows: int = Field(default=1000, ge=1, le=100_000, examples=[1000])
    """Most rows of a request, over all sources that it brings."""
    bytes: Bytes = Field(default=2**20, ge=1024, le=2**30, examples=["1MiB"])
    """Most bytes of a request's body."""
    in_flight: int = Field(default=64, ge=1, le=10_000, examples=[64])
    """Most requests at once. Those beyond it are answered with 429."""
    snapshot: Bytes = Field(default=2**28, ge=1024, le=2**36, examples=["256MiB"])
    """Most bytes of a snapshot, over all its sources. A larger one is not taken."""


class Serve(Part):
    """How `penstock serve` scores requests."""

    features: Literal["request", "snapshot"] = Field(default="request", examples=["snapshot"])
    """Where the rows of the other sources come from. With `request` a request may bring them. With `snapshot` the
    server holds them in memory, and a request brings rows of the primary source only."""
    refresh: Duration = Field(default=_REFRESH, examples=["5m"])
    """For `features: snapshot`: how often the snapshot is taken again."""
    batch: ServeBatch = Field(default=ServeBatch(), examples=[{"rows": 32, "wait": "2ms"}])
    """Which requests are scored together."""
    limit: ServeLimit = Field(default=ServeLimit(), examples=[{"rows": 1000, "bytes": "1MiB", "in_flight": 64}])
    """What is refused because it is too much."""
    record: Record = Field(default="off", examples=["before_answer"])
    """Whether the rows of requests and their scores are kept in the table `<table>__served`. `before_answer`: no answer
    is sent before they are stored. `async`: the answer does not wait, and rows that come too fast are dropped and
    counted."""
    retention: Duration = Field(default=timedelta(days=30), examples=["30d"])
    """How long recorded rows are kept, and how long an `Idempotency-Key` counts. `penstock prune` removes them."""

    @field_validator("refresh")
    @classmethod
    def _refresh_is_a_while(cls, value: timedelta) -> timedelta:
        if not timedelta(minutes=1) <= value <= timedelta(days=7):
            raise ValueError("`refresh` is from one minute to seven days; write it like `5m`")
        return value

    @model_validator(mode="after")
    def _refresh_goes_with_a_snapshot(self) -> Self:
        if self.features == "request" and self.refresh != _REFRESH:
            raise ValueError("`refresh` goes with `features: snapshot`; write that too, or leave `refresh` out")
        return self
