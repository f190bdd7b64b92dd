"""Estimates with their 95 % intervals, from sums."""

import math
from dataclasses import dataclass

Z = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


@dataclass(frozen=True)
class Estimate:
    """A metric with the 95 % interval in which chance alone may move it."""

    value: float
    low: float
    high: float


def around(value: float, error: float, least: float = -math.inf, most: float = math.inf) -> Estimate:
    """Return the normal interval around a value, cut to what the metric can be.

    Args:
        error: The standard error.
    """
    return Estimate(value, max(least, value - Z * error), min(most, value + Z * error))


def mean(total: float, squares: float, count: int) -> Estimate | None:
    """Estimate a mean from the sum and the sum of squares of `count` values. None without values."""
    if count == 0:
        return None
    value = total / count
    variance = max(squares / count - value * value, 0.0) * count / max(count - 1, 1)
    return around(value, math.sqrt(variance / count))


def wilson(successes: int, count: int) -> Estimate | None:
    """Estimate a share with the interval of Wilson (1927). None without cases."""
    if count == 0:
        return None
    share, room = successes / count, Z * Z / count
    middle = (share + room / 2) / (1 + room)
    width = Z / (1 + room) * math.sqrt(share * (1 - share) / count + room / (4 * count))
    return Estimate(share, max(0.0, middle - width), min(1.0, middle + width))


def logit_interval(share: float, count: int) -> Estimate:
    """Return the interval that is symmetric on the logit scale, for a share of `count` cases.

    Boyd, Eng and Page, Area under the precision-recall curve: point estimates and confidence intervals (2013).
    """
    if count == 0 or not 0 < share < 1:
        return Estimate(share, 0.0 if count == 0 else share, 1.0 if count == 0 else share)
    middle, error = math.log(share / (1 - share)), 1 / math.sqrt(count * share * (1 - share))
    low, high = (_logistic(middle + sign * Z * error) for sign in (-1, 1))
    return Estimate(share, low, high)


def _logistic(logit: float) -> float:
    """Return the share of a logit, also of one whose exponential is beyond a float."""
    return (1 + math.tanh(logit / 2)) / 2
