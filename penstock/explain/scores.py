"""Read all that the warehouse has about one key: its scores in every run, its reasons, and why it was refused."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import RunNotFound
from penstock.labels.key_text import possible_keys
from penstock.labels.stored import Label, labels_of
from penstock.ledger.destinations import destination_name, split_name
from penstock.ledger.migrations import has_ledger
from penstock.ledger.pointer_moves import MoveRecord, is_live, moves_of
from penstock.ledger.profiles import read_profiles
from penstock.ledger.quarantine import QuarantinedRow, refusals_of
from penstock.ledger.reader import RunRecord, find_run, read_runs, select_runs
from penstock.ledger.served_rows import ServedRow
from penstock.ledger.tables import forgotten, runs, validations
from penstock.privacy.masking import MaskingPolicy
from penstock.privacy.row_key import RowKey
from penstock.privacy.secret_keys import KeyRing
from penstock.report.drift import RunDrift, measure_run
from penstock.run.history_table import HistoryRunId
from penstock.run.reasons_table import BUDGET, REASON
from penstock.spec.column_names import OWN_COLUMNS
from penstock.spec.pipeline import Pipeline
from penstock.upkeep.erasure import ErasureRequest
from penstock.upkeep.sealed_rows import judge_row, plain_id
from penstock.upkeep.stored_rows import HISTORY, REASONS, find_texts, match_key, row_tables

OTHER_SCORES = 20
"""Most other scores of a key, and recorded rows, that are shown, the newest first."""


NO_DRIFT = RunDrift((), ())


@dataclass(frozen=True)
class KeyScore:
    """The row that one run has stored for a key."""

    run: RunRecord
    history: sa.TableClause
    """The table with the row."""
    partition: int
    columns: dict[str, Any]
    """Outputs, decisions and kept columns."""


@dataclass(frozen=True)
class StoredReason:
    """One row of the table of reasons."""

    rank: int
    feature: str | None
    contribution: float | None
    value: str | None
    text: str


@dataclass(frozen=True)
class KeyRecord:
    """All that the warehouse has about one key."""

    row_key: RowKey
    shown: KeyScore | None
    """The run that is explained. None: no run has scored the key."""
    others: tuple[KeyScore, ...]
    """The same key in other runs and variants, the newest first."""
    reasons: tuple[StoredReason, ...]
    """Those that the run has stored."""
    notes: tuple[str, ...]
    """What the expectations noted in the row's partition."""
    refusals: tuple[QuarantinedRow, ...]
    moves: tuple[MoveRecord, ...]
    forgotten_at: tuple[datetime, ...]
    labels: tuple[Label, ...] = ()
    """What became of the row, as far as `penstock labels collect` knows, the newest first."""
    drift: RunDrift = NO_DRIFT
    """The drift of the run, or of the champion's run of a challenger."""
    seal: str = ""
    """Whether the row's seal holds. Empty: it has none."""
    served: tuple[ServedRow, ...] = ()
    """What requests got for the key, as far as it was recorded, the newest first. `read_key` does not read it."""

    @property
    def lacks_reasons(self) -> bool:
        """Whether the row is scored, and no reasons are stored for it."""
        return self.shown is not None and all(reason.text == BUDGET and not reason.rank for reason in self.reasons)


def read_key(
    database: Database,
    pipeline: Pipeline,
    row_key: RowKey,
    masking: MaskingPolicy,
    records: MaskingPolicy | None,
    run_prefix: str = "",
    seal_keys: KeyRing | None = None,
) -> KeyRecord:
    """Read the rows of a key.

    Args:
        records: finds the record that a key was forgotten; None: it is not looked for.
        run_prefix: beginning of the ID of the run to explain. Empty: the live run of the newest interval, else the
            newest run.
        seal_keys: check the row's seal; None: they are not set.

    Raises:
        RunNotFound: no run has that ID.
        SettingsError: a value of the key is not of its column's type.
    """
    if not has_ledger(database):
        if run_prefix:
            raise RunNotFound(run_prefix)
        return KeyRecord(row_key, None, (), (), (), (), (), ())
    wanted = find_run(database, run_prefix).run_id if run_prefix else None
    with database.reading() as connection:
        row_key = find_texts(connection, pipeline, row_key)
        found = sorted(_read_scores(connection, pipeline, row_key), key=_order, reverse=True)
        shown = next((each for each in found if wanted is None or each.run.run_id == wanted), None)
        reasons = _read_reasons(connection, pipeline, row_key, shown) if shown else ()
        notes = _read_notes(connection, shown) if shown else ()
        gone = _read_forgotten(connection, pipeline, row_key, records) if records else ()
    others = tuple(each for each in found if each is not shown)
    refused = _read_refusals(database, pipeline, row_key, masking)
    moves = tuple(moves_of(database, shown.run.run_id)) if shown else ()
    keys = possible_keys(row_key, masking)
    known = labels_of(database, pipeline.name, keys)
    drift = measure_run(read_profiles(database, shown.run.champion_run_id or shown.run.run_id)) if shown else NO_DRIFT
    seal = judge_row(database, shown.run, shown.history, row_key, seal_keys) if shown else ""
    return KeyRecord(row_key, shown, others, reasons, notes, refused, moves, gone, known, drift, seal)


