"""Read runs, partitions and validations from the ledger."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import RunNotFound
from penstock.interval import DataInterval
from penstock.ledger.destinations import LIVE, destination_name
from penstock.ledger.migrations import has_ledger
from penstock.ledger.pins import read_pins
from penstock.ledger.tables import partitions, runs, validations
from penstock.run_types import ModelPin, Pins, Validation
from penstock.spec.pipeline import Pipeline


@dataclass(frozen=True)
class RunRecord:
    """One scoring run as the ledger keeps it."""

    run_id: str
    pipeline: str
    interval_key: str
    interval_start: datetime | None
    interval_end: datetime | None
    variant: str
    reason: str
    state: str
    model_name: str
    model_version: str
    model_digest: str
    spec_fingerprint: str
    destination_table: str
    lease_owner: str
    lease_until: datetime
    flow_run_id: str | None
    source_fingerprint: str | None
    partitions: int | None
    rows_planned: int | None
    rows_extracted: int | None
    rows_scored: int | None
    rows_quarantined: int | None
    rows_excluded: int | None
    score_quantiles: tuple[float, ...]
    error: str | None
    started_at: datetime
    finished_at: datetime | None
    published_at: datetime | None
    retired_at: datetime | None
    rows_pruned_at: datetime | None
    cpu_seconds: float | None
    """CPU time of all processes of the run, from claim to end, without the databases' own."""
    bytes_read: int | None
    """Arrow bytes of the extracted rows."""
    bytes_written: int | None
    """Arrow bytes of the scored rows that were loaded."""
    peak_bytes: int | None
    """Peak memory of the process since it started. Of several processes, the sum of their peaks."""
    processes: int | None
    cost: float | None
    """At the prices of that time. None if none were set."""
    memory: str | None
    """The plan that keeps the run within its memory limit (`memory.MemoryPlan`), as JSON."""
    step_models: Pins
    """Each step's version, if the run had several steps. The last one is the run's model."""
    replaced_by_run_id: str | None
    """The run that took this one over, or superseded it."""
    timezone: str | None
    """Time zone of the interval's dates. None for runs of old versions, whose dates are in UTC."""
    destination: str | None
    """`schema.table`, as the ledger names the destination."""
    rows_explained: int | None
    """Rows with reasons. None if the pipeline asks for none, and for runs that did not get to their end."""
    rows_over_budget: int | None
    """Rows that the budget of `reasons` left without."""
    champion_run_id: str | None
    """Of a challenger's run: the run that scored the same rows for readers."""
    share: float | None
    """Share of the rows that a challenger's run scored. None: all."""
    seal_root: str | None
    """The root of its rows' seals, as `key id.digest`. None: they are not sealed, or the audit has not come to it."""

    @property
    def model(self) -> str:
        """The version that decided, as `name/version`."""
        return f"{self.model_name}/{self.model_version}"

    @property
    def models(self) -> str:
        """The versions of all steps, as `name/version`, with commas between."""
        return ", ".join(map(str, self.step_models.values())) or self.model

    @property
    def pins(self) -> Pins:
        """Each step's model version. There is always at least one."""
        return self.step_models or {"score": ModelPin(self.model_name, self.model_version, self.model_digest)}

    @property
    def interval(self) -> DataInterval | None:
        if self.interval_start is None or self.interval_end is None:
            return None
        return DataInterval(self.interval_start, self.interval_end, self.timezone or "UTC")

    @property
    def rows_published(self) -> int | None:
        """Scored rows that were published. None for a run that published nothing."""
        return self.rows_scored if self.published_at else None

    @property
    def seconds(self) -> float | None:
        """From claim to end. None if the run goes on, or if the clock was set back in between."""
        if self.finished_at is None or self.finished_at < self.started_at:
            return None
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def cost_per_million(self) -> float | None:
        """The cost of a million extracted rows, at this run's rate."""
        return self.cost / self.rows_extracted * 1e6 if self.cost is not None and self.rows_extracted else None


@dataclass(frozen=True)
class PartitionRecord:
    """One loaded partition of a run."""

    partition: int
    lower_bound: str | None
    upper_bound: str | None
    rows_extracted: int
    rows_scored: int
    rows_quarantined: int
    rows_excluded: int
    attempts: int
    seconds: dict[str, float]
    process: str | None
    cpu_seconds: float | None
    """CPU time of its process while it ran, with that of partitions on other threads."""
    bytes_read: int | None
    bytes_written: int | None
    peak_bytes: int | None
    """Peak memory of its process until then."""


