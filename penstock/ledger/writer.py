"""Changes of a run's state. Each is one transaction that first locks the interval, so that claims, publishes and
withdraws of one interval take turns on every database."""

import json
import os
import socket
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import IntervalBusy, KeyCollision, RunNotFound, TakenOver, WrongState
from penstock.interval import DataInterval, iso
from penstock.ledger.interval_lock import lock_interval
from penstock.ledger.migrations import migrate
from penstock.ledger.pins import write_pins
from penstock.ledger.releases import settle_releases
from penstock.ledger.tables import intervals, runs, validations
from penstock.resources.usage import Usage
from penstock.run_types import ModelPin, Pins, ScoringRun, SourcePlan, Validation, interval_label
from penstock.spec.pipeline import Pipeline

INTERVAL_STAGE = -1
"""The partition number of what was judged over the whole interval."""
CONTRACT_STAGE = -2
"""The partition number of what was judged before any row was read."""


@dataclass(frozen=True)
class Totals:
    """A run's row counts. They must add up."""

    extracted: int
    scored: int
    quarantined: int
    excluded: int


@dataclass(frozen=True)
class ClaimRequest:
    """The interval that a run asks for, and what it will score it with."""

    pipeline: Pipeline
    interval: DataInterval | None
    """None for a snapshot."""
    model: ModelPin
    """The version that decides."""
    reason: str
    """Why the interval is scored: `due`, `late rows`, `restate` …"""
    lease_seconds: float
    """How long the run keeps the interval without renewing its lease."""
    again: bool = False
    """Whether to score an interval that is published already."""
    variant: str = "live"
    flow_run_id: str | None = None
    steps: Pins = field(default_factory=dict)
    """Every step's version, where the pipeline has `models`."""


def claim(database: Database, request: ClaimRequest) -> ScoringRun | None:
    """Take an interval under a lease. None where it is published already and the request is not `again`.

    Raises:
        IntervalBusy: a run whose lease has not ended has the interval.
    """
    migrate(database)
    run = ScoringRun(
        run_id=uuid.uuid4().hex,
        pipeline=request.pipeline,
        interval=request.interval,
        model=request.model,
        lease_token=uuid.uuid4().hex,
        variant=request.variant,
        flow_run_id=request.flow_run_id,
        steps=request.steps,
    )
    pipeline, interval, model = run.pipeline, run.interval, run.model
    same = _same_interval(pipeline.name, run.interval_key, run.variant)
    _ensure_guard(database, run)
    try:
        with database.writing() as connection:
            lock_interval(connection, pipeline.name, run.interval_key, run.variant)
            now = database.now(connection)
            live = connection.execute(
                sa.select(runs).where(*same, runs.c.state.in_(("running", "published")))
            ).mappings()
            for other in live.all():
                if other["state"] == "published":
                    if not request.again:
                        return None
                elif other["lease_until"] > now:
                    raise _busy(run, other)
                else:
                    error = "its lease ended without being renewed"
                    _retire(connection, other["run_id"], "abandoned", now, run.run_id, error)
            connection.execute(
                runs.insert().values(
                    run_id=run.run_id,
                    pipeline=pipeline.name,
                    interval_key=run.interval_key,
                    interval_start=interval.start if interval else None,
                    interval_end=interval.end if interval else None,
                    timezone=pipeline.timezone,
                    variant=run.variant,
                    reason=request.reason,
                    state="running",
                    model_name=model.name,
                    model_version=model.version,
                    model_digest=model.digest,
                    step_models=write_pins(run.steps),
                    spec_fingerprint=pipeline.fingerprint,
                    destination_table=pipeline.destination.table,
                    lease_token=run.lease_token,
                    lease_owner=f"{socket.gethostname()}:{os.getpid()}",
                    lease_until=now + timedelta(seconds=request.lease_seconds),
                    flow_run_id=run.flow_run_id,
                    started_at=now,
                )
            )
    except KeyCollision:
        with database.reading() as connection:
            winner = connection.execute(sa.select(runs).where(*same, runs.c.state == "running")).mappings().first()
        if winner is None:
            raise
        raise _busy(run, winner) from None
    return run


def renew(database: Database, run: ScoringRun, lease_seconds: float) -> None:
    """Renew the run's lease.

    Raises:
        TakenOver: another run has taken the interval.
    """
    with database.writing() as connection:
        until = database.now(connection) + timedelta(seconds=lease_seconds)
        ours = (runs.c.run_id == run.run_id, runs.c.state == "running", runs.c.lease_token == run.lease_token)
        connection.execute(sa.update(runs).where(*ours).values(lease_until=until))
        _check_lease(connection, run)


def record_plan(database: Database, run: ScoringRun, source_plan: SourcePlan) -> None:
    """Store what planning saw of the primary source."""
    with database.writing() as connection:
        _check_lease(connection, run)
        connection.execute(
            sa.update(runs)
            .where(runs.c.run_id == run.run_id)
            .values(
                rows_planned=source_plan.rows,
                partitions=len(source_plan.partitions),
                source_fingerprint=source_plan.fingerprint,
                memory=source_plan.fit.to_json() if source_plan.fit else None,
            )
        )


def record_validations(
    database: Database, run: ScoringRun, found: Sequence[Validation], stage: int = INTERVAL_STAGE
) -> None:
    """Store what was judged over the whole interval. Repeating it replaces."""
    with database.writing() as connection:
        mine = (validations.c.run_id == run.run_id, validations.c.partition == stage)
        connection.execute(sa.delete(validations).where(*mine))
        if found:
            connection.execute(validations.insert(), validation_rows(run.run_id, found))


