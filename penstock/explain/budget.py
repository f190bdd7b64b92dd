"""Divide the budget of `reasons` among the rows of a run, so that each run, runner and partition chooses alike.

A run knows how many rows it will read, and not how many of them `when` will choose. So the budget is divided as if it
chose all of them: a row is explained if the hash of its key is below the share that the budget pays for.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from penstock.database.decimals import write_decimal
from penstock.run.estimate import describe_seconds
from penstock.spec.reasons import Reasons
from penstock.wording import plural

_DEVIATIONS = 3
"""Standard deviations of the number of explained rows that the share stays below the budget."""


@dataclass(frozen=True)
class ReasonsPlan:
    """The reasons of a run over so many rows, if `when` chooses all of them."""

    rows: int
    """Rows of the interval."""
    row_seconds: float
    """CPU seconds of one row."""
    most_rows: int
    """Most rows that the budget pays for."""
    share: float
    """Share of the chosen rows that are explained."""

    @property
    def seconds(self) -> float:
        """CPU seconds of all explained rows, if `when` chooses every row."""
        return self.rows * self.share * self.row_seconds

    def describe(self) -> str:
        """Describe the plan in one line."""
        cost = f"{1000 * self.row_seconds:.2g} ms CPU a row"
        if self.share == 1.0:
            return f"{plural(self.rows, 'row')} at most, {describe_seconds(self.seconds)} CPU ({cost})"
        return (
            f"{self.share:.1%} of the rows that `when` chooses, {describe_seconds(self.seconds)} CPU at most ({cost}); "
            f"the budget pays for {plural(self.most_rows, 'row')}, and the interval has {self.rows:,}"
        )


def plan_reasons(reasons: Reasons, rows: int, row_seconds: float) -> ReasonsPlan:
    """Divide the budget among the rows of an interval."""
    paid = math.floor(reasons.budget.seconds / row_seconds) if row_seconds else reasons.budget.rows
    most = min(reasons.budget.rows, paid)
    below = max(most - _DEVIATIONS * math.sqrt(most), 0.0)
    return ReasonsPlan(rows, row_seconds, most, 1.0 if rows <= most else below / rows)


def within_share(keys: Iterable[Mapping[str, Any]], interval_key: str, share: float) -> list[bool]:
    """Return for each key whether its row is explained. Another interval chooses other keys."""
    return [_hash_key(key, interval_key) < share for key in keys]


def _hash_key(key: Mapping[str, Any], interval_key: str) -> float:
    """Return a number from 0 to below 1 that is the same wherever the row is scored."""
    text = "\x1f".join([interval_key, *(_write(value) for value in key.values())])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest()) / 2**48


def _write(value: Any) -> str:
    """Write a key's value. Equal numbers are written alike, whatever their type."""
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return write_decimal(Decimal(str(value)))
    return str(value)
