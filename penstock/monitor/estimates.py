"""Estimates with their 95 % intervals, from sums."""

import math
from dataclasses import dataclass

Z = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""
LEAST_ROWS = 30
"""Fewest values of a mean whose interval is told. It is an approximation, and of one or two values it has no width."""
LEAST_OF_A_LABEL = 10
"""Fewest rows of each label."""


@dataclass(frozen=True)
class Estimate:
    """A metric with the 95 % interval in which chance alone may move it."""

    value: float
    low: float | None
    """None, like `high`: there are too few rows to tell."""
    high: float | None

    def describe_range(self, decimals: int = 4) -> str:
        """Write the interval."""
        if self.low is None or self.high is None:
            return "too few rows"
        return f"{self.low:.{decimals}f} to {self.high:.{decimals}f}"

    def cut(self, least: float, most: float = math.inf) -> "Estimate":
        """Return the estimate with an interval within what the metric can be."""
        if self.low is None or self.high is None:
            return self
        return Estimate(self.value, max(least, self.low), min(most, self.high))

    def without_interval(self) -> "Estimate":
        return Estimate(self.value, None, None)


def around(value: float, error: float, least: float = -math.inf, most: float = math.inf) -> Estimate:
    """Return the normal interval around a value, cut to what the metric can be.

    Args:
        error: The standard error.
    """
    return Estimate(value, max(least, value - Z * error), min(most, value + Z * error))


def mean(total: float, squares: float, count: int) -> Estimate | None:
    """Estimate a mean from the sum and the sum of squares of `count` values. None without values.

    Of fewer than `LEAST_ROWS` values it has no interval.
    """
    if count == 0:
        return None
    value = total / count
    if count < LEAST_ROWS:
        return Estimate(value, None, None)
    variance = max(squares / count - value * value, 0.0) * count / max(count - 1, 1)
    return around(value, math.sqrt(variance / count))


def share_of_pairs(value: float, error: float, cases: int) -> Estimate:
    """Estimate the share of pairs that are in the right order.

    If all of them agree, the normal interval has no width. Then it is Wilson's, as if each case were one trial.

    Args:
        error: The standard error.
        cases: Rows of the rarer side of the pairs. Of fewer than `LEAST_OF_A_LABEL` there is no interval.
    """
    if cases < LEAST_OF_A_LABEL:
        return Estimate(value, None, None)
    return around(value, error, 0.0, 1.0) if error > 0 else _wilson(value, cases)


def wilson(successes: int, count: int) -> Estimate | None:
    """Estimate a share with the interval of Wilson (1927). None without cases."""
    if count == 0:
        return None
    return _wilson(successes / count, count)


def _wilson(share: float, count: int) -> Estimate:
    room = Z * Z / count
    middle = (share + room / 2) / (1 + room)
    width = Z / (1 + room) * math.sqrt(share * (1 - share) / count + room / (4 * count))
    return Estimate(share, max(0.0, middle - width), min(1.0, middle + width))


def logit_interval(share: float, count: int) -> Estimate:
    """Return the interval that is symmetric on the logit scale, for a share of `count` cases.

    Of fewer than `LEAST_OF_A_LABEL` cases it has no interval.

    Boyd, Eng and Page, Area under the precision-recall curve: point estimates and confidence intervals (2013).
    """
    if count < LEAST_OF_A_LABEL:
        return Estimate(share, None, None)
    if not 0 < share < 1:  # the logit is infinite
        return _wilson(share, count)
    middle, error = math.log(share / (1 - share)), 1 / math.sqrt(count * share * (1 - share))
    low, high = (_logistic(middle + sign * Z * error) for sign in (-1, 1))
    return Estimate(share, low, high)


def _logistic(logit: float) -> float:
    """Return the share of a logit, also of one whose exponential is beyond a float."""
    return (1 + math.tanh(logit / 2)) / 2
