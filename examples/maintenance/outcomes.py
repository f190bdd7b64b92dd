"""The outcome of a machine after a moment, and when it is certain."""

from datetime import timedelta

import numpy as np

from penstock.examples.drawing import Numbers
from penstock.examples.maintenance.world import World

FORETOLD = timedelta(hours=24)
"""The first question: does a machine fail within this time?"""
LONGEST = timedelta(hours=72)
"""The second question, how many hours are left, is capped here: a longer life counts as 72 hours."""


def fails_soon(world: World, machine: Numbers, minute: Numbers) -> Numbers:
    """Return whether each machine fails within a day after a moment."""
    return _minutes_left(world, machine, minute) <= FORETOLD / timedelta(minutes=1)


def hours_left(world: World, machine: Numbers, minute: Numbers) -> Numbers:
    """Return the hours until each machine's next failure, at most 72."""
    left = np.minimum(_minutes_left(world, machine, minute) / 60, LONGEST / timedelta(hours=1))
    return np.asarray(np.round(left, 2))


def _minutes_left(world: World, machine: Numbers, minute: Numbers) -> Numbers:
    left = np.full(len(machine), np.inf)
    lives = world.lives
    for one in range(world.machines):
        failures = np.append(np.sort(lives.failure[lives.machine == one]), np.inf)
        mine = machine == one
        left[mine] = failures[np.searchsorted(failures, minute[mine])] - minute[mine]
    return left
