"""What delivers one batch to a system, and what it says."""

from dataclasses import dataclass
from typing import Protocol

from penstock.ledger.outbox import Batch, Outbox, OutboxRow


@dataclass(frozen=True)
class Reply:
    """What a target said to a batch."""

    accepted: bool
    text: str
    """The status in a few words. It has no values of rows."""
    again: bool = False
    """Whether the same batch may be accepted later."""
    wait: float | None = None
    """Seconds that the target asks to wait."""


class Target(Protocol):
    """A system that gets batches of rows."""

    @property
    def longest_seconds(self) -> float:
        """How long one batch may take."""

    def send(self, outbox: Outbox, batch: Batch, rows: list[OutboxRow]) -> Reply:
        """Send one batch. The same batch may have been sent before."""

    def close(self) -> None:
        """Close the connections."""
