"""Merge scores into columns of a table in another database, each batch in one transaction with its fence."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.bulk import append_rows
from penstock.database.connections import Database
from penstock.database.dialects.base import BUSY_SECONDS
from penstock.delivery.fences import DIGEST_SIZE, FENCES, MERGED, FenceTables, key_digest, source_of
from penstock.delivery.merge_columns import MergedTable, key_type, read_key, read_table, read_value
from penstock.delivery.target import BatchTarget, Reply
from penstock.errors import AccessDenied, MergeRefused, PenstockError, QueryFailed, TransientError
from penstock.interval import as_utc
from penstock.ledger.outbox import Batch, Outbox, OutboxRow
from penstock.spec.deliver import MergeDelivery
from penstock.wording import plural


@dataclass
class MergeTarget(BatchTarget):
    """A table of another database, in which columns are set.

    A batch is merged in one transaction, which writes its fence too. So a batch whose answer was lost is known there.
    """

    spec: MergeDelivery
    database: Database
    statement_seconds: int
    _opened: MergedTable | None = field(default=None, init=False)
    _is_fenced: bool = field(default=False, init=False)
    """Whether the tables of the fences are there."""

    @property
    def longest_seconds(self) -> float:
        return float(self.statement_seconds + BUSY_SECONDS)

    @property
    def table(self) -> MergedTable:
        """The table with its columns, which are read once.

        Raises:
            MergeRefused: as `read_table`.
        """
        self._opened = self._opened or read_table(self.database, self.spec)
        return self._opened

    def open(self) -> Reply:
        """Read the table's columns, and try to write them and to make a temporary table. No row is changed."""
        try:
            nothing = sa.update(self.table.table).where(sa.false()).values(self.table.nothing)
            stage = _Stage.of(self.table, self.database, [])
            with _writing_once(self.database) as connection:
                connection.execute(nothing)
                stage.table.create(connection)
        except PenstockError as error:
            return self._refusal(error)
        return Reply(True, "")

    def check_columns(self, rows: pa.Schema) -> None:
        self.table.check(rows, self.database)

    def close(self) -> None:
        self._opened, self._is_fenced = None, False
        if self.database.sql.one_process:
            self.database.engine.dispose()  # others want the file

    def send(self, outbox: Outbox, batch: Batch, rows: list[OutboxRow]) -> Reply:
        try:
            self._create_fences()
            missing = merge(self.database, self.table, source_of(outbox), batch, rows)
        except PenstockError as error:
            return self._refusal(error)
        return Reply(True, "merged", missing=missing)

    def _refusal(self, error: PenstockError) -> Reply:
        if isinstance(error, QueryFailed):
            remedy = "Compare its columns with `on` and `set`, and correct them or the table"
            error = MergeRefused(self.spec.name, self.spec.table, f"its database says: {error.reason}", remedy)
        return Reply(False, str(error), again=isinstance(error, TransientError))

    def _create_fences(self) -> None:
        """Create the tables of the fences, unless they are there.

        Raises:
            MergeRefused: the user may not create a table.
        """
        if self._is_fenced:
            return
        fences = FenceTables.of(self.table.table.schema)
        try:
            with self.database.writing() as connection:
                fences.create(connection)
        except AccessDenied as error:
            tables = f"`{FENCES}` and `{MERGED}`"
            remedy = f"Grant the right to create a table there, or create {tables}: see docs/delivery.md"
            raise self.table.refused(error.reason, remedy) from None
        except QueryFailed:
            with self.database.reading() as connection:
                if not fences.are_there(connection):  # else another process has just created them
                    raise
        self._is_fenced = True


def merge(database: Database, table: MergedTable, source: str, batch: Batch, rows: list[OutboxRow]) -> int:
    """Merge a batch in one transaction. One that was merged before changes nothing.

    Returns:
        How many of its keys the table does not have.

    Raises:
        MergeRefused: a newer delivery of the interval was merged, a key is in more than one row, or a value has
            another type than its column.
    """
    stage = _Stage.of(table, database, rows)
    fences = FenceTables.of(table.table.schema)
    with _writing_once(database) as connection:
        fences.lock(connection, table.place)
        known = fences.read(connection, source, batch)
        delivery = batch.delivery
        if known is not None and known.sequence >= delivery.sequence:
            if known.delivery_id != delivery.delivery_id:
                raise _overtaken(table, known.sequence, delivery.sequence)
            if known.batch >= batch.number:
                return known.missing
        merging = _Merging(connection, table, stage, fences.merged, source, batch)
        missing = merging.run(removes=rows[0].values is None) if rows else 0
        fences.advance(connection, source, batch, missing)
    return missing


