"""The contracts of the sources' columns and of the outputs in the ledger."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.ledger.destinations import LIVE
from penstock.ledger.pins import read_pins
from penstock.ledger.tables import runs, source_columns
from penstock.run_types import ModelPin, Pins
from penstock.spec.sources import ColumnSource, FilesSource

ACCEPTED = "accepted"
"""Replaces the run ID if a person accepted the columns."""
OUTPUTS = "(outputs)"
"""Replaces the source where the columns are those that models and decisions give. No source can have this name."""
TEXT = "text"
"""The type of a column of text in a contract."""
EVENT_TIME = "(event time)"
"""Replaces the source where the columns are what decides a row's interval, by destination."""


_NO_COLUMNS = {
    *("contract", "private", "every", "lookback", "columns", "text"),
    *("csv", "json_", "documents", "timezone", "max_malformed", "stray"),
}
"""Keys of a source that do not define where its columns come from."""


def source_definition(source: ColumnSource) -> str:
    """Return a fingerprint of where the columns come from: an edit of the spec is a change on purpose."""
    body = source.model_dump(mode="json", exclude=_NO_COLUMNS, by_alias=True)
    if isinstance(source, FilesSource):
        body["text"] = []  # 0.1 had this key in the fingerprint
        del body["connection"]  # the path says where the files are
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def contract_of(database: Database, pipeline: str, name: str, source: ColumnSource) -> dict[str, str] | None:
    """Return the contract of a source as the spec defines it now."""
    return read_contracts(database, pipeline).find(name, source_definition(source))


def dialect_entry(source: str) -> str:
    """Return what replaces the source where the columns are facts of its files' dialect."""
    return f"{source} (dialect)"


def dialect_of(database: Database, pipeline: str, name: str, source: ColumnSource) -> dict[str, str] | None:
    """Return the dialect by which the text files of a source are read. None before the first published run."""
    return read_contracts(database, pipeline).find(dialect_entry(name), source_definition(source))


@dataclass(frozen=True)
class Contracts:
    """The columns and types of a pipeline's sources and outputs that the ledger knows."""

    known: Mapping[str, tuple[str, str]]
    """By source: the fingerprint of its definition, and the columns as JSON."""

    def find(self, source: str, definition: str) -> dict[str, str] | None:
        """Return the columns and types of a source. One that was defined otherwise has no contract yet.

        Args:
            definition: fingerprint of the source in the spec.
        """
        before, columns = self.known.get(source, ("", ""))
        return dict(json.loads(columns)) if columns and before == definition else None


def read_contracts(database: Database, pipeline: str) -> Contracts:
    """Read what the newest published run of each source has seen, or what a person accepted since."""
    known = source_columns.c
    newest_first = sa.func.row_number().over(partition_by=known.source, order_by=known.seen_at.desc())
    ranked = (
        sa.select(known.source, known.definition, known["columns"], newest_first.label("place"))
        .select_from(source_columns.outerjoin(runs, runs.c.run_id == known.run_id))
        .where(known.pipeline == pipeline)
        .where(sa.or_(known.run_id == ACCEPTED, runs.c.published_at.is_not(None)))
        .subquery()
    )
    query = sa.select(ranked.c.source, ranked.c.definition, ranked.c["columns"]).where(ranked.c.place == 1)
    with database.reading() as connection:
        if not sa.inspect(connection).has_table(source_columns.name):
            return Contracts({})  # a check looks before the first run has made the ledger
        return Contracts({source: (definition, columns) for source, definition, columns in connection.execute(query)})


def read_source_columns(database: Database, pipeline: str, run_id: str) -> dict[str, tuple[str, ...]]:
    """Return the columns of each source as a run saw them: those that it recorded, else the contract."""
    known = source_columns.c
    query = (
        sa.select(known.source, known["columns"])
        .select_from(source_columns.outerjoin(runs, runs.c.run_id == known.run_id))
        .where(known.pipeline == pipeline)
        .where(sa.or_(known.run_id.in_((ACCEPTED, run_id)), runs.c.published_at.is_not(None)))
        .order_by(known.seen_at)
    )
    with database.reading() as connection:
        found = connection.execute(query).all()
    return {source: tuple(name for name, _ in json.loads(columns)) for source, columns in found}


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


def read_published_models(database: Database, pipeline: str, table: str) -> Pins:
    """Return the models of the newest run that was published into a table, by step; a single model without a step.

    A ledger of 0.1 has no contract of outputs. It follows from these models.
    """
    known = runs.c
    query = (
        sa.select(known.model_name, known.model_version, known.model_digest, known.step_models)
        .where(known.pipeline == pipeline, known.destination_table == table, known.published_at.is_not(None))
        .where(known.variant == LIVE)
        .order_by(known.published_at.desc())
        .limit(1)
    )
    with database.reading() as connection:
        inspector = sa.inspect(connection)
        if not inspector.has_table(runs.name) or "step_models" not in {
            c["name"] for c in inspector.get_columns(runs.name)
        }:
            return {}
        row = connection.execute(query).first()
    return {} if row is None else read_pins(row[3]) or {"": ModelPin(row[0], row[1], row[2])}
