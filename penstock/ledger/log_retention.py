"""The retention cutoff of a log source: the time before which landed lines may have been pruned."""

from datetime import datetime

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.ledger.tables import log_horizons


def read_cutoff(database: Database, pipeline: str, source: str) -> datetime | None:
    """Return the time before which lines may have been pruned. None if none were ever pruned."""
    with database.reading() as connection:
        return _select_cutoff(connection, pipeline, source)


def move_cutoff(database: Database, pipeline: str, source: str, to: datetime) -> None:
    """Move the cutoff forward. It never moves back, because pruned lines do not come back."""
    with database.writing() as connection:
        before = _select_cutoff(connection, pipeline, source)
        if before is None:
            values = {"pipeline": pipeline, "source": source, "pruned_before": to}
            connection.execute(log_horizons.insert().values(**values))
        elif before < to:
            moved = sa.update(log_horizons).where(*_same(pipeline, source)).values(pruned_before=to)
            connection.execute(moved)


def _select_cutoff(connection: sa.Connection, pipeline: str, source: str) -> datetime | None:
    query = sa.select(log_horizons.c.pruned_before).where(*_same(pipeline, source))
    found: datetime | None = connection.execute(query).scalar()
    return found


def _same(pipeline: str, source: str) -> tuple[sa.ColumnElement[bool], ...]:
    return log_horizons.c.pipeline == pipeline, log_horizons.c.source == source
