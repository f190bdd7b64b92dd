"""Recorded rows of requests: how they are stored, and reading them. `served_writes` stores them. See docs/adr/0050.

A request belongs to a run of the variant `served`, whose models scored it. Its rows are in `<table>__served`, one for
each row of the primary source, in the order of the request.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, Self

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.database.exact_json import read_schema, read_values, write_schema
from penstock.database.types import UtcDateTime
from penstock.interval import DataInterval
from penstock.ledger.destinations import SERVED, destination_name, split_name
from penstock.ledger.migrations import has_ledger
from penstock.ledger.pins import read_pins
from penstock.ledger.tables import RunId, runs, served_runs, where_partial
from penstock.run_types import ModelPin, Pins, deciding_model
from penstock.spec.pipeline_fields import Destination

ENDING = "__served"
RECORDING, RECORDED = "recording", "recorded"
"""The states of such a run: a process adds rows, or none does."""
ERASED = "null"
"""The text of `other_rows` once `penstock forget` has removed them, because they may be of the erased key, or once it
has removed a row of the same request, on which the features may depend."""
_AT_ONCE = 500

Status = Literal["scored", "refused", "excluded"]


def served_table(table: str, schema: str | None) -> sa.Table:
    """Return the table of a destination's recorded rows, as it is in every database."""
    named = sa.Table(
        f"{table}{ENDING}",
        sa.MetaData(),
        sa.Column("run_id", RunId, primary_key=True),
        sa.Column("request_id", RunId, primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),  # position in the request
        sa.Column("recorded_at", UtcDateTime, nullable=False),
        sa.Column("asked_as", sa.Text),  # the client's X-Request-Id
        sa.Column("key", RunId),  # as `labels` has it; NULL: a part of it is NULL
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reasons", sa.Text),  # JSON: why there is no score
        sa.Column("outputs", sa.Text),  # JSON: outputs and decisions; NULL: not scored
        sa.Column("primary_row", sa.Text, nullable=False),  # JSON: the row of the request
        sa.Column("feature_row", sa.Text),  # JSON: what the models got; NULL: not scored
        sa.Column("other_rows", sa.Text),  # JSON: the rows of the other sources, with the first row; NULL: none
        sa.Column("snapshot", RunId),  # digest of the other sources' rows that the server held; NULL: it held none
        schema=schema or None,
    )
    # Keys are looked up by equality. A hash has no limit on their length, and a B-tree of Postgres ends at 2.7 kB.
    sa.Index(f"{table}__s_key", named.c.key, postgresql_using="hash").ddl_if(callable_=where_partial)
    return named


def find_tables(connection: sa.Connection, pipeline: str, destination: Destination) -> list[sa.Table]:
    """Return the existing tables of a pipeline's recorded rows: that of its destination, and former ones."""
    own = (destination.table, destination_name(connection, destination))
    return _existing(connection, [own, *_written(connection, runs.c.pipeline == pipeline)])


def list_served_tables(connection: sa.Connection) -> list[sa.Table]:
    """Return the existing tables of recorded rows of all pipelines."""
    return _existing(connection, _written(connection))


def _written(connection: sa.Connection, *which: sa.ColumnElement[bool]) -> list[tuple[str, str]]:
    """Return table and destination of the runs that requests were recorded in."""
    columns = (runs.c.destination_table, runs.c.destination)
    query = sa.select(*columns).where(runs.c.variant == SERVED, *which).distinct()
    return list(connection.execute(query).tuples())


def _existing(connection: sa.Connection, named: Sequence[tuple[str, str]]) -> list[sa.Table]:
    tables = [served_table(*place) for place in dict.fromkeys((table, split_name(name)[0]) for table, name in named)]
    inspector = sa.inspect(connection)
    return [table for table in tables if inspector.has_table(table.name, schema=table.schema)]


