"""Draw the plant's data: how each machine wears out, fails and is repaired, and what its sensors read.

A machine wears until it fails, stands still for some hours, and starts again as new. Heat and vibration rise with wear,
but late: one failure in six is electrical and has no warning. Networks fail too, so a machine can be silent for hours.
Lives are drawn beyond the last reading, because what happens next is predicted.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from penstock.examples.drawing import Numbers
from penstock.examples.pack import Size

MINUTES_A_DAY = 1440
BEYOND = timedelta(days=4)
"""How long lives are drawn after the last reading."""
MODELS = ("lathe", "mill", "press")
_MEAN_LIFE = 90 * 60.0
"""Minutes between repair and failure, on average."""


@dataclass(frozen=True)
class Lives:
    """Every time from a repair to a failure, of all machines, in minutes since the start of the data."""

    machine: Numbers
    begin: Numbers
    failure: Numbers
    repaired: Numbers
    sudden: Numbers
    """Electrical: no sensor warns of it."""


@dataclass(frozen=True)
class Readings:
    """One row for each machine and minute in which it ran and its network worked."""

    machine: Numbers
    minute: Numbers
    delay: Numbers
    """Seconds until it was received. Some wait in a gateway's buffer and arrive out of order."""
    temperature: Numbers
    vibration: Numbers
    pressure: Numbers
    twice: Numbers
    """Whether the gateway sent it twice, because it got no confirmation."""


@dataclass(frozen=True)
class Events:
    """Lines of the controllers' log, in the order of time."""

    minute: Numbers
    machine: Numbers
    kind: Numbers
    """Position in `KINDS`."""


KINDS = ("INFO cycle finished", "WARN bearing temperature above limit", "FAULT stopped", "INFO started after repair")


@dataclass(frozen=True)
class World:
    begin: datetime
    machines: int
    model: Numbers
    lives: Lives
    readings: Readings
    events: Events

    def minute_of(self, moment: datetime) -> int:
        return int((moment - self.begin) / timedelta(minutes=1))


def draw_world(size: Size) -> World:
    """Draw everything. The same size gives the same data. `rows` are machine-hours. At least six machines."""
    rng = np.random.default_rng(size.seed)
    begin = size.until - timedelta(days=size.days)
    machines = max(round(size.rows / (size.days * 24)), 6)
    model = rng.integers(0, len(MODELS), machines)
    minutes = size.days * MINUTES_A_DAY
    lives = _draw_lives(rng, machines, minutes + int(BEYOND / timedelta(minutes=1)))
    wear, running = _wear(lives, machines, minutes)
    readings = _draw_readings(rng, model, wear, running)
    return World(begin, machines, model, lives, readings, _draw_events(rng, lives, wear, running))


def _draw_lives(rng: np.random.Generator, machines: int, until: int) -> Lives:
    stretches = [stretch for machine in range(machines) for stretch in _lives_of(rng, machine, until)]
    return Lives(*(np.array(column) for column in zip(*stretches, strict=True)))


def _lives_of(rng: np.random.Generator, machine: int, until: int) -> list[tuple[int, int, int, int, bool]]:
    at, found = -int(rng.uniform(0, _MEAN_LIFE)), []
    while at < until:
        sudden = bool(rng.random() < 1 / 6)
        life = rng.exponential(0.7 * _MEAN_LIFE) if sudden else _MEAN_LIFE * 1.1 * rng.weibull(3)
        failure = at + max(int(life), 240)
        repaired = failure + int(rng.integers(150, 480))
        found.append((machine, at, failure, repaired, sudden))
        at = repaired
    return found


def _wear(lives: Lives, machines: int, minutes: int) -> tuple[Numbers, Numbers]:
    """Return wear from 0 to 1 and whether the machine runs, for each machine and minute."""
    wear, running = np.zeros((machines, minutes)), np.zeros((machines, minutes), bool)
    columns = (lives.machine, lives.begin, lives.failure, lives.sudden)
    for machine, begin, failure, sudden in zip(*(column.tolist() for column in columns), strict=True):
        first, last = max(begin, 0), min(failure, minutes)
        if first < last:
            running[machine, first:last] = True
            length = _MEAN_LIFE * 2 if sudden else failure - begin
            wear[machine, first:last] = (np.arange(first, last) - begin) / length
    return np.minimum(wear, 1), running


def _draw_readings(rng: np.random.Generator, model: Numbers, wear: Numbers, running: Numbers) -> Readings:
    heard = running & ~_draw_outages(rng, *running.shape)
    machine, minute = np.nonzero(heard)
    count, worn = len(machine), wear[machine, minute]
    load = 1 + 0.2 * np.sin(2 * np.pi * minute / MINUTES_A_DAY) + 0.1 * rng.standard_normal(count)
    own = rng.normal(0, 1, (3, len(model)))[:, machine]
    late = rng.random(count) < 0.02
    return Readings(
        machine=machine,
        minute=minute,
        delay=np.where(late, rng.integers(120, 900, count), rng.integers(1, 50, count)),
        temperature=np.round(48 + 9 * load + 2 * own[0] + 9 * worn**5 + rng.normal(0, 2.5, count), 2),
        vibration=np.round(2.2 + 0.4 * model[machine] + 0.3 * own[1] + 2.2 * worn**4 + rng.normal(0, 0.6, count), 3),
        pressure=np.round(6 + 0.15 * own[2] - 0.5 * worn**2 + rng.normal(0, 0.25, count), 3),
        twice=rng.random(count) < 0.005,
    )


def _draw_outages(rng: np.random.Generator, machines: int, minutes: int) -> Numbers:
    """Draw network outages: one to five hours for each machine, about every four days."""
    gone = np.zeros((machines, minutes), bool)
    for machine in range(machines):
        for begin in rng.integers(0, minutes, rng.poisson(minutes / (4 * MINUTES_A_DAY))).tolist():
            gone[machine, begin : begin + int(rng.integers(60, 300))] = True
    return gone


def _draw_events(rng: np.random.Generator, lives: Lives, wear: Numbers, running: Numbers) -> Events:
    """Draw finished cycles, warnings that increase with wear, faults, and starts after a repair."""
    minutes = wear.shape[1]
    drawn = rng.random(wear.shape)
    cycles, warnings = drawn < 1 / 120, drawn > 1 - (0.0005 + 0.012 * wear**6)
    marked = [np.nonzero(running & cycles), np.nonzero(running & warnings)]
    for moment in (lives.failure, lives.repaired):
        inside = (moment >= 0) & (moment < minutes)
        marked.append((lives.machine[inside], moment[inside]))
    machine = np.concatenate([m for m, _ in marked])
    minute = np.concatenate([m for _, m in marked])
    kind = np.repeat(np.arange(len(KINDS)), [len(m) for m, _ in marked])
    order = np.lexsort((machine, minute))
    return Events(minute[order], machine[order], kind[order])
