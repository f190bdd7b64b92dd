"""Judge past runs by other limits, from their rows in the history table, counts and profiles. Nothing is scored.

The limits are judged as the audit judges them. The rows are those that were scored, so a row that was refused at the
time is not among them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.bulk import read
from penstock.database.connections import Database
from penstock.database.types import arrow_type, stored_type
from penstock.errors import SettingsError, nearest
from penstock.ledger.acceptance import HALTED, list_acceptable
from penstock.ledger.destinations import LIVE, destination_name
from penstock.ledger.migrations import has_ledger
from penstock.ledger.profiles import read_profiles
from penstock.ledger.reader import RunRecord, fetch_runs, partitions_of, select_runs
from penstock.ledger.tables import runs
from penstock.monitor.drift import judge_profiles, measure_drift
from penstock.privacy.masking import MaskingPolicy
from penstock.quality import columns_needed, judge_whole
from penstock.run.audit import judge_refused
from penstock.run.drift import DRIFT, describe_distance, describe_limits
from penstock.run.history_table import history_name
from penstock.run.validate import sample_rows
from penstock.run_types import ColumnProfile, Validation, Verdict
from penstock.spec.column_names import OWN_COLUMNS
from penstock.spec.drift import Drift
from penstock.spec.expectation import Expectation
from penstock.spec.pipeline import Pipeline
from penstock.spec.stages import SCORES


@dataclass(frozen=True)
class NewLimits:
    """The limits to try."""

    expectations: tuple[Expectation, ...] = ()
    """About columns of the history table: the key, the scores and the kept columns."""
    quarantine_limit: float | None = None
    drift: Drift | None = None
    """The columns to watch, and the distance that halts. It is judged on stored profiles."""


@dataclass(frozen=True)
class ReplayedRun:
    """A past run, and what the limits find in it."""

    run: RunRecord
    validations: tuple[Validation, ...]
    """One for each limit that could be judged, and for each column that has drifted."""
    has_profiles: bool = True
    """Whether its drift could be judged. False: the run was not counted."""

    @property
    def halts(self) -> tuple[str, ...]:
        """One line for each limit that would have halted the run."""
        return Verdict(self.validations).halts


def replay(
    database: Database,
    pipeline: Pipeline,
    limits: NewLimits,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Iterator[ReplayedRun]:
    """Judge the live run of each interval by other limits, or where none is live the last one that the audit halted.

    Args:
        start, end: Take only intervals that touch `[start, end)`.

    Yields:
        The runs, the oldest interval first.

    Raises:
        SettingsError: the history table lacks a column.
        SpecError: a limit cannot be judged on a column of this type.
    """
    chosen = _list_runs(database, pipeline, start, end)
    if not chosen:
        return
    history, columns = _read_columns(database, pipeline, limits.expectations)
    masking = MaskingPolicy(pipeline.private_columns)
    for run in chosen:
        found: list[Validation] = []
        if limits.quarantine_limit is not None:
            found.append(judge_refused(run.rows_extracted or 0, run.rows_quarantined or 0, limits.quarantine_limit))
        if limits.expectations:
            rows, scored = _read_rows(database, pipeline, run, history, columns), run.rows_scored or 0
            sampled = rows.num_rows < scored
            verdict = judge_whole(SCORES, rows, scored, (), limits.expectations, sampled=sampled, masking=masking)
            found += verdict.validations
        profiles = read_profiles(database, run.run_id) if limits.drift else {}
        if limits.drift:
            found += _judge_drift(profiles, limits.drift)
        yield ReplayedRun(run, tuple(found), bool(profiles) or limits.drift is None)


def _judge_drift(profiles: Mapping[str, ColumnProfile], drift: Drift) -> Iterator[Validation]:
    """Yield the columns that have drifted by other limits. Each would halt the run."""
    for column, exceeded in judge_profiles(profiles.values(), drift).items():
        measured = measure_drift(profiles[column])
        assert measured is not None
        label, observed = describe_limits(column, drift, exceeded), describe_distance(measured)
        rows = profiles[column].counts.rows
        yield Validation(DRIFT, label, "critical", rows, 0, "halted", observed, unit="values")


def _list_runs(database: Database, pipeline: Pipeline, start: datetime | None, end: datetime | None) -> list[RunRecord]:
    if not has_ledger(database):
        return []
    with database.reading() as connection:
        place = destination_name(connection, pipeline.destination)
    here = (runs.c.destination == place, runs.c.pipeline == pipeline.name, runs.c.variant == LIVE)
    query = select_runs().where(*here, runs.c.state.in_(("published", HALTED)))
    if start is not None:
        query = query.where(runs.c.interval_end > start)
    if end is not None:
        query = query.where(runs.c.interval_start < end)
    found = fetch_runs(database, query.order_by(runs.c.interval_start, runs.c.started_at))
    acceptable = list_acceptable(database, found)
    last: dict[str, RunRecord] = {}
    for run in found:
        before = last.get(run.interval_key)
        if run.state == "published" or (run.run_id in acceptable and (before is None or before.state == HALTED)):
            last[run.interval_key] = run
    return list(last.values())


def _read_columns(
    database: Database, pipeline: Pipeline, expectations: Sequence[Expectation]
) -> tuple[sa.TableClause, pa.Schema]:
    """Return the history table with the columns that the limits read, and their types.

    Raises:
        SettingsError: a column is not there.
    """
    name = history_name(pipeline.destination.table, pipeline.destination.schema_)
    wanted = columns_needed(expectations)
    with database.reading() as connection:
        inspector, dialect = sa.inspect(connection), connection.dialect.name
        there = {}
        if inspector.has_table(name.name, schema=name.schema):
            described = inspector.get_columns(name.name, schema=name.schema)
            there = {c["name"]: stored_type(c["type"], dialect) for c in described if c["name"] not in OWN_COLUMNS}
    for column in wanted:
        if column not in there:
            raise SettingsError(
                f"`{name.name}` has no column `{column}`.{nearest(column, list(there))}",
                "The table keeps the key, the scores and the columns of `keep`.",
            )
    quoted: list[sa.ColumnClause[Any]] = [sa.column(sa.quoted_name(column, quote=True)) for column in wanted]
    own = [sa.column(column.name, column.type) for column in name.c]
    table = sa.table(name.name, *own, *quoted, schema=name.schema)
    return table, pa.schema([(column, arrow_type(there[column])) for column in wanted])


def _read_rows(
    database: Database, pipeline: Pipeline, run: RunRecord, history: sa.TableClause, columns: pa.Schema
) -> pa.Table:
    """Read the columns of a run's rows. Of more rows than `audit_rows`, read a sample of each partition."""
    query = sa.select(*(history.c[name] for name in columns.names)).where(history.c.run_id == run.run_id)
    share = min(1.0, pipeline.audit_rows / max(run.rows_scored or 0, 1))
    if share >= 1.0:
        return read(database, query, columns)
    parts = [part.partition for part in partitions_of(database, run.run_id) if part.rows_scored]
    read_parts = (read(database, query.where(history.c.partition == part), columns) for part in parts)
    return pa.concat_tables([sample_rows(part, share) for part in read_parts], promote_options="permissive")