def validation_rows(run_id: str, found: Sequence[Validation]) -> list[dict[str, Any]]:
    return [
        {
            "run_id": run_id,
            "partition": v.partition,
            "number": number,
            "stage": v.stage,
            "expectation": v.expectation,
            "severity": v.severity,
            "evaluated": v.evaluated,
            "unexpected": v.unexpected,
            "outcome": v.outcome,
            "detail": v.detail,
            "unit": v.unit,
            "observed": v.observed,
            "released": v.released,
        }
        for number, v in enumerate(found)
    ]


def publish(
    database: Database, run: ScoringRun, totals: Totals, quantiles: Sequence[float], usage: Usage | None = None
) -> str | None:
    """Make the run's rows the live ones. Return the id of the run that it supersedes.

    Safe to repeat: where an answer was lost, the second call finds the run published and changes nothing.

    Raises:
        TakenOver: another run has taken the interval; nothing changes.
    """
    with database.writing() as connection:
        lock_interval(connection, run.pipeline.name, run.interval_key, run.variant)
        state, token = _state(connection, run.run_id)
        same = _same_interval(run.pipeline.name, run.interval_key, run.variant)
        if state == "published" and token == run.lease_token:
            return None
        if state != "running" or token != run.lease_token:
            raise TakenOver(run.run_id, state)
        now = database.now(connection)
        old = connection.execute(sa.select(runs.c.run_id).where(*same, runs.c.state == "published")).scalar()
        if old is not None:
            _retire(connection, old, "superseded", now, run.run_id)
        connection.execute(
            sa.update(runs)
            .where(runs.c.run_id == run.run_id)
            .values(
                state="published",
                rows_extracted=totals.extracted,
                rows_scored=totals.scored,
                rows_quarantined=totals.quarantined,
                rows_excluded=totals.excluded,
                # Without a fingerprint the interval is late inside `lookback`: other rows were read than counted.
                source_fingerprint=sa.case(
                    (runs.c.rows_planned != totals.extracted, None), else_=runs.c.source_fingerprint
                ),
                score_quantiles=json.dumps(list(quantiles)),
                published_at=now,
                finished_at=now,
                **_spent(usage),
            )
        )
        settle_releases(connection, run)
        return None if old is None else str(old)


def end_run(
    database: Database,
    run: ScoringRun,
    state: str,
    error: str,
    totals: Totals | None = None,
    usage: Usage | None = None,
) -> None:
    """Move a run from `running` to an end state. A run that was taken over stays as it is."""
    counts = _spent(usage) | ({} if totals is None else {f"rows_{k}": v for k, v in vars(totals).items()})
    with database.writing() as connection:
        now = database.now(connection)
        ours = (runs.c.run_id == run.run_id, runs.c.state == "running", runs.c.lease_token == run.lease_token)
        connection.execute(sa.update(runs).where(*ours).values(state=state, error=error, finished_at=now, **counts))


def withdraw(database: Database, run_id: str) -> str:
    """Take a published run's rows back out of the view. Return its state before.

    Raises:
        WrongState: the run is not published.
    """
    migrate(database)
    with database.writing() as connection:
        row = connection.execute(sa.select(runs).where(runs.c.run_id == run_id)).mappings().first()
        if row is None:
            raise RunNotFound(run_id)
        lock_interval(connection, row["pipeline"], row["interval_key"], row["variant"])
        state, _ = _state(connection, run_id)
        if state != "published":
            raise WrongState(run_id, state, "published")
        _retire(connection, run_id, "withdrawn", database.now(connection))
        return state


def _spent(usage: Usage | None) -> dict[str, Any]:
    return {} if usage is None else asdict(usage)


def _same_interval(pipeline: str, key: str, variant: str) -> tuple[sa.ColumnElement[bool], ...]:
    return runs.c.pipeline == pipeline, runs.c.interval_key == key, runs.c.variant == variant


def _ensure_guard(database: Database, run: ScoringRun) -> None:
    key = {"pipeline": run.pipeline.name, "interval_key": run.interval_key, "variant": run.variant}
    match = [intervals.c[name] == value for name, value in key.items()]
    with database.reading() as connection:
        if connection.execute(sa.select(intervals.c.guard).where(*match)).first():
            return
    try:
        with database.writing() as connection:
            connection.execute(intervals.insert().values(**key, guard=0))
    except KeyCollision:
        pass  # another run has just made the same row


def _state(connection: sa.Connection, run_id: str) -> tuple[str, str]:
    row = connection.execute(sa.select(runs.c.state, runs.c.lease_token).where(runs.c.run_id == run_id)).one()
    return str(row[0]), str(row[1])


def _check_lease(connection: sa.Connection, run: ScoringRun) -> None:
    state, token = _state(connection, run.run_id)
    if state != "running" or token != run.lease_token:
        raise TakenOver(run.run_id, state)


def _retire(
    connection: sa.Connection,
    run_id: str,
    state: str,
    now: datetime,
    replaced_by_run_id: str | None = None,
    error: str | None = None,
) -> None:
    values: dict[str, Any] = {"state": state, "retired_at": now, "replaced_by_run_id": replaced_by_run_id}
    if error is not None:
        values |= {"error": error, "finished_at": now}
    connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(**values))


def _busy(run: ScoringRun, other: Any) -> IntervalBusy:
    until = iso(other["lease_until"].astimezone(UTC).replace(microsecond=0))
    return IntervalBusy(run.pipeline.name, interval_label(run.interval), other["run_id"], until)
