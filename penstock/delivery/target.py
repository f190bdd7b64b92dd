"""What delivers one batch to a system, and what it says."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from penstock.ledger.outbox import Batch, Delivery, Outbox, OutboxRow


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
    missing: int = 0
    """Rows that were not merged, because the table does not have their keys."""


class Target(ABC):
    """A system that gets live rows."""

    @property
    @abstractmethod
    def longest_seconds(self) -> float:
        """How long one batch may take."""

    def open(self) -> Reply:
        """Look whether the target can be reached, before a delivery to it is planned."""
        return Reply(True, "")

    def check_columns(self, rows: pa.Schema) -> None:  # noqa: B027 # most targets take any columns
        """Refuse columns that the target would not keep as they are. It is open.

        Raises:
            MergeRefused: a table lacks a column, or has one of another type.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""


class BatchTarget(Target):
    """A system that gets what has changed, in batches."""

    @abstractmethod
    def send(self, outbox: Outbox, batch: Batch, rows: list[OutboxRow]) -> Reply:
        """Send one batch. The same batch may have been sent before."""


class IntervalTarget(Target):
    """A system that gets all live rows of an interval at once. Its delivery has one batch."""

    @abstractmethod
    def replace(self, outbox: Outbox, delivery: Delivery, rows: Iterator[pa.Table]) -> Reply:
        """Put these rows in the place of all that the target has of the interval. It may have been done before.

        Args:
            rows: One table for each partition of the live run, of `delivery.change`. Without a run there are none.
        """

    @abstractmethod
    def find_unread(self, before: datetime | None) -> list[str]:
        """Return what no reader finds any more: files that are not live, of before a time. None: whenever written.

        Raises:
            PlaceRefused: it does not answer.
        """

    @abstractmethod
    def remove_unread(self, before: datetime | None) -> None:
        """Remove what `find_unread` returns. The caller has the lease of the target.

        Raises:
            PlaceRefused: it does not answer, or removes nothing.
        """
