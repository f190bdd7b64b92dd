"""Claims: a run takes an interval under a lease, with the runs of its challengers, in one transaction."""

import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import IntervalBusy
from penstock.interval import DataInterval, iso
from penstock.ledger.destinations import (
    PlacedRun,
    adopt_older_runs,
    ensure_locks,
    find_overlapping,
    lock_pointer,
    take_ownership,
)
from penstock.ledger.migrations import migrate
from penstock.ledger.pins import write_pins
from penstock.ledger.tables import runs
from penstock.ledger.writer import LEASE_ENDED, NEWER_BEGAN, RESTATE, refuse_partial_overlaps, retire, this_process
from penstock.run_types import (
    NO_CHALLENGERS,
    Challengers,
    ModelPin,
    PinnedChallenger,
    Pins,
    ScoringRun,
    interval_label,
)
from penstock.spec.pipeline import Pipeline


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
    flow_run_id: str | None = None
    steps: Pins = field(default_factory=dict)
    """Every step's version, where the pipeline has `models`."""
    challengers: Challengers = NO_CHALLENGERS
    """Versions that score the same rows, each in a run of its own that the claim makes too."""


def claim(database: Database, request: ClaimRequest) -> ScoringRun | None:
    """Take an interval under a lease. None where it is published already and the request is not `again`.

    Raises:
        IntervalBusy: a run whose lease has not ended has the interval, or one that overlaps it.
        DestinationTaken: the destination belongs to another pipeline.
        DestinationDisputed: live runs of the destination overlap, from before the ledger refused it.
        OverlappingRuns: the interval covers a published run only in part, and the run is no restate.
    """
    migrate(database)
    run = ScoringRun(
        run_id=uuid.uuid4().hex,
        pipeline=request.pipeline,
        interval=request.interval,
        model=request.model,
        lease_token=uuid.uuid4().hex,
        variant=request.pipeline.destination.variant,
        flow_run_id=request.flow_run_id,
        steps=request.steps,
        left_out=request.challengers.left_out,
    )
    pipeline, interval = run.pipeline, run.interval
    place = ensure_locks(database, pipeline, run.interval_key, run.variant)
    for each in request.challengers.pinned:
        ensure_locks(database, pipeline, run.interval_key, each.variant)
    with database.writing() as connection:
        lock_pointer(connection, place, pipeline.name, run.interval_key, run.variant)
        now = database.now(connection)
        adopt_older_runs(connection, place, pipeline)
        take_ownership(connection, place, pipeline.name, now)
        for other in find_overlapping(connection, place, run.variant, interval, "running"):
            if other.lease_until > now:
                if _is_own_orphan(connection, other, run):
                    return _take_up(connection, run, other, request)
                raise _busy(run, other)
            retire(connection, other.run_id, "abandoned", now, run.run_id, LEASE_ENDED)
        _follow_abandoned(connection, place, run)
        published = find_overlapping(connection, place, run.variant, interval)
        if not request.again and any(other.interval == interval for other in published):
            return None
        if request.reason != RESTATE:
            refuse_partial_overlaps(run, published)
        for other in find_overlapping(connection, place, run.variant, interval, "audited"):
            retire(connection, other.run_id, "abandoned", now, run.run_id, NEWER_BEGAN)
        _insert(connection, place, run, request, now)
        return _claim_challengers(connection, place, run, request, now)


def _insert(connection: sa.Connection, place: str, run: ScoringRun, request: ClaimRequest, now: datetime) -> None:
    pipeline, interval, model = run.pipeline, run.interval, run.model
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
            destination=place,
            lease_token=run.lease_token,
            lease_owner=this_process(),
            lease_until=now + timedelta(seconds=request.lease_seconds),
            flow_run_id=run.flow_run_id,
            started_at=now,
            champion_run_id=run.champion_run_id,
            share=run.share if run.share < 1 else None,
        )
    )


def _claim_challengers(
    connection: sa.Connection, place: str, run: ScoringRun, request: ClaimRequest, now: datetime
) -> ScoringRun:
    """Return the run with its challengers' runs. An older run of a challenger that still works is given up."""
    claimed = []
    for each in request.challengers.pinned:
        own = _as_challenger(run, each, uuid.uuid4().hex)
        lock_pointer(connection, place, run.pipeline.name, run.interval_key, own.variant)
        for other in find_overlapping(connection, place, own.variant, run.interval, "running"):
            retire(connection, other.run_id, "abandoned", now, own.run_id, NEWER_BEGAN)
        _follow_abandoned(connection, place, own)
        _insert(connection, place, own, request, now)
        claimed.append(own)
    return replace(run, challengers=tuple(claimed))


def _take_up(connection: sa.Connection, run: ScoringRun, other: PlacedRun, request: ClaimRequest) -> ScoringRun:
    """Return a run that this process has claimed before, with the challengers' runs of that claim."""
    run = replace(run, run_id=other.run_id, lease_token=other.lease_token)
    query = sa.select(runs.c.variant, runs.c.run_id).where(runs.c.champion_run_id == run.run_id)
    ids = dict(connection.execute(query).tuples().all())
    wanted = (each for each in request.challengers.pinned if each.variant in ids)
    return replace(run, challengers=tuple(_as_challenger(run, each, ids[each.variant]) for each in wanted))


def _as_challenger(run: ScoringRun, challenger: PinnedChallenger, run_id: str) -> ScoringRun:
    """Return a challenger's run beside its champion's."""
    own = replace(run, run_id=run_id, model=challenger.pin, variant=challenger.variant, share=challenger.share)
    return replace(own, pipeline=run.pipeline.for_challengers, champion_run_id=run.run_id, challengers=(), left_out=())


def _follow_abandoned(connection: sa.Connection, place: str, run: ScoringRun) -> None:
    """Record the run as the successor of the dead runs of its interval that have none."""
    dead = [other.run_id for other in find_overlapping(connection, place, run.variant, run.interval, "abandoned")]
    without = (runs.c.run_id.in_(dead), runs.c.replaced_by_run_id.is_(None))
    if dead:
        connection.execute(sa.update(runs).where(*without).values(replaced_by_run_id=run.run_id))


def _is_own_orphan(connection: sa.Connection, other: PlacedRun, run: ScoringRun) -> bool:
    """Whether this process claimed the run before, for the same flow run, and the answer to its COMMIT was lost."""
    if run.flow_run_id is None or other.interval != run.interval or other.pipeline != run.pipeline.name:
        return False
    columns = (runs.c.flow_run_id, runs.c.lease_owner, runs.c.rows_planned)
    row = connection.execute(sa.select(*columns).where(runs.c.run_id == other.run_id)).one()
    return tuple(row) == (run.flow_run_id, this_process(), None)


def _busy(run: ScoringRun, other: PlacedRun) -> IntervalBusy:
    until = iso(other.lease_until.astimezone(UTC).replace(microsecond=0))
    return IntervalBusy(run.pipeline.name, interval_label(run.interval), other.run_id, until)