@dataclass(frozen=True)
class Layout:
    """What the recorded rows of a run are made of."""

    sources: Mapping[str, pa.Schema]
    """Columns that requests bring, by source, the primary one first."""
    features: pa.Schema
    outputs: pa.Schema
    hidden: Mapping[str, tuple[str, ...]]
    """Private columns, which are hashed or left out, by source or `features` or `outputs`. Rows without one of them
    cannot be scored again."""

    def write(self) -> str:
        """Return it as JSON."""
        sources = {name: write_schema(schema) for name, schema in self.sources.items()}
        known = {"sources": sources, "features": write_schema(self.features), "outputs": write_schema(self.outputs)}
        return json.dumps({**known, "hidden": {part: list(names) for part, names in self.hidden.items()}})

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what `write` wrote."""
        known = json.loads(text)
        sources = {name: read_schema(each) for name, each in known["sources"].items()}
        hidden = {part: tuple(names) for part, names in known["hidden"].items()}
        return cls(sources, read_schema(known["features"]), read_schema(known["outputs"]), hidden)

    def shown(self, part: str, schema: pa.Schema) -> pa.Schema:
        """Return the columns of a part that are stored as they are."""
        return pa.schema([field for field in schema if field.name not in self.hidden.get(part, ())])


@dataclass(frozen=True)
class ServedRun:
    """A run of the variant `served`."""

    run_id: str
    interval: DataInterval | None
    """None for a snapshot."""
    state: str
    pins: Pins
    """The version of each step. The last one decides. A single `model:` is under `score`."""
    spec_fingerprint: str
    scoring: str
    """`Pipeline.scoring_fingerprint` of its spec."""
    destination: str
    destination_table: str
    rows: int
    layout: Layout

    @property
    def model(self) -> ModelPin:
        return deciding_model(self.pins)

    @property
    def table(self) -> sa.Table:
        """The table of its rows."""
        return served_table(self.destination_table, split_name(self.destination)[0])

    @property
    def keeps_rows(self) -> bool:
        """Whether the requests' rows are stored whole, so that they can be scored again from the start."""
        return not any(name in self.layout.sources for name in self.layout.hidden)

    @property
    def keeps_features(self) -> bool:
        """Whether the features are stored whole, so that they can be scored again."""
        return "features" not in self.layout.hidden


@dataclass(frozen=True)
class ServedRow:
    """One recorded row."""

    run: ServedRun
    request_id: str
    seq: int
    recorded_at: datetime
    asked_as: str | None
    key: str | None
    """The text that `labels.key_text.write_keys` writes. None: a part of the key is NULL."""
    status: Status
    reasons: tuple[str, ...]
    outputs: Mapping[str, Any] | None
    """Outputs and decisions as JSON has them. None: it was not scored."""
    primary_row: Mapping[str, Any]
    feature_row: Mapping[str, Any] | None
    other_rows: Mapping[str, Sequence[Mapping[str, Any]]]
    """Rows of the other sources, with the first row of the request."""
    is_whole: bool
    """Whether no row that the request brought was erased since."""
    snapshot: str | None
    """The digest of the other sources' rows that the server held. None: it held none."""


@dataclass(frozen=True)
class ServedRows:
    """Recorded rows of one run, as tables with the types that they were scored in. Private columns are left out."""

    run: ServedRun
    rows: tuple[ServedRow, ...]

    @cached_property
    def primary(self) -> pa.Table:
        """The rows of the primary source, one for each row."""
        name = next(iter(self.run.layout.sources))
        return self._table([row.primary_row for row in self.rows], name, self.run.layout.sources[name])

    @cached_property
    def scored(self) -> tuple[ServedRow, ...]:
        """The rows with a score."""
        return tuple(row for row in self.rows if row.feature_row is not None)

    @cached_property
    def features(self) -> pa.Table:
        """The features of the rows with a score, in their order."""
        return self._table([row.feature_row or {} for row in self.scored], "features", self.run.layout.features)

    @cached_property
    def outputs(self) -> pa.Table:
        """The outputs and decisions of the rows with a score, in their order."""
        return self._table([row.outputs or {} for row in self.scored], "outputs", self.run.layout.outputs)

    def others(self) -> dict[str, pa.Table]:
        """Return the rows of the other sources, by source."""
        layout, found = self.run.layout, {}
        for name, schema in list(layout.sources.items())[1:]:
            found[name] = self._table(
                [each for row in self.rows for each in row.other_rows.get(name, ())], name, schema
            )
        return found

    def _table(self, rows: Sequence[Mapping[str, Any]], part: str, schema: pa.Schema) -> pa.Table:
        return read_values(rows, self.run.layout.shown(part, schema))


def list_served_runs(
    database: Database, pipeline: str, start: datetime | None = None, end: datetime | None = None
) -> list[ServedRun]:
    """Return the runs of a pipeline that requests were recorded in and that have rows, the oldest first.

    Args:
        start, end: only those whose interval overlaps `[start, end)`. A snapshot overlaps every range.
    """
    if not has_ledger(database):
        return []
    query = _select_runs().where(runs.c.pipeline == pipeline, runs.c.rows_extracted > 0)
    if start is not None:
        query = query.where(sa.or_(runs.c.interval_end > start, runs.c.interval_end.is_(None)))
    if end is not None:
        query = query.where(sa.or_(runs.c.interval_start < end, runs.c.interval_start.is_(None)))
    with database.reading() as connection:
        found = connection.execute(query.order_by(runs.c.started_at, runs.c.run_id)).mappings()
        return [_read_run(row) for row in found]


