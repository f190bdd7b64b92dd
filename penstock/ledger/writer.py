"""Changes of a run's state. Each is one transaction that first locks the destination, then the interval, so that
claims, publishes and withdraws take turns on every database, also those of overlapping intervals."""

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import OverlappingRuns, RunNotFound, TakenOver, WrongState
from penstock.interval import covers, is_covered
from penstock.ledger.destinations import (
    PlacedRun,
    destination_name,
    find_overlapping,
    lock_pointer,
    lock_run,
    owns,
    read_placed,
)
from penstock.ledger.drift_answers import record_reminders
from penstock.ledger.migrations import has_ledger
from penstock.ledger.profiles import replace_profiles
from penstock.ledger.releases import settle_releases
from penstock.ledger.tables import runs, validations
from penstock.resources.usage import Usage
from penstock.run_types import (
    ColumnProfile,
    ScoringRun,
    SourcePlan,
    Validation,
    interval_label,
)
from penstock.wording import plural

INTERVAL_STAGE = -1
"""The partition number of what was judged over the whole interval."""
CONTRACT_STAGE = -2
"""The partition number of what was judged before any row was read."""
RESTATE = "restate"
"""The reason of a run that a person wants although its interval is done."""
LEASE_ENDED = "its lease ended without being renewed"
NEWER_BEGAN = "a newer run of its interval began"


@dataclass(frozen=True)
class Totals:
    """A run's row counts. They must add up."""

    extracted: int
    scored: int
    quarantined: int
    excluded: int
    explained: int | None = None
    """Rows with reasons. None: the pipeline asks for none."""
    over_budget: int | None = None
    """Rows that the budget of `reasons` left without."""


def refuse_partial_overlaps(run: ScoringRun, published: Sequence[PlacedRun]) -> None:
    """Refuse an interval that overlaps a published run which it does not cover.

    Raises:
        OverlappingRuns: there is such a run.
    """
    partial = [other for other in published if not covers(run.interval, other.interval)]
    if partial:
        named = tuple(f"{other.run_id[:8]} {other.label}" for other in partial)
        raise OverlappingRuns(run.pipeline.name, interval_label(run.interval), named)


def renew(database: Database, run: ScoringRun, lease_seconds: float) -> None:
    """Renew the run's lease.

    Raises:
        TakenOver: another run has taken the interval.
    """
    with database.writing() as connection:
        until = database.now(connection) + timedelta(seconds=lease_seconds)
        ours = (runs.c.run_id.in_(run.claimed_ids), runs.c.state == "running", runs.c.lease_token == run.lease_token)
        connection.execute(sa.update(runs).where(*ours).values(lease_until=until))
        _check_lease(connection, run)


