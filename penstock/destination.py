"""The destination: a history table that is only appended to, and two views that show the live rows.

`<table>` shows the rows of published runs; `<table>_latest` one row a key, from the newest interval. Publishing moves a
pointer in the ledger (`ledger.writer.publish`); the rows never move.
"""

import json
import threading
import time

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from penstock.bulk import BulkTransaction, bulk_transaction
from penstock.carriers import Partition, Receipt, Refusal, Scored, ScoringRun
from penstock.connections import Database
from penstock.errors import QueryFailed, TakenOver
from penstock.ledger.tables import partitions, quarantine, runs, validations
from penstock.ledger.writer import validation_rows
from penstock.spec import Destination
from penstock.types import sql_type

RUN_COLUMNS = ("interval_start", "interval_end", "model_name", "model_version", "model_digest", "scored_at", "run_id")
"""Columns that the views add to the rows; no key, score or kept column may bear their names."""
_HistoryRunId = sa.Text().with_variant(sa.Uuid(as_uuid=False), "postgresql")
"""Sixteen bytes instead of thirty-two, in each row and again in its index entry: loads are a fifth faster."""
_RESERVED = (*RUN_COLUMNS, "partition")
_ADVISORY_LOCK = 7_305_821_190_665
_ready: dict[tuple[str, str], sa.Table] = {}
_lock = threading.Lock()