def find_served_run(database: Database, run_id: str) -> ServedRun:
    """Return the run of the variant `served` with an ID, which the ledger has."""
    with database.reading() as connection:
        return _read_run(connection.execute(_select_runs().where(runs.c.run_id == run_id)).mappings().one())


def count_scored_rows(database: Database, run_id: str) -> int:
    """Return how many rows with a score a run of the variant `served` has now."""
    table = find_served_run(database, run_id).table
    mine = (table.c.run_id == run_id, table.c.status == "scored")
    with database.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(*mine)).scalar_one())


def read_served_rows(database: Database, run: ServedRun, rows: int = 5_000) -> Iterator[ServedRows]:
    """Yield the recorded rows of a run in the order of their requests' IDs, whole requests at a time.

    Args:
        rows: how many are read at once. A larger request is yielded whole.
    """
    table, after = run.table, ""
    while True:
        ids = sa.select(table.c.request_id).where(table.c.run_id == run.run_id, table.c.request_id > after)
        with database.reading() as connection:
            found = connection.execute(ids.order_by(table.c.request_id, table.c.seq).limit(rows)).scalars().all()
            if not found:
                return
            page = (table.c.request_id >= found[0], table.c.request_id <= found[-1])  # Postgres has no BETWEEN here
            query = sa.select(table).where(table.c.run_id == run.run_id, *page)
            read = connection.execute(query.order_by(table.c.request_id, table.c.seq)).mappings().all()
        after = found[-1]
        yield ServedRows(run, tuple(_read_row(run, row) for row in read))


def find_served_keys(
    database: Database, pipeline: str, destination: Destination, keys: Collection[str], most: int
) -> list[ServedRow]:
    """Return the newest recorded rows of keys, the newest first. A key may have very many.

    Args:
        keys: the texts that a key may have, see `labels.key_text.possible_keys`.
        most: Most rows.
    """
    if not has_ledger(database):
        return []
    found: list[ServedRow] = []
    of_pipeline = sa.select(runs.c.run_id).where(runs.c.pipeline == pipeline, runs.c.variant == SERVED)
    with database.reading() as connection:
        for table in find_tables(connection, pipeline, destination):
            mine = sa.select(table).where(table.c.key.in_(list(keys)), table.c.run_id.in_(of_pipeline))
            newest = mine.order_by(table.c.recorded_at.desc(), table.c.request_id.desc(), table.c.seq.desc())
            rows = connection.execute(newest.limit(most)).mappings().all()
            theirs = _select_runs().where(runs.c.run_id.in_({row["run_id"] for row in rows}))
            known = {run.run_id: run for run in map(_read_run, connection.execute(theirs).mappings())}
            found += [_read_row(known[row["run_id"]], row) for row in rows]
    return sorted(found, key=lambda row: (row.recorded_at, row.request_id, row.seq), reverse=True)[:most]


_OF_RUN = (
    "run_id",
    "interval_start",
    "interval_end",
    "timezone",
    "state",
    "model_name",
    "model_version",
    "model_digest",
)


def _select_runs() -> sa.Select[Any]:
    own = (*_OF_RUN, "step_models", "spec_fingerprint", "destination", "destination_table", "rows_extracted")
    joined = runs.join(served_runs, served_runs.c.run_id == runs.c.run_id)
    return sa.select(*(runs.c[name] for name in own), served_runs.c.scoring, served_runs.c.layout).select_from(joined)


def _read_run(row: sa.RowMapping) -> ServedRun:
    start, end = row["interval_start"], row["interval_end"]
    single = ModelPin(row["model_name"], row["model_version"], row["model_digest"])
    return ServedRun(
        run_id=row["run_id"],
        interval=None if start is None else DataInterval(start, end, row["timezone"] or "UTC"),
        state=row["state"],
        pins=read_pins(row["step_models"]) or {"score": single},
        spec_fingerprint=row["spec_fingerprint"],
        scoring=row["scoring"],
        destination=row["destination"],
        destination_table=row["destination_table"],
        rows=int(row["rows_extracted"] or 0),
        layout=Layout.read(row["layout"]),
    )


def _read_row(run: ServedRun, row: sa.RowMapping) -> ServedRow:
    others = json.loads(row["other_rows"] or "{}")
    return ServedRow(
        run=run,
        request_id=row["request_id"],
        seq=row["seq"],
        recorded_at=row["recorded_at"],
        asked_as=row["asked_as"],
        key=row["key"],
        status=row["status"],
        reasons=tuple(json.loads(row["reasons"] or "[]")),
        outputs=None if row["outputs"] is None else json.loads(row["outputs"]),
        primary_row=json.loads(row["primary_row"]),
        feature_row=None if row["feature_row"] is None else json.loads(row["feature_row"]),
        other_rows=others or {},
        is_whole=others is not None,
        snapshot=row["snapshot"],
    )