def record_plan(database: Database, run: ScoringRun, source_plan: SourcePlan) -> None:
    """Store what planning saw of the primary source, for the run and its challengers' runs."""
    with database.writing() as connection:
        _check_lease(connection, run)
        connection.execute(
            sa.update(runs)
            .where(runs.c.run_id.in_(run.claimed_ids))
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
        _replace_validations(connection, run, found, stage)


def record_audit(
    database: Database,
    run: ScoringRun,
    found: Sequence[Validation],
    profiles: Sequence[ColumnProfile],
    announced: Sequence[str],
) -> None:
    """Store what the audit judged, and the profiles, in one transaction. Repeating it replaces.

    Args:
        announced: The columns about whose drift a message is sent.
    """
    with database.writing() as connection:
        _replace_validations(connection, run, found, INTERVAL_STAGE)
        replace_profiles(connection, run.run_id, profiles)
        record_reminders(connection, run.run_id, run.pipeline.name, announced)


def _replace_validations(connection: sa.Connection, run: ScoringRun, found: Sequence[Validation], stage: int) -> None:
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


@dataclass(frozen=True)
class Publication:
    """What a publish did."""

    superseded: tuple[str, ...] = ()
    """The runs whose rows it replaced."""
    together_with: tuple[str, ...] = ()
    """Audited runs of other intervals that were published in the same transaction."""
    waits_to_cover: tuple[PlacedRun, ...] = ()
    """Published runs that this one covers in part. It stays `audited` until others cover the rest of them."""

    def describe(self, scores: int) -> str:
        """Say what readers see of the run's scores now."""
        if self.waits_to_cover:
            named = ", ".join(f"{run.run_id[:8]} ({run.label})" for run in self.waits_to_cover)
            audited = plural(scores, "score")
            return f"{audited} audited; they are published when all intervals that cover run {named} are scored"
        return f"{plural(scores, 'score')} published" + self._describe_others()

    def _describe_others(self) -> str:
        together = f", together with the runs {', '.join(self.together_with)}" if self.together_with else ""
        return together + (f", superseding {', '.join(self.superseded)}" if self.superseded else "")


def publish(
    database: Database, run: ScoringRun, totals: Totals, quantiles: Sequence[float], usage: Usage | None = None
) -> Publication:
    """Make the run's rows the live ones, in place of all published runs that its interval covers.

    A restate whose interval covers a published run only in part becomes `audited`. The run of the last interval that
    covers the rest publishes all of them in one transaction, so readers never see a gap or a row twice.

    Safe to repeat: where an answer was lost, the second call finds the run published and changes nothing.

    Raises:
        TakenOver: another run has taken the interval, or another pipeline the destination; nothing changes.
        OverlappingRuns: the interval covers a published run in part, and the run is no restate.
    """
    with database.writing() as connection:
        place = destination_name(connection, run.pipeline.destination)
        lock_pointer(connection, place, run.pipeline.name, run.interval_key, run.variant)
        columns = (runs.c.state, runs.c.lease_token, runs.c.reason)
        state, token, reason = connection.execute(sa.select(*columns).where(runs.c.run_id == run.run_id)).one()
        if token == run.lease_token and state == "published":
            return Publication()
        if token == run.lease_token and state == "audited":
            return Publication(waits_to_cover=tuple(_find_group(connection, place, run).uncovered))
        if state != "running" or token != run.lease_token or not owns(connection, place, run.pipeline.name):
            raise TakenOver(run.run_id, state)
        now = database.now(connection)
        group = _find_group(connection, place, run)
        if group.uncovered and reason != RESTATE:
            refuse_partial_overlaps(run, group.replaced)
        values = publish_values(totals, quantiles, now) | _spent(usage)
        itself = runs.c.run_id == run.run_id
        if group.uncovered:
            connection.execute(sa.update(runs).where(itself).values(state="audited", **values))
            return Publication(waits_to_cover=tuple(group.uncovered))
        for other in group.replaced:
            newer = next(m for m in group.members if m.overlaps(other.interval))
            retire(connection, other.run_id, "superseded", now, newer.run_id)
        connection.execute(sa.update(runs).where(itself).values(**values))
        for member in group.members:
            shown = {"state": "published", "published_at": now}
            connection.execute(sa.update(runs).where(runs.c.run_id == member.run_id).values(**shown))
            settle_releases(connection, member.run_id)
        others = tuple(member.run_id for member in group.members if member.run_id != run.run_id)
        return Publication(tuple(other.run_id for other in group.replaced), others)


def publish_values(totals: Totals, quantiles: Sequence[float], now: datetime) -> dict[str, Any]:
    """Return what the transaction that publishes a run writes into its row, without the state."""
    return {
        **_counted(totals),
        # Without a fingerprint the interval is late inside `lookback`: other rows were read than counted.
        "source_fingerprint": sa.case((runs.c.rows_planned != totals.extracted, None), else_=runs.c.source_fingerprint),
        "score_quantiles": json.dumps(list(quantiles)),
        "finished_at": now,
    }


def _counted(totals: Totals) -> dict[str, int | None]:
    """Return the columns of a run's counts."""
    return {f"rows_{name}": count for name, count in vars(totals).items()}


@dataclass(frozen=True)
class _Group:
    """The runs that are published together, and the published runs that they replace."""

    members: list[PlacedRun]
    replaced: list[PlacedRun]

    @property
    def uncovered(self) -> list[PlacedRun]:
        """Return the runs that the members cover only in part."""
        if any(member.interval is None for member in self.members):
            return []
        spans = [member.interval for member in self.members if member.interval]
        return [other for other in self.replaced if other.interval is None or not is_covered(other.interval, spans)]


def _find_group(connection: sa.Connection, place: str, run: ScoringRun) -> _Group:
    """Return the run with the audited runs that help it to cover what it overlaps."""
    members = {run.run_id: read_placed(connection, run.run_id)}
    while True:
        replaced: dict[str, PlacedRun] = {}
        for member in members.values():
            replaced |= {o.run_id: o for o in find_overlapping(connection, place, run.variant, member.interval)}
        group = _Group(list(members.values()), list(replaced.values()))
        helpers = {
            helper.run_id: helper
            for other in group.uncovered
            for helper in find_overlapping(connection, place, run.variant, other.interval, "audited")
            if helper.run_id not in members
        }
        if not helpers:
            return group
        members |= helpers


def end_run(
    database: Database,
    run: ScoringRun,
    state: str,
    error: str,
    totals: Totals | None = None,
    usage: Usage | None = None,
    quantiles: Sequence[float] = (),
) -> None:
    """Move a run from `running` to an end state, with its challengers' runs. One that was taken over stays as it is.

    Args:
        totals, quantiles: What the audit has counted, if the run came so far.
    """
    counts = _spent(usage) | ({} if totals is None else _counted(totals))
    if quantiles:
        counts["score_quantiles"] = json.dumps(list(quantiles))
    with database.writing() as connection:
        now = database.now(connection)
        ours = (runs.c.run_id == run.run_id, runs.c.state == "running", runs.c.lease_token == run.lease_token)
        connection.execute(sa.update(runs).where(*ours).values(state=state, error=error, finished_at=now, **counts))
        if run.challengers:
            theirs = (runs.c.run_id.in_(run.claimed_ids[1:]), *ours[1:])
            why = f"it ended with its champion's run {run.run_id[:8]}: {error}"
            connection.execute(sa.update(runs).where(*theirs).values(state=state, error=why, finished_at=now))


def end_claimed(database: Database, flow_run_id: str, error: str) -> None:
    """Move a run that this process claimed for a flow run from `running` to `failed`."""
    ours = (runs.c.flow_run_id == flow_run_id, runs.c.state == "running", runs.c.lease_owner == this_process())
    with database.writing() as connection:
        now = database.now(connection)
        connection.execute(sa.update(runs).where(*ours).values(state="failed", error=error, finished_at=now))


def withdraw(database: Database, run_id: str) -> str:
    """Take a published run's rows back out of the view. Return its state before.

    Raises:
        WrongState: the run is not published.
    """
    if not has_ledger(database):
        raise RunNotFound(run_id)
    with database.writing() as connection:
        row = connection.execute(sa.select(runs).where(runs.c.run_id == run_id)).mappings().first()
        if row is None:
            raise RunNotFound(run_id)
        lock_run(connection, row)
        state, _ = _state(connection, run_id)
        if state != "published":
            raise WrongState(run_id, state, "published")
        retire(connection, run_id, "withdrawn", database.now(connection))
        return state


def _spent(usage: Usage | None) -> dict[str, Any]:
    return {} if usage is None else asdict(usage)


def this_process() -> str:
    """Return the owner of the leases that this process takes."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _state(connection: sa.Connection, run_id: str) -> tuple[str, str]:
    row = connection.execute(sa.select(runs.c.state, runs.c.lease_token).where(runs.c.run_id == run_id)).one()
    return str(row[0]), str(row[1])


def _check_lease(connection: sa.Connection, run: ScoringRun) -> None:
    state, token = _state(connection, run.run_id)
    if state != "running" or token != run.lease_token:
        raise TakenOver(run.run_id, state)


def retire(
    connection: sa.Connection,
    run_id: str,
    state: str,
    now: datetime,
    replaced_by_run_id: str | None = None,
    error: str | None = None,
) -> None:
    """Move a run to the state of one that was replaced or given up. Part of a transaction that has locked it."""
    values: dict[str, Any] = {"state": state, "retired_at": now, "replaced_by_run_id": replaced_by_run_id}
    if error is not None:
        values |= {"error": error, "finished_at": now}
    connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(**values))
