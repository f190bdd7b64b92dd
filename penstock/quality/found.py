"""What judging one expectation on one table found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Found:
    """One expectation's evaluation, with its counts."""

    success: bool
    evaluated: int
    unexpected: int
    positions: Sequence[int] = ()
    """Positions of the unexpected rows, in order. Empty if whole columns are judged."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """What Great Expectations observed. Empty if DuckDB judged."""


NOTHING = Found(success=True, evaluated=0, unexpected=0)
