"""Rows whose keys a run may have scored, to name the keys of rows that were removed."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.bulk import read
from penstock.database.connections import Connector, Database
from penstock.errors import PenstockError
from penstock.ledger.destinations import split_name
from penstock.ledger.reader import RunRecord
from penstock.ledger.tables import runs
from penstock.privacy.masking import MaskingPolicy
from penstock.run.extract import extract_partition, plan_partitions
from penstock.run.history_table import HistoryRunId, history_name
from penstock.run.reasons_table import reasons_name
from penstock.run_types import ScoringRun, deciding_model
from penstock.sources import fix_versions
from penstock.spec.pipeline import Pipeline


def list_candidates(
    database: Database, pipeline: Pipeline, connect: Connector, masking: MaskingPolicy, run: RunRecord
) -> Iterator[pa.Table]:
    """Yield rows with the key columns: the run's reasons, other runs of its interval, then the primary source.

    A source that cannot be read any more gives none.
    """
    yield from _read_warehouse(database, pipeline.key, run)
    with suppress(PenstockError):
        yield from _read_source(pipeline, connect, masking, run)


def _read_warehouse(database: Database, key: tuple[str, ...], run: RunRecord) -> Iterator[pa.Table]:
    schema, _ = split_name(run.destination or "")
    history, reasons = (named(run.destination_table, schema or None) for named in (history_name, reasons_name))
    same = (runs.c.destination == run.destination, runs.c.interval_key == run.interval_key)
    others = sa.select(sa.cast(runs.c.run_id, HistoryRunId)).where(*same, runs.c.run_id != run.run_id)
    with database.reading() as connection:
        there = [sa.inspect(connection).has_table(each.name, schema=each.schema) for each in (reasons, history)]
    columns: list[sa.ColumnClause[Any]] = [sa.column(sa.quoted_name(name, quote=True)) for name in key]
    mine = (reasons.c.run_id == run.run_id, history.c.run_id.in_(others))
    for table, exists, where in zip((reasons, history), there, mine, strict=True):
        if exists:
            yield read(database, sa.select(*columns).select_from(table).where(where).distinct(), exact=key)


def _read_source(
    pipeline: Pipeline, connect: Connector, masking: MaskingPolicy, record: RunRecord
) -> Iterator[pa.Table]:
    model = deciding_model(record.pins)
    run = ScoringRun(record.run_id, pipeline, record.interval, model, "", record.variant, steps=record.step_models)
    fixed = fix_versions(pipeline, connect)
    for partition in plan_partitions(run, fixed, masking).partitions:
        yield extract_partition(run, partition, fixed).primary