@contextmanager
def _writing_once(database: Database) -> Iterator[sa.Connection]:
    """Yield a connection in one transaction that is closed afterwards, and its temporary table with it."""
    with database.writing() as connection:
        try:
            yield connection
        finally:
            if not connection.invalidated:
                connection.detach()


def _overtaken(table: MergedTable, newer: int, mine: int) -> PenstockError:
    return table.refused(
        f"delivery {newer} of the interval was merged there, and this is delivery {mine}",
        "Another process has delivered a newer one. If none has, the ledger is an older copy, or another ledger "
        "delivers under the same name: give the target another name",
    )


@dataclass(frozen=True)
class _Stage:
    """The temporary table of a batch: the digest of the key, the key, and the values."""

    table: sa.Table
    keys: list[tuple[sa.Column[Any], sa.Column[Any]]]
    """A column of the target, and that of the stage."""
    values: list[tuple[sa.Column[Any], sa.Column[Any]]]
    rows: list[dict[str, Any]]

    @classmethod
    def of(cls, table: MergedTable, database: Database, rows: list[OutboxRow]) -> "_Stage":
        """Read the rows of the outbox.

        Raises:
            MergeRefused: a value has another type than its column.
        """
        kinds = [(theirs, key_type(theirs.type, database)) for theirs in table.keys.values()]
        keys = [(theirs, sa.Column(f"k{n}", kind)) for n, (theirs, kind) in enumerate(kinds)]
        values = [(theirs, sa.Column(f"v{n}", theirs.type)) for n, theirs in enumerate(table.values.values())]
        name = f"penstock_stage_{uuid.uuid4().hex[:16]}"
        columns = [sa.Column("key_digest", sa.String(DIGEST_SIZE), primary_key=True), *(c for _, c in (*keys, *values))]
        stage = sa.Table(name, sa.MetaData(), *columns, prefixes=["TEMPORARY"])
        return cls(stage, keys, values, [_read_row(table, keys, values, row) for row in rows])


def _read_row(table: MergedTable, keys: Any, values: Any, row: OutboxRow) -> dict[str, Any]:
    key = json.loads(row.key)
    named = {theirs.name: key[mine] for mine, theirs in table.keys.items()}
    read: dict[str, Any] = {"key_digest": key_digest(key)}
    for theirs, column in keys:
        read[column.name] = read_key(named[theirs.name], column.type)
    given = {} if row.values is None else key | json.loads(row.values)
    for theirs, column in values:
        try:
            read[column.name] = read_value(given.get(table.given[theirs.name]), theirs.type)
        except ValueError as error:
            reason = f"its column `{theirs.name}` does not hold `{table.given[theirs.name]}` as it is: {error}"
            remedy = "Correct the column's type (`penstock check` compares it), and deliver the run with `--again`"
            raise table.refused(reason, remedy) from None
    return read


