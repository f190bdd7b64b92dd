"""The record of a pipeline's labels: up to when they were collected, how often some were added, what was pruned."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.ledger.tables import label_sources


@dataclass(frozen=True)
class LabelSourceRecord:
    """What the ledger knows of a pipeline's labels."""

    additions: int
    """Counts the transactions that added labels."""
    seen_until: datetime | None
    """The newest `seen_at` of what was collected."""
    definition: str
    pruned_before: datetime | None


def read_label_source(database: Database, pipeline: str) -> LabelSourceRecord | None:
    """Return what the ledger knows of a pipeline's labels. None if none were ever collected."""
    columns = [label_sources.c[name] for name in LabelSourceRecord.__dataclass_fields__]
    with database.reading() as connection:
        row = connection.execute(sa.select(*columns).where(label_sources.c.pipeline == pipeline)).mappings().first()
    return None if row is None else LabelSourceRecord(**row)


def open_label_source(database: Database, pipeline: str, definition: str) -> LabelSourceRecord:
    """Return what the ledger knows of a pipeline's labels. Make its row if it is missing.

    If what is read or how it is read has changed, the next collection reads everything again.
    """
    mine = label_sources.c.pipeline == pipeline
    known = read_label_source(database, pipeline)
    if known is not None and known.definition == definition:
        return known
    with database.writing() as connection:
        changed = sa.update(label_sources).where(mine).values(definition=definition, seen_until=None)
        if not connection.execute(changed).rowcount:
            first = {"pipeline": pipeline, "additions": 0, "definition": definition}
            connection.execute(label_sources.insert().values(**first))
    found = read_label_source(database, pipeline)
    assert found is not None
    return found


def move_seen_until(database: Database, pipeline: str, to: datetime) -> None:
    """Move the newest time of what was collected forward. It never moves back."""
    later = sa.or_(label_sources.c.seen_until.is_(None), label_sources.c.seen_until < to)
    with database.writing() as connection:
        moved = sa.update(label_sources).where(label_sources.c.pipeline == pipeline, later)
        connection.execute(moved.values(seen_until=to))


def move_labels_pruned(database: Database, pipeline: str, to: datetime) -> None:
    """Move the time before which labels may have been pruned forward. It never moves back."""
    later = sa.or_(label_sources.c.pruned_before.is_(None), label_sources.c.pruned_before < to)
    with database.writing() as connection:
        moved = sa.update(label_sources).where(label_sources.c.pipeline == pipeline, later)
        connection.execute(moved.values(pruned_before=to))