def _order(score: KeyScore) -> tuple[bool, str, datetime]:
    """Live runs come after all others, and newer intervals after older ones."""
    run = score.run
    return is_live(run), run.interval_start.isoformat() if run.interval_start else "", run.started_at


def _read_scores(connection: sa.Connection, pipeline: Pipeline, row_key: RowKey) -> Iterator[KeyScore]:
    """Read the key's rows of all runs. The runs are named first, for the tables have an index by run and key."""
    tables = [table for table in row_tables(connection, pipeline) if table.name.endswith(HISTORY)]
    mine = sa.select(sa.cast(runs.c.run_id, HistoryRunId)).where(runs.c.pipeline == pipeline.name)
    for table in tables:
        typed = sa.type_coerce(table.c.run_id, HistoryRunId)
        query = sa.select(table).where(typed.in_(mine), *match_key(connection, table, row_key))
        rows = {plain_id(row["run_id"]): dict(row) for row in connection.execute(query).mappings()}
        for run in read_runs(connection, select_runs().where(runs.c.run_id.in_(rows))):
            row = rows[run.run_id]
            own = {*OWN_COLUMNS, *pipeline.key}
            yield KeyScore(run, table, int(row["partition"]), {name: row[name] for name in row if name not in own})


def _read_reasons(
    connection: sa.Connection, pipeline: Pipeline, row_key: RowKey, shown: KeyScore
) -> tuple[StoredReason, ...]:
    name = f"{shown.run.destination_table}{REASONS}"
    schema = split_name(shown.run.destination or destination_name(connection, pipeline.destination))[0]
    for table in row_tables(connection, pipeline):
        if (table.name, table.schema or "") == (name, schema):
            mine = sa.type_coerce(table.c.run_id, HistoryRunId) == shown.run.run_id
            query = sa.select(*(table.c[c] for c in REASON)).where(mine, *match_key(connection, table, row_key))
            rows = connection.execute(query.order_by(table.c.rank)).mappings()
            return tuple(StoredReason(**row) for row in rows)
    return ()


def _read_notes(connection: sa.Connection, shown: KeyScore) -> tuple[str, ...]:
    noted = (validations.c.run_id == shown.run.run_id, validations.c.outcome == "noted")
    here = validations.c.partition.in_((shown.partition, -1))
    query = sa.select(validations.c.stage, validations.c.expectation, validations.c.detail).where(*noted, here)
    found = connection.execute(query.order_by(validations.c.partition, validations.c.number)).all()
    return tuple(f"{stage}: {expectation}{f' ({detail})' if detail else ''}" for stage, expectation, detail in found)


def _read_refusals(
    database: Database, pipeline: Pipeline, row_key: RowKey, masking: MaskingPolicy
) -> tuple[QuarantinedRow, ...]:
    first = row_key.typed(next(iter(row_key.values)))
    parts = {json.dumps(form, ensure_ascii=False)[1:-1] for form in (*first.written, *first.hashes(masking))}
    is_mine = row_key.matcher(masking)
    near = refusals_of(database, pipeline.name, sorted(parts))
    return tuple(row for row in near if is_mine(json.loads(row.key)))


def _read_forgotten(
    connection: sa.Connection, pipeline: Pipeline, row_key: RowKey, records: MaskingPolicy
) -> tuple[datetime, ...]:
    marks = [mark for text in ErasureRequest(pipeline, row_key).recorded for mark in records.possible_hashes(text)]
    mine = (forgotten.c.pipeline == pipeline.name, forgotten.c.subject_hash.in_(marks))
    query = sa.select(forgotten.c.forgotten_at).where(*mine).order_by(forgotten.c.forgotten_at)
    return tuple(connection.execute(query).scalars())
