"""What targets of `deliver` have of an erased key: they are told to remove it, and then the ledger forgets it."""

import json
from collections.abc import Iterator
from datetime import datetime

import sqlalchemy as sa

from penstock.ledger.deliveries import replace_open
from penstock.ledger.delivery_targets import lock_target
from penstock.ledger.destinations import destination_name
from penstock.ledger.outbox import UNKNOWN, Outbox
from penstock.ledger.tables import (
    delivered_intervals,
    delivered_keys,
    deliveries,
    delivery_rows,
    delivery_targets,
)
from penstock.privacy.masking import MaskingPolicy
from penstock.privacy.row_key import RowKey
from penstock.spec.pipeline import Pipeline


def count_delivered(connection: sa.Connection, pipeline: Pipeline, row_key: RowKey, masking: MaskingPolicy) -> int:
    """Return how many rows of the key targets have, or may have."""
    return sum(len(_find_delivered(connection, outbox, row_key, masking)) for outbox in _outboxes(connection, pipeline))


def count_unreachable(connection: sa.Connection, pipeline: Pipeline, row_key: RowKey, masking: MaskingPolicy) -> int:
    """Return how many rows of the key are at targets that nothing can be sent to, so people must remove them there.

    The spec no longer names such a target, or the rows came from a table that is no longer its destination.
    """
    lost = [each for each in _outboxes(connection, pipeline) if not _is_reachable(connection, pipeline, each)]
    return sum(len(_find_delivered(connection, outbox, row_key, masking)) for outbox in lost)


def erase_delivered(
    connection: sa.Connection, pipeline: Pipeline, row_key: RowKey, masking: MaskingPolicy, now: datetime
) -> None:
    """Let the next delivery remove the key from each target. The key stays in the ledger until the target has done so.

    The ledger forgets at once what a target has that nothing can be sent to: see `count_unreachable`.
    """
    for outbox in _outboxes(connection, pipeline):
        lock_target(connection, outbox)
        _mark_erased(connection, pipeline, outbox, now)
        for interval_key in sorted(set(_find_open(connection, outbox, row_key, masking))):
            replace_open(connection, outbox, interval_key, now)
        for interval_key, key in _find_delivered(connection, outbox, row_key, masking):
            here = (*outbox.rows_of(delivered_keys), delivered_keys.c.interval_key == interval_key)
            mine = (*here, delivered_keys.c.key == key)
            if not _is_reachable(connection, pipeline, outbox):
                connection.execute(sa.delete(delivered_keys).where(*mine))
                continue
            connection.execute(sa.update(delivered_keys).where(*mine).values(digest=UNKNOWN))
            interval = (*outbox.rows_of(delivered_intervals), delivered_intervals.c.interval_key == interval_key)
            connection.execute(sa.update(delivered_intervals).where(*interval).values(run_id=None))


def _mark_erased(connection: sa.Connection, pipeline: Pipeline, outbox: Outbox, now: datetime) -> None:
    """Let the next delivery remove old files: they may have the row, although the target's live rows do not."""
    whole = {target.name for target in pipeline.deliver if target.batch_rows is None}
    if outbox.target in whole and _is_reachable(connection, pipeline, outbox):
        mine = sa.update(delivery_targets).where(*outbox.rows_of(delivery_targets))
        connection.execute(mine.values(erased_at=now))


def _is_reachable(connection: sa.Connection, pipeline: Pipeline, outbox: Outbox) -> bool:
    here = outbox.destination == destination_name(connection, pipeline.destination)
    return here and outbox.target in {target.name for target in pipeline.deliver}


def _outboxes(connection: sa.Connection, pipeline: Pipeline) -> list[Outbox]:
    columns = (delivery_targets.c.pipeline, delivery_targets.c.destination, delivery_targets.c.target)
    mine = sa.select(*columns).where(delivery_targets.c.pipeline == pipeline.name)
    return [Outbox(*row) for row in connection.execute(mine)]


def _find_delivered(
    connection: sa.Connection, outbox: Outbox, row_key: RowKey, masking: MaskingPolicy
) -> list[tuple[str, str]]:
    """Return interval and key of the rows that the target has, or may have."""
    query = sa.select(delivered_keys.c.interval_key, delivered_keys.c.key).where(*outbox.rows_of(delivered_keys))
    found = connection.execute(query.execution_options(yield_per=10_000))
    is_mine = row_key.matcher(masking)
    return [(interval, key) for interval, key in found if is_mine(json.loads(key))]


def _find_open(connection: sa.Connection, outbox: Outbox, row_key: RowKey, masking: MaskingPolicy) -> Iterator[str]:
    """Yield the intervals whose open delivery has the key, had it in a batch before, or is read from the history."""
    yield from (interval for interval, _ in _find_delivered(connection, outbox, row_key, masking))
    mine = outbox.rows_of(deliveries)
    unread = sa.select(deliveries.c.interval_key).where(*mine, deliveries.c.state == "planning")
    yield from connection.execute(unread).scalars().all()
    joined = delivery_rows.join(deliveries, deliveries.c.delivery_id == delivery_rows.c.delivery_id)
    query = sa.select(deliveries.c.interval_key, delivery_rows.c.key).select_from(joined)
    found = connection.execute(query.where(*mine)).all()
    is_mine = row_key.matcher(masking)
    yield from (interval for interval, key in found if is_mine(json.loads(key)))
