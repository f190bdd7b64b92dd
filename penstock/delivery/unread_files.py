"""Remove the files of targets that no reader finds any more."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from penstock.database.connections import Database
from penstock.delivery.deliver import LEASE_SECONDS
from penstock.delivery.files import GRACE
from penstock.delivery.opening import open_outbox, open_placed
from penstock.delivery.target import IntervalTarget
from penstock.errors import PenstockError
from penstock.ledger.delivery_targets import release_lease, take_lease
from penstock.ledger.migrations import has_ledger
from penstock.spec.deliver import PlacedDelivery
from penstock.spec.pipeline import Pipeline


@dataclass(frozen=True)
class UnreadFiles:
    """The files of one target that no reader finds."""

    pipeline: str
    target: str
    files: int
    error: str = ""
    """Why they are not known, or not removed. Empty: they are."""


def count_unread(
    database: Database, pipeline: Pipeline, read_value: Callable[[str], str], now: datetime
) -> Iterator[UnreadFiles]:
    """Count the files that `remove_unread` would remove. Targets without any are left out.

    Args:
        read_value: Returns the value of a named connection.
    """
    yield from _each(database, pipeline, read_value, lambda target, _: len(target.find_unread(now - GRACE)))


def remove_unread(
    database: Database, pipeline: Pipeline, read_value: Callable[[str], str], now: datetime
) -> Iterator[UnreadFiles]:
    """Remove files that are not live and older than a day. A target that is busy or does not answer keeps them.

    Args:
        read_value: Returns the value of a named connection.
    """

    def remove(target: IntervalTarget, name: str) -> int:
        outbox = open_outbox(database, pipeline, name)
        token = take_lease(database, outbox, LEASE_SECONDS + target.longest_seconds)
        try:
            number = len(target.find_unread(now - GRACE))
            target.remove_unread(now - GRACE)
            return number
        finally:
            release_lease(database, outbox, token)

    yield from _each(database, pipeline, read_value, remove)


def _each(
    database: Database,
    pipeline: Pipeline,
    read_value: Callable[[str], str],
    count: Callable[[IntervalTarget, str], int],
) -> Iterator[UnreadFiles]:
    if not has_ledger(database):
        return
    for spec in pipeline.deliver:
        if not isinstance(spec, PlacedDelivery):
            continue
        try:
            target = open_placed(spec, read_value)
            number, error = count(target, spec.name), ""
            target.close()
        except PenstockError as refusal:
            number, error = 0, str(refusal)
        if number or error:
            yield UnreadFiles(pipeline.name, spec.name, number, error)
