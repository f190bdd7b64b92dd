"""Cut a line of rows into ranges of about equal size by counts of the rows in equal steps, without a sort.

The line is the event time in whole seconds, or the places of a table.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

STEPS = 1000
"""The most steps that are counted at once."""
_SLACK = 50
"""A range may differ from its share of the rows by one row of so many."""
CountSteps = Callable[[int, int, int], Mapping[int, int]]
"""Counts the rows from `first` to before `end` by steps of `step`: returns the rows by the number of the step."""


@dataclass(frozen=True)
class RowRange:
    """The rows from `first` to before `end`."""

    first: int
    end: int
    rows: int


def cut_ranges(first: int, end: int, size: int, count: CountSteps, unit: int = 1) -> list[RowRange]:
    """Cut `[first, end)` into ranges with about `size` rows each. Ranges without rows are left out.

    A step with too many rows is counted again in smaller steps, down to `unit`. A range of one unit may have more rows.

    Args:
        unit: the smallest step.
    """

    def split(wide: RowRange) -> list[RowRange]:
        step = _step(wide.end - wide.first, unit)
        counted = sorted(count(wide.first, wide.end, step).items())
        return [
            RowRange(wide.first + number * step, min(wide.first + (number + 1) * step, wide.end), rows)
            for number, rows in counted
            if rows
        ]

    return _pack(split(RowRange(first, end, 0)), size, split, unit) if first < end else []


def _step(length: int, unit: int) -> int:
    return -(-length // (STEPS * unit)) * unit


def _pack(steps: list[RowRange], size: int, split: Callable[[RowRange], list[RowRange]], unit: int) -> list[RowRange]:
    slack, waiting = size // _SLACK, deque(steps)
    left = sum(step.rows for step in steps)
    packed: list[RowRange] = []
    filling: RowRange | None = None
    while waiting:
        step = waiting.popleft()
        filled = filling.rows if filling else 0
        share = -(-left // max(-(-(left - slack) // size), 1))
        short, over = share - filled, filled + step.rows - share
        if over > 0 and min(short, over) > slack and step.end - step.first > unit and (finer := split(step)):
            left += sum(each.rows for each in finer) - step.rows  # rows may come between two counts
            waiting.extendleft(reversed(finer))
            continue
        fits = over <= min(short, slack)
        if filling is not None and not fits:
            packed.append(filling)
            left -= filled
            waiting.appendleft(step)
            filling = None
            continue
        filling = RowRange(filling.first if filling else step.first, step.end, filled + step.rows)
        if over >= 0:
            packed.append(filling)
            left -= filling.rows
            filling = None
    return [*packed, filling] if filling else packed