_RECORD_COLUMNS = [runs.c[name] for name in RunRecord.__dataclass_fields__]


def _record(row: Any) -> RunRecord:
    values = dict(row)
    values["score_quantiles"] = tuple(json.loads(values["score_quantiles"] or "[]"))
    values["step_models"] = read_pins(values["step_models"])
    return RunRecord(**values)


def select_runs() -> sa.Select[Any]:
    """Begin a query of runs, for `fetch_runs`."""
    return sa.select(*_RECORD_COLUMNS)


def fetch_runs(database: Database, query: sa.Select[Any]) -> list[RunRecord]:
    with database.reading() as connection:
        return read_runs(connection, query)


def read_runs(connection: sa.Connection, query: sa.Select[Any]) -> list[RunRecord]:
    return [_record(row) for row in connection.execute(query).mappings()]


def list_runs(
    database: Database,
    pipeline: str | None = None,
    limit: int = 50,
    states: Sequence[str] = (),
    variant: str | None = None,
) -> list[RunRecord]:
    """Return the newest runs first, of all variants or of one."""
    if not has_ledger(database):
        return []
    query = select_runs().order_by(runs.c.started_at.desc(), runs.c.interval_start.desc()).limit(limit)
    if pipeline is not None:
        query = query.where(runs.c.pipeline == pipeline)
    if states:
        query = query.where(runs.c.state.in_(states))
    if variant is not None:
        query = query.where(runs.c.variant == variant)
    return fetch_runs(database, query)


def count_runs(database: Database, pipeline: str | None = None, states: Sequence[str] = ()) -> int:
    """Count the runs that `list_runs` would return without a limit."""
    query = sa.select(sa.func.count()).select_from(runs)
    if pipeline is not None:
        query = query.where(runs.c.pipeline == pipeline)
    if states:
        query = query.where(runs.c.state.in_(states))
    with database.reading() as connection:
        return int(connection.execute(query).scalar_one())


