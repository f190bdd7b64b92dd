"""What is said of an invariant that does not hold."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from penstock.ledger.tables import runs

SHOWN = 20
"""Most rows that a violation names."""
RESTATE = "Restate the intervals of these runs."


@dataclass(frozen=True)
class Violation:
    """An invariant that does not hold in one place."""

    invariant: str
    where: str
    """The destination or the table."""
    rows: tuple[str, ...]
    """What breaks it, the first ones."""
    remedy: str


Check = Callable[[sa.Connection], Iterator[Violation]]


def list_runs(connection: sa.Connection, invariant: str, broken: sa.ColumnElement[bool]) -> Iterator[Violation]:
    columns = (runs.c.destination, runs.c.run_id, runs.c.state)
    found: Sequence[Any] = connection.execute(
        sa.select(*columns).where(broken).order_by(runs.c.started_at).limit(SHOWN)
    ).all()
    for place in dict.fromkeys(row[0] for row in found):
        rows = tuple(f"{run_id} ({state})" for where, run_id, state in found if where == place)
        yield Violation(invariant, str(place), rows, RESTATE)
