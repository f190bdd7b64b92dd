"""The tables in a target's own database that say which delivery wrote what. A merge changes them in its transaction."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from penstock.ledger.outbox import Batch, Outbox

FENCES, MERGED = "penstock_fences", "penstock_merged"
LOCK = "lock"
"""The source of the rows that merges into one table take turns on."""
DIGEST_SIZE = 64
_NAME = 255


@dataclass(frozen=True)
class FenceTables:
    """Both tables, in the schema of the table that is merged into."""

    fences: sa.Table
    """By source and interval: the newest delivery that was merged, and its last batch."""
    merged: sa.Table
    """By table, column and key: which source wrote the value, of which interval, and the value as text."""

    @classmethod
    def of(cls, schema: str | None) -> "FenceTables":
        """Return the tables of a schema."""
        return _define(sa.MetaData(schema=schema))

    def create(self, connection: sa.Connection) -> None:
        """Create what is missing."""
        for table in self._find_missing(connection):
            table.create(connection)

    def are_there(self, connection: sa.Connection) -> bool:
        """Whether no table is missing."""
        return not self._find_missing(connection)

    def _find_missing(self, connection: sa.Connection) -> list[sa.Table]:
        inspector = sa.inspect(connection)
        return [each for each in (self.fences, self.merged) if not inspector.has_table(each.name, schema=each.schema)]

    def lock(self, connection: sa.Connection, place: str) -> None:
        """Let other merges into a table wait until this transaction ends."""
        mine = (self.fences.c.source == LOCK, self.fences.c.interval_key == place)
        turn = sa.update(self.fences).where(*mine).values(sequence=self.fences.c.sequence + 1)
        if not connection.execute(turn).rowcount:
            first = {"source": LOCK, "interval_key": place, "sequence": 0, "delivery_id": "", "batch": 0, "missing": 0}
            connection.execute(self.fences.insert().values(**first))

    def read(self, connection: sa.Connection, source: str, batch: Batch) -> "Fence | None":
        """Return the newest delivery of the batch's interval that was merged."""
        columns = (self.fences.c[name] for name in ("sequence", "delivery_id", "batch", "missing"))
        row = connection.execute(sa.select(*columns).where(*self._of(source, batch))).first()
        return None if row is None else Fence(*row)

    def advance(self, connection: sa.Connection, source: str, batch: Batch, missing: int) -> None:
        """Record that a batch is merged."""
        delivery = batch.delivery
        new = {"sequence": delivery.sequence, "delivery_id": delivery.delivery_id}
        new |= {"batch": batch.number, "missing": missing}
        if not connection.execute(sa.update(self.fences).where(*self._of(source, batch)).values(**new)).rowcount:
            where = {"source": source, "interval_key": delivery.change.interval_key}
            connection.execute(self.fences.insert().values(**where, **new))

    def _of(self, source: str, batch: Batch) -> tuple[sa.ColumnElement[bool], ...]:
        return self.fences.c.source == source, self.fences.c.interval_key == batch.delivery.change.interval_key


@dataclass(frozen=True)
class Fence:
    """The newest delivery of an interval that was merged."""

    sequence: int
    delivery_id: str
    batch: int
    """The last batch that was merged."""
    missing: int
    """Keys of that batch that the table does not have."""


def source_of(outbox: Outbox) -> str:
    """Return what a target is called in its own database. It stays if the pipeline gets another name."""
    return f"{outbox.destination}/{outbox.target}"


def key_digest(key: Mapping[str, Any]) -> str:
    """Return what a row is known by, from the values of its key by the names of the pipeline's columns.

    So the fences find the row, whatever `on` calls the columns.
    """
    text = json.dumps(key, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _define(metadata: sa.MetaData) -> FenceTables:
    fences = sa.Table(
        FENCES,
        metadata,
        sa.Column("source", sa.String(_NAME), primary_key=True),
        sa.Column("interval_key", sa.String(_NAME), primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("delivery_id", sa.String(DIGEST_SIZE), nullable=False),
        sa.Column("batch", sa.BigInteger, nullable=False),
        sa.Column("missing", sa.BigInteger, nullable=False),
    )
    merged = sa.Table(
        MERGED,
        metadata,
        sa.Column("table_name", sa.String(_NAME), primary_key=True),
        sa.Column("column_name", sa.String(_NAME), primary_key=True),
        sa.Column("key_digest", sa.String(DIGEST_SIZE), primary_key=True),
        sa.Column("source", sa.String(_NAME), nullable=False),
        sa.Column("interval_key", sa.String(_NAME), nullable=False),
        sa.Column("interval_start", sa.String(40), nullable=False),  # ISO 8601 in UTC, so its order is that of time
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("written", sa.Text),  # the value, as the database writes it as text
    )
    return FenceTables(fences, merged)
