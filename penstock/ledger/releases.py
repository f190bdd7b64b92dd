"""Releases from quarantine: recorded here, applied by the next run, completed when that run is published."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import RunNotFound, SettingsError, WrongState
from penstock.ledger.destinations import LIVE, lock_run
from penstock.ledger.migrations import has_ledger
from penstock.ledger.quarantine import ENDED, QuarantinedRow
from penstock.ledger.tables import quarantine, releases, runs
from penstock.run_types import ScoringRun
from penstock.spec.stages import KEY_IS_NULL, MODEL


def waivable(row: QuarantinedRow) -> tuple[str, ...]:
    """Return the reasons that a release can waive: all but a value that the model cannot take and a missing key."""
    return () if row.stage == MODEL else tuple(reason for reason in row.reasons if reason != KEY_IS_NULL)


def release_rows(database: Database, run_id: str, rows: Sequence[QuarantinedRow], by: str, note: str) -> int:
    """Release refused rows of one run, as they were judged. Return how many were still held.

    One transaction, under the interval's lock: a run that is claimed later sees all of it, one that was claimed
    before sees none of it. Repeating it changes nothing.

    Raises:
        WrongState: the run was replaced meanwhile, or has not ended.
        SettingsError: it is a challenger's run, or a sandbox's.
    """
    if not has_ledger(database):
        raise RunNotFound(run_id)
    with database.writing() as connection:
        run = connection.execute(sa.select(runs).where(runs.c.run_id == run_id)).mappings().one()
        if run["champion_run_id"] is not None:
            raise SettingsError(
                f"run {run_id[:8]} is a challenger's, and no run scores its rows again",
                f"Release the rows of its champion's run {run['champion_run_id'][:8]}.",
            )
        if run["variant"] != LIVE:
            raise SettingsError(
                f"run {run_id[:8]} is of {run['variant']}, and releases are decided for the rows that readers see",
                "Release the rows of the live run of the interval. A sandbox scores them from then on too.",
            )
        lock_run(connection, run)
        state = connection.execute(sa.select(runs.c.state).where(runs.c.run_id == run_id)).scalar_one()
        if state not in ENDED:
            raise WrongState(run_id, state, "published")
        held = [row for row in rows if _take(connection, row)]
        now = database.now(connection)
        for row in {row.digest: row for row in held}.values():
            _release(connection, row, now, by, note)
    return len(held)


def waivers_of(database: Database, run: ScoringRun) -> dict[str, frozenset[str]]:
    """Return by row digest the reasons that are waived for the run: those of releases before its claim."""
    query = sa.select(releases.c.digest, releases.c.waived).where(*_seen_by(run.run_id))
    with database.reading() as connection:
        return {digest: frozenset(json.loads(waived)) for digest, waived in connection.execute(query)}


def settle_releases(connection: sa.Connection, run_id: str) -> None:
    """Mark the releases that a live run has applied. Part of the transaction that publishes it."""
    is_live = sa.exists().where(runs.c.run_id == run_id, runs.c.variant == LIVE)
    unsettled = (*_seen_by(run_id), releases.c.settled_by_run.is_(None), is_live)
    connection.execute(sa.update(releases).where(*unsettled).values(settled_by_run=run_id))


def pending_releases(database: Database, pipeline: str) -> dict[str, int]:
    """Return by interval key how many released rows wait for a run."""
    if not has_ledger(database):
        return {}
    waiting = (releases.c.pipeline == pipeline, releases.c.settled_by_run.is_(None))
    query = sa.select(releases.c.interval_key, sa.func.count()).where(*waiting).group_by(releases.c.interval_key)
    with database.reading() as connection:
        return {str(key): int(rows) for key, rows in connection.execute(query)}


def _seen_by(run_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions for releases before the run's claim of rows that may lie in its interval.

    After a change of the grain a row lies in another interval than that of the run that refused it.
    """
    run, refusing = runs.alias("run"), runs.alias("refusing")

    def of_run(column: "sa.Column[Any]") -> "sa.ScalarSelect[Any]":
        return sa.select(column).where(runs.c.run_id == run_id).scalar_subquery()

    either_is_a_snapshot = sa.or_(run.c.interval_start.is_(None), refusing.c.interval_start.is_(None))
    overlap = sa.and_(refusing.c.interval_start < run.c.interval_end, refusing.c.interval_end > run.c.interval_start)
    both = (run.c.run_id == run_id, refusing.c.run_id == releases.c.refused_by_run)
    touched = sa.exists().where(*both, sa.or_(either_is_a_snapshot, overlap))
    return (
        releases.c.pipeline == of_run(runs.c.pipeline),
        sa.or_(releases.c.interval_key == of_run(runs.c.interval_key), touched),
        releases.c.released_at <= of_run(runs.c.started_at),
    )


def _take(connection: sa.Connection, row: QuarantinedRow) -> bool:
    place = (
        quarantine.c.run_id == row.run_id,
        quarantine.c.partition == row.partition,
        quarantine.c.number == row.number,
    )
    held = connection.execute(sa.select(quarantine.c.state).where(*place)).scalar() == "held"
    if held:
        connection.execute(sa.update(quarantine).where(*place).values(state="released", digest=row.digest))
    return held


def _release(connection: sa.Connection, row: QuarantinedRow, now: datetime, by: str, note: str) -> None:
    identity = {"pipeline": row.pipeline, "interval_key": row.interval_key, "digest": row.digest}
    same = [releases.c[name] == value for name, value in identity.items()]
    before = connection.execute(sa.select(releases.c.waived).where(*same)).scalar()
    waived = {*waivable(row), *(json.loads(before) if before else ())}
    decided: Mapping[str, Any] = {
        "waived": json.dumps(sorted(waived), ensure_ascii=False),
        "refused_by_run": row.run_id,
        "released_at": now,
        "released_by": by,
        "note": note,
        "settled_by_run": None,
    }
    if before is not None:
        connection.execute(sa.update(releases).where(*same).values(**decided))
        return
    what = {"stage": row.stage, "source": row.source, "key": row.key}
    connection.execute(releases.insert().values(**identity, **what, **decided))