def check_names(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns whose names the views need for themselves, and those that stand twice."""
    folded = [c.casefold() for c in columns]
    return tuple(c for c in columns if c.casefold() in _RESERVED or folded.count(c.casefold()) > 1)


def history_table(destination: Destination, key: tuple[str, ...], rows: pa.Schema) -> sa.Table:
    """Return the table that holds all runs' rows: `(run_id, partition, key…, scores…, kept…)`."""
    columns = [
        sa.Column(sa.quoted_name(f.name, quote=True), sql_type(f.type), nullable=f.name not in key, autoincrement=False)
        for f in rows
    ]
    return sa.Table(
        f"{destination.table}__history",
        sa.MetaData(),
        sa.Column("run_id", _HistoryRunId, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("run_id", *key),
        schema=destination.schema_,
    )


def prepare(database: Database, destination: Destination, key: tuple[str, ...], rows: pa.Schema) -> sa.Table:
    """Make the history table and its views where they are missing; add columns that are new, drop none.

    Raises:
        QueryFailed: the name is taken by something that is not Penstock's.
    """
    identity = (database.url.render_as_string(hide_password=False), f"{destination.schema_}.{destination.table}")
    with _lock:
        known = _ready.get(identity)
        if known is not None and all(name in known.c for name in rows.names):
            return known
        _ready[identity] = _prepare(database, destination, history_table(destination, key, rows))
        return _ready[identity]


def _prepare(database: Database, destination: Destination, wanted: sa.Table) -> sa.Table:
    with database.writing() as connection:
        if database.dialect == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        inspector = sa.inspect(connection)
        name, schema = destination.table, destination.schema_
        if name in inspector.get_table_names(schema=schema):
            raise QueryFailed(database.name, f"`{name}` is a table already, where the view of the live rows should be")
        if not inspector.has_table(wanted.name, schema=schema):
            connection.execute(CreateTable(wanted))
            _create_views(connection, destination, wanted)
            return wanted
        there = {c["name"]: c["type"] for c in inspector.get_columns(wanted.name, schema=schema)}
        new = [c for c in wanted.columns if c.name not in there]
        preparer = connection.dialect.identifier_preparer
        for column in new:
            kind, quoted = column.type.compile(connection.dialect), preparer.format_column(column)
            connection.exec_driver_sql(f"ALTER TABLE {preparer.format_table(wanted)} ADD COLUMN {quoted} {kind}")
        whole = _as_it_is(wanted, there)
        if new or name not in inspector.get_view_names(schema=schema):
            _drop_views(connection, destination)
            _create_views(connection, destination, whole)
        return whole


def _as_it_is(wanted: sa.Table, there: dict[str, sa.types.TypeEngine[object]]) -> sa.Table:
    """The table with the columns it has, ours first; kinds of older columns as the database reports them."""
    older = [sa.Column(sa.quoted_name(n, quote=True), t) for n, t in there.items() if n not in wanted.c]
    columns = [sa.Column(c.name, c.type, nullable=c.nullable, autoincrement=False) for c in wanted.columns]
    key = sa.PrimaryKeyConstraint(*(c.name for c in wanted.primary_key.columns))
    return sa.Table(wanted.name, sa.MetaData(), *columns, *older, key, schema=wanted.schema)


def _view_names(destination: Destination) -> tuple[str, str]:
    return destination.table, f"{destination.table}_latest"


def _drop_views(connection: sa.Connection, destination: Destination) -> None:
    for name in reversed(_view_names(destination)):
        view = connection.dialect.identifier_preparer.format_table(sa.table(name, schema=destination.schema_))
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {view}")


def _create_views(connection: sa.Connection, destination: Destination, history: sa.Table) -> None:
    own = [c for c in history.columns if c.name not in ("run_id", "partition")]
    about = [
        runs.c.interval_start,
        runs.c.interval_end,
        runs.c.model_name,
        runs.c.model_version,
        runs.c.model_digest,
        runs.c.published_at.label("scored_at"),
        runs.c.run_id,
    ]
    joined = history.join(runs, sa.cast(runs.c.run_id, _HistoryRunId) == history.c.run_id)
    live = sa.select(*own, *about).select_from(joined).where(runs.c.state == "published", runs.c.variant == "live")
    key = [c for c in history.primary_key.columns if c.name != "run_id"]
    newest = sa.func.row_number().over(
        partition_by=key, order_by=[runs.c.interval_start.desc(), runs.c.published_at.desc()]
    )
    ranked = live.add_columns(newest.label("penstock_rank")).subquery("ranked")
    latest = sa.select(*(c for c in ranked.c if c.name != "penstock_rank")).where(ranked.c.penstock_rank == 1)
    for name, query in zip(_view_names(destination), (live, latest), strict=True):
        body = query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        view = connection.dialect.identifier_preparer.format_table(sa.table(name, schema=destination.schema_))
        connection.exec_driver_sql(f"CREATE VIEW {view} AS {body}".replace("%%", "%"))


def load(
    database: Database, run: ScoringRun, partition: Partition, scored: Scored, seconds: dict[str, float], attempts: int
) -> Receipt:
    """Replace one partition of a run: its rows, refusals, validations and receipt, in one transaction.

    A partition that was halted leaves its findings and no rows.

    Raises:
        TakenOver: the run is no longer running; nothing is written.
        KeyCollision: another copy of this partition wrote meanwhile.
    """
    begun = time.perf_counter()
    owned: list[sa.Table] = [quarantine, validations, partitions]
    if not scored.halts:
        history = prepare(database, run.pipeline.destination, run.pipeline.key, scored.table.schema)
        owned.append(history)
    with bulk_transaction(database) as transaction:
        for table in owned:
            mine = (table.c.run_id == run.run_id, table.c.partition == partition.index)
            transaction.execute(sa.delete(table).where(*mine))
        state = transaction.execute(sa.select(runs.c.state).where(runs.c.run_id == run.run_id))
        if state != [("running",)]:
            raise TakenOver(run.run_id, state[0][0] if state else "unknown")
        if not scored.halts:
            transaction.append(history, _owned(scored.table, run.run_id, partition.index))
        _append_rows(transaction, quarantine, _refusal_rows(run, partition.index, scored.refusals))
        _append_rows(transaction, validations, validation_rows(run.run_id, scored.validations))
        receipt = make_receipt(run, partition, scored, seconds | {"load": time.perf_counter() - begun})
        _append_rows(transaction, partitions, [_receipt_row(run.run_id, receipt, attempts)])
    return receipt


def make_receipt(run: ScoringRun, partition: Partition, scored: Scored, seconds: dict[str, float]) -> Receipt:
    """Sum up what a partition did; refused rows of other sources are no rows of the primary one and do not count."""
    pipeline = run.pipeline
    own = [r.stage for r in scored.refusals if r.stage not in pipeline.sources or r.stage == pipeline.primary]
    return Receipt(
        partition=partition,
        extracted=scored.features.extracted,
        scored=0 if scored.halts else scored.table.num_rows,
        quarantined=len(own),
        excluded=scored.features.excluded,
        refused_at_source=own.count(pipeline.primary),
        validations=scored.validations,
        halts=scored.halts,
        seconds={step: round(spent, 4) for step, spent in seconds.items()},
        score_quantiles=scored.quantiles,
        audit=scored.audit,
        columns=scored.columns,
    )


def count_rows(database: Database, run: ScoringRun) -> int:
    """Count the rows that the database holds for a run."""
    destination = run.pipeline.destination
    name = sa.table(f"{destination.table}__history", sa.column("run_id", _HistoryRunId), schema=destination.schema_)
    with database.reading() as connection:
        if not sa.inspect(connection).has_table(name.name, schema=destination.schema_):
            return 0
        query = sa.select(sa.func.count()).select_from(name).where(name.c.run_id == run.run_id)
        return int(connection.execute(query).scalar_one())


def _owned(rows: pa.Table, run_id: str, index: int) -> pa.Table:
    count = rows.num_rows
    ids = pa.repeat(pa.scalar(run_id, pa.string()), count)
    return rows.add_column(0, "partition", pa.repeat(pa.scalar(index, pa.int32()), count)).add_column(0, "run_id", ids)


def _append_rows(transaction: BulkTransaction, table: sa.Table, rows: list[dict[str, object]]) -> None:
    if rows:
        transaction.append(table, pa.Table.from_pylist(rows))


def _refusal_rows(run: ScoringRun, index: int, refusals: tuple[Refusal, ...]) -> list[dict[str, object]]:
    return [
        {
            "run_id": run.run_id,
            "partition": index,
            "number": number,
            "pipeline": run.pipeline.name,
            "stage": refusal.stage,
            "source": refusal.source,
            "key": refusal.key,
            "reasons": json.dumps(refusal.reasons, ensure_ascii=False),
            "row": refusal.row,
            "state": "held",
        }
        for number, refusal in enumerate(refusals)
    ]


def _receipt_row(run_id: str, receipt: Receipt, attempts: int) -> dict[str, object]:
    bounds = receipt.partition.lower, receipt.partition.upper
    return {
        "run_id": run_id,
        "partition": receipt.partition.index,
        "lower_bound": None if bounds[0] is None else str(bounds[0]),
        "upper_bound": None if bounds[1] is None else str(bounds[1]),
        "rows_extracted": receipt.extracted,
        "rows_scored": receipt.scored,
        "rows_quarantined": receipt.quarantined,
        "rows_excluded": receipt.excluded,
        "attempts": attempts,
        "seconds": json.dumps(receipt.seconds),
    }
