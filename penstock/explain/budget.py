"""What the budget of `reasons` pays for. It depends on the spec and the model alone, so every run explains alike."""

import math
from dataclasses import dataclass

from penstock.run.estimate import describe_seconds
from penstock.spec.reasons import Reasons
from penstock.wording import plural


@dataclass(frozen=True)
class ReasonsPlan:
    """What the reasons of a run may cost, if `when` chooses every row."""

    rows: int
    """Rows of the interval."""
    row_seconds: float
    """CPU seconds of one row."""
    most_rows: int
    """Most rows that the budget explains."""

    @property
    def explained(self) -> int:
        """Most rows that the run explains."""
        return min(self.rows, self.most_rows)

    @property
    def seconds(self) -> float:
        """CPU seconds of these rows."""
        return self.explained * self.row_seconds

    def describe(self) -> str:
        """Describe the plan in one line."""
        cost = f"{describe_seconds(self.seconds)} CPU ({1000 * self.row_seconds:.2g} ms CPU a row)"
        if self.rows <= self.most_rows:
            return f"{plural(self.rows, 'row')} at most, {cost}"
        most = f"{self.most_rows:,} of {plural(self.rows, 'row')} at most"
        return f"{most}, {cost}; if `when` chooses more, these say `budget`"


def plan_reasons(reasons: Reasons, rows: int, row_seconds: float) -> ReasonsPlan:
    """Return what the reasons of an interval may cost."""
    return ReasonsPlan(rows, row_seconds, limit_rows(reasons, row_seconds))


def limit_rows(reasons: Reasons, row_seconds: float) -> int:
    """Return how many rows the budget explains: the smaller of its two limits.

    Args:
        row_seconds: CPU seconds of one row, estimated from the model.
    """
    paid = math.floor(reasons.budget.seconds / row_seconds) if row_seconds else reasons.budget.rows
    return min(reasons.budget.rows, paid)