@dataclass(frozen=True)
class _Merging:
    """The statements of one batch."""

    connection: sa.Connection
    table: MergedTable
    stage: _Stage
    merged: sa.Table
    source: str
    batch: Batch

    def run(self, *, removes: bool) -> int:
        """Merge the rows. Return how many keys the table does not have."""
        self.stage.table.create(self.connection)
        append_rows(self.connection, self.stage.table, self.stage.rows)
        self._refuse_doubled()
        if removes:
            for name in self._find_written():
                self._clear(name)
            return 0
        missing = self._drop_missing()
        for theirs, value in self.stage.values:
            self._fence(theirs, value)
            self._set(theirs, value)
        return missing

    @property
    def _same_row(self) -> tuple[sa.ColumnElement[bool], ...]:
        return tuple(theirs == mine for theirs, mine in self.stage.keys)

    @property
    def _same_key(self) -> sa.ColumnElement[bool]:
        return self.merged.c.key_digest == self.stage.table.c.key_digest

    def _find_written(self) -> list[str]:
        """Return the columns that the interval's deliveries have written, also those that `set` names no more."""
        change = self.batch.delivery.change
        mine = (self.merged.c.source == self.source, self.merged.c.interval_key == change.interval_key)
        names = sa.select(self.merged.c.column_name).where(self.merged.c.table_name == self.table.place, *mine)
        return sorted(self.connection.execute(names.distinct()).scalars())

    def _written_by(self, column: str) -> dict[str, Any]:
        """What the fence of a value says if this delivery wrote it, except for the value."""
        change = self.batch.delivery.change
        start = "" if change.interval is None else as_utc(change.interval.start).isoformat()
        place = {"table_name": self.table.place, "column_name": column}
        mine = {"source": self.source, "interval_key": change.interval_key, "interval_start": start}
        return place | mine | {"sequence": self.batch.delivery.sequence}

    def _where(self, column: str, *names: str) -> tuple[sa.ColumnElement[bool], ...]:
        said = self._written_by(column)
        return tuple(self.merged.c[name] == said[name] for name in ("table_name", "column_name", *names))

    def _refuse_doubled(self) -> None:
        """Refuse keys that are in more than one row, or that are one key to the table and two to the pipeline."""
        theirs = [column for column, _ in self.stage.keys]
        doubled = sa.select(*theirs).where(*self._same_row).group_by(*theirs).having(sa.func.count() > 1)
        found = self.connection.execute(sa.select(sa.func.count()).select_from(doubled.subquery())).scalar_one()
        if found:
            names = ", ".join(f"`{column.name}`" for column in theirs)
            raise self.table.refused(
                f"{plural(found, 'key is', 'keys are')} in more than one row of it, or written in two ways ({names})",
                f"Make {names} unique there, or match by other columns",
            )

    def _drop_missing(self) -> int:
        """Take keys out of the stage that the table does not have. Return how many."""
        there = sa.exists(sa.select(sa.literal(1)).select_from(self.table.table).where(*self._same_row))
        return int(self.connection.execute(sa.delete(self.stage.table).where(~there)).rowcount)

    def _fence(self, column: sa.Column[Any], value: sa.Column[Any]) -> None:
        """Let values of this interval and of those before it be this delivery's. Those of newer ones stay."""
        new = self._written_by(column.name) | {"written": sa.cast(value, sa.Text)}
        older = self.merged.c.interval_start <= new["interval_start"]
        self.connection.execute(
            sa.update(self.merged).where(*self._where(column.name), self._same_key, older).values(**new)
        )
        known = sa.exists(sa.select(sa.literal(1)).where(*self._where(column.name), self._same_key))
        given = {"key_digest": self.stage.table.c.key_digest} | new
        chosen = [each if isinstance(each, sa.ColumnElement) else sa.literal(each) for each in given.values()]
        rows = sa.select(*chosen).select_from(self.stage.table).where(~known)
        self.connection.execute(self.merged.insert().from_select(list(given), rows))

    def _set(self, column: sa.Column[Any], value: sa.Column[Any]) -> None:
        """Write the values that are this delivery's."""
        mine = self._where(column.name, "source", "interval_key", "sequence")
        update = sa.update(self.table.table).where(*self._same_row, self._same_key, *mine)
        self.connection.execute(update.values({column: value}))

    def _clear(self, name: str) -> None:
        """Set the values to NULL that are still as the interval's deliveries wrote them, and forget their keys."""
        mine = self._where(name, "source", "interval_key")
        column = self.table.table.c.get(name)
        if column is not None:  # else the table has the column no more
            unchanged = sa.cast(column, sa.Text) == self.merged.c.written
            update = sa.update(self.table.table).where(*self._same_row, self._same_key, *mine, unchanged)
            self.connection.execute(update.values({column: sa.null()}))
        keys = sa.select(self.stage.table.c.key_digest)
        self.connection.execute(sa.delete(self.merged).where(*mine, self.merged.c.key_digest.in_(keys)))
