"""The interval's row that every change of its runs writes first, so that they take turns on every database."""

import sqlalchemy as sa

from penstock.ledger.tables import intervals


def lock_interval(connection: sa.Connection, pipeline: str, key: str, variant: str) -> None:
    """Write the interval's guard row; whoever else does so waits, or fails, until this transaction has ended."""
    connection.execute(
        sa.update(intervals)
        .where(intervals.c.pipeline == pipeline, intervals.c.interval_key == key, intervals.c.variant == variant)
        .values(guard=intervals.c.guard + 1)
    )
