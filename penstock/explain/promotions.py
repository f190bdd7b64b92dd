"""Who pointed an alias at the model versions of a run."""

from dataclasses import dataclass
from datetime import datetime

from penstock.errors import PenstockError
from penstock.ledger.reader import RunRecord
from penstock.models.registry import Registry


@dataclass(frozen=True)
class Promotion:
    """One move of an alias to a version."""

    model: str
    """`name/version`."""
    alias: str
    moved_at: datetime
    moved_by: str
    """As the person typed it. Empty: no name was given."""
    note: str


def read_promotions(registry: Registry, run: RunRecord) -> tuple[Promotion, ...]:
    """Return the moves of aliases to the versions of a run, the oldest first. Empty if the store cannot be read."""
    try:
        return tuple(
            Promotion(str(pin), move.alias, move.at, move.by, move.note)
            for pin in dict.fromkeys(run.pins.values())
            for move in registry.alias_history(pin.name)
            if move.version == pin.version
        )
    except PenstockError:  # the score is explained without it
        return ()
