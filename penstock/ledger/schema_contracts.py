"""The contract of a source's columns in the ledger."""

import json
from collections.abc import Mapping

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.ledger.tables import runs, source_columns

ACCEPTED = "accepted"
"""Replaces the run ID if a person accepted the columns."""


def read_contract(database: Database, pipeline: str, source: str, definition: str) -> dict[str, str] | None:
    """Return the columns and types of the newest published run, or those that a person accepted since.

    Args:
        definition: fingerprint of the source in the spec; a source that was defined otherwise has no contract yet.
    """
    known = source_columns.c
    query = (
        sa.select(known.definition, known["columns"])
        .select_from(source_columns.outerjoin(runs, runs.c.run_id == known.run_id))
        .where(known.pipeline == pipeline, known.source == source)
        .where(sa.or_(known.run_id == ACCEPTED, runs.c.published_at.is_not(None)))
        .order_by(known.seen_at.desc())
        .limit(1)
    )
    with database.reading() as connection:
        if not sa.inspect(connection).has_table(source_columns.name):
            return None  # a check looks before the first run has made the ledger
        row = connection.execute(query).first()
    return None if row is None or row[0] != definition else dict(json.loads(row[1]))


def record_columns(
    database: Database, pipeline: str, source: str, definition: str, columns: Mapping[str, str], run_id: str = ACCEPTED
) -> None:
    """Store what was seen. It becomes the contract when the run is published. Repeating it replaces."""
    known = source_columns.c
    mine = (known.pipeline == pipeline, known.source == source, known.run_id == run_id)
    values = {"pipeline": pipeline, "source": source, "run_id": run_id, "definition": definition}
    with database.writing() as connection:
        connection.execute(sa.delete(source_columns).where(*mine))
        seen_at = database.now(connection)
        text = json.dumps(list(columns.items()), ensure_ascii=False)
        connection.execute(source_columns.insert().values(**values, columns=text, seen_at=seen_at))
