"""What becomes of a machine after a moment, and when that is known for certain."""

from datetime import timedelta

import numpy as np

from penstock.examples.drawing import Numbers
from penstock.examples.maintenance.world import World

FORETOLD = timedelta(hours=24)
"""Whether a machine fails within it is the first question."""
LONGEST = timedelta(hours=72)
"""The second one, how many hours are left, is asked up to here: who lives longer has 72 hours left, and is known to."""


def fails_soon(world: World, machine: Numbers, minute: Numbers) -> Numbers:
    """Whether each machine fails within a day after a moment."""
    return _minutes_left(world, machine, minute) <= FORETOLD / timedelta(minutes=1)


def hours_left(world: World, machine: Numbers, minute: Numbers) -> Numbers:
    """Hours until each machine's next failure, 72 at most."""
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