def split_by_state(database: Database, run_ids: Sequence[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return which of the runs are running, and which have ended. Unknown ones are in neither."""
    query = sa.select(runs.c.run_id, runs.c.state).where(runs.c.run_id.in_(run_ids))
    with database.reading() as connection:
        states = {row.run_id: row.state for row in connection.execute(query)}
    running = frozenset(run_id for run_id, state in states.items() if state == "running")
    return running, frozenset(states) - running


def has_published(database: Database, pipeline: Pipeline) -> bool:
    """Whether a run with this very spec has been published."""
    same = (runs.c.pipeline == pipeline.name, runs.c.spec_fingerprint == pipeline.fingerprint)
    with database.reading() as connection:
        published = (runs.c.variant == pipeline.destination.variant, runs.c.published_at.is_not(None))
        found = sa.select(runs.c.run_id).where(*same, *published).limit(1)
        return connection.execute(found).first() is not None


def list_own_runs(database: Database, pipeline: str, owner: str, since: datetime) -> list[RunRecord]:
    """Return the pipeline's runs that a process claimed since a moment, the oldest first. Challengers' are left out."""
    if not has_ledger(database):
        return []
    own = (runs.c.pipeline == pipeline, runs.c.started_at >= since, runs.c.lease_owner == owner)
    query = select_runs().where(*own, runs.c.champion_run_id.is_(None))
    return fetch_runs(database, query.order_by(runs.c.started_at, runs.c.interval_key))


def find_run(database: Database, prefix: str) -> RunRecord:
    """Return the run whose id begins with the prefix.

    Raises:
        RunNotFound: no id begins with it, or several do.
    """
    if not has_ledger(database):
        raise RunNotFound(prefix)
    # A range, because SQLite has no index for LIKE. Ids are hexadecimal, so `~` is after all their characters.
    begins = (runs.c.run_id >= prefix, runs.c.run_id <= f"{prefix}~")
    found = fetch_runs(database, select_runs().where(*begins).order_by(runs.c.run_id).limit(5))
    if len(found) != 1:
        raise RunNotFound(prefix, tuple(run.run_id for run in found))
    return found[0]


def touching(query: sa.Select[Any], start: datetime | None, end: datetime | None) -> sa.Select[Any]:
    """Limit a query of runs to those whose interval touches `[start, end)`. None: no limit on that side."""
    if start is not None:
        query = query.where(runs.c.interval_end > start)
    return query if end is None else query.where(runs.c.interval_start < end)


def list_published(
    database: Database,
    pipeline: str,
    start: datetime | None = None,
    end: datetime | None = None,
    newest: int | None = None,
) -> list[RunRecord]:
    """Return a pipeline's published runs, whatever their destination, the oldest interval first.

    Args:
        start, end: Take only intervals that touch `[start, end)`.
        newest: Take only as many, those of the newest intervals.
    """
    if not has_ledger(database):
        return []
    query = select_runs().where(runs.c.pipeline == pipeline, runs.c.state == "published", runs.c.variant == LIVE)
    query = touching(query, start, end).order_by(runs.c.interval_start.desc(), runs.c.started_at.desc())
    return fetch_runs(database, query if newest is None else query.limit(newest))[::-1]


def find_published(database: Database, pipeline: Pipeline, key: str) -> RunRecord:
    """Return the published run of one interval in the pipeline's destination.

    Raises:
        RunNotFound: there is none.
    """
    if not has_ledger(database):
        raise RunNotFound(key)
    with database.reading() as connection:
        place = destination_name(connection, pipeline.destination)
    here = (runs.c.destination == place, runs.c.interval_key == key, runs.c.state == "published")
    found = fetch_runs(database, select_runs().where(*here, runs.c.variant == pipeline.destination.variant))
    if not found:
        raise RunNotFound(key)
    return found[0]


def partitions_of(database: Database, run_id: str) -> list[PartitionRecord]:
    columns = [partitions.c[name] for name in PartitionRecord.__dataclass_fields__]
    query = sa.select(*columns).where(partitions.c.run_id == run_id).order_by(partitions.c.partition)
    with database.reading() as connection:
        rows = connection.execute(query).mappings().all()
    return [PartitionRecord(**(dict(row) | {"seconds": json.loads(row["seconds"])})) for row in rows]


def rows_done(database: Database, run_ids: Sequence[str]) -> int:
    """Return how many rows of these runs are in loaded partitions, for a progress bar."""
    query = sa.select(sa.func.sum(partitions.c.rows_extracted)).where(partitions.c.run_id.in_(run_ids))
    with database.reading() as connection:
        return int(connection.execute(query).scalar() or 0)


def validations_of(database: Database, run_id: str) -> list[Validation]:
    """Return a run's validations, those of its partitions added up, the worst outcome first."""
    names = ("stage", "expectation", "severity", "evaluated", "unexpected", "outcome", "partition")
    # NULL: written by a process of version 6 that went on working while the ledger was upgraded. Its detail has the
    # counts, and those of `values` are not written before it.
    added = {"unit": "values", "observed": validations.c.detail, "released": 0}
    later = [sa.func.coalesce(validations.c[name], instead).label(name) for name, instead in added.items()]
    query = (
        sa.select(*(validations.c[name] for name in names), *later)
        .where(validations.c.run_id == run_id)
        .order_by(validations.c.partition, validations.c.number)
    )
    with database.reading() as connection:
        found = [Validation(**row) for row in connection.execute(query).mappings()]
    return sorted(add_up(found), key=lambda v: -_WORST.index(v.outcome))


_WORST = ("passed", "vacuous", "noted", "quarantined", "halted")


def add_up(found: Sequence[Validation]) -> list[Validation]:
    """Add up the partitions' validations of one expectation: summed counts, the worst outcome and its observation."""
    totals: dict[tuple[str, str, str, bool], Validation] = {}
    for v in found:
        key = (v.stage, v.expectation, v.severity, v.partition < 0)
        old = totals.get(key)
        if old is None:
            totals[key] = v
            continue
        outcomes = {old.outcome, v.outcome} - ({"vacuous"} if {old.outcome, v.outcome} != {"vacuous"} else set())
        outcome = max(outcomes, key=_WORST.index)
        totals[key] = replace(
            old,
            evaluated=old.evaluated + v.evaluated,
            unexpected=old.unexpected + v.unexpected,
            outcome=outcome,
            observed=old.observed if old.outcome == outcome and old.observed else v.observed,
            partition=min(old.partition, v.partition),
            released=old.released + v.released,
        )
    return list(totals.values())
