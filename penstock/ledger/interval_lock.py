"""Lock an interval by writing its row first, so that changes of its runs take turns on every database."""

import sqlalchemy as sa

from penstock.ledger.tables import intervals


def lock_interval(connection: sa.Connection, pipeline: str, key: str, variant: str) -> None:
    """Write the interval's guard row. Other writers wait or fail until this transaction has ended."""
    connection.execute(
        sa.update(intervals)
        .where(intervals.c.pipeline == pipeline, intervals.c.interval_key == key, intervals.c.variant == variant)
        .values(guard=intervals.c.guard + 1)
    )
