"""Runs whose process died: give their intervals free, and name the ones that a person must start again."""

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.interval import DataInterval, iso
from penstock.ledger.destinations import LIVE, lock_run
from penstock.ledger.migrations import has_ledger
from penstock.ledger.tables import runs
from penstock.ledger.writer import LEASE_ENDED, RESTATE, retire

PROCESS_DIED = "its process died"
BACKFILL = "backfill"
_DONE_OR_WORKING = ("running", "audited", "published", "superseded", "withdrawn")


@dataclass(frozen=True)
class UnfinishedRun:
    """A run that died and that no due run repeats."""

    run_id: str
    pipeline: str
    interval: DataInterval
    reason: str

    @property
    def command(self) -> str:
        """The command that scores its interval."""
        restate = " --restate" if self.reason == RESTATE else ""
        start, end = iso(self.interval.start), iso(self.interval.end)
        return f"penstock run {self.pipeline}{restate} --start {start} --end {end}"

    def describe(self) -> str:
        """Say what died, and how to start it again."""
        return (
            f"run {self.run_id[:8]} of {self.pipeline} ({self.reason} of {self.interval.label}) died before it was "
            f"done, and no due run repeats it. Start it again: `{self.command}`"
        )


def abandon_dead_runs(database: Database, pipeline: str | None = None) -> list[str]:
    """Mark running runs whose lease has ended as abandoned. Return their ids."""
    where = () if pipeline is None else (runs.c.pipeline == pipeline,)
    return _abandon(database, *where, error=LEASE_ENDED, ended=True)


def abandon_runs_of(database: Database, flow_run_ids: Collection[str]) -> list[str]:
    """Mark the running runs of dead flow runs as abandoned, whatever their lease. Return their ids."""
    return _abandon(database, runs.c.flow_run_id.in_(flow_run_ids), error=PROCESS_DIED, ended=False)


def _abandon(database: Database, *where: sa.ColumnElement[bool], error: str, ended: bool) -> list[str]:
    if not has_ledger(database):
        return []
    with database.reading() as connection:
        late = (runs.c.lease_until < database.now(connection),) if ended else ()
        running = sa.select(runs).where(runs.c.state == "running", *where, *late)
        found = connection.execute(running.order_by(runs.c.started_at)).mappings().all()
    return [str(row["run_id"]) for row in found if _abandon_one(database, row, error, ended=ended)]


def _abandon_one(database: Database, row: sa.RowMapping, error: str, *, ended: bool) -> bool:
    """Mark a run as abandoned, unless it has ended or renewed its lease since it was read."""
    with database.writing() as connection:
        lock_run(connection, row)
        now = database.now(connection)
        columns = (runs.c.state, runs.c.lease_until)
        state, lease_until = connection.execute(sa.select(*columns).where(runs.c.run_id == row["run_id"])).one()
        if state != "running" or (ended and lease_until >= now):
            return False
        retire(connection, row["run_id"], "abandoned", now, error=error)
        return True


def find_unfinished(database: Database, pipeline: str | None = None) -> list[UnfinishedRun]:
    """Return restates and backfills that died and whose interval no later run has scored, oldest interval first."""
    if not has_ledger(database):
        return []
    later = runs.alias("later")
    scored_since = sa.exists().where(
        later.c.destination == runs.c.destination,
        later.c.variant == runs.c.variant,
        later.c.state.in_(_DONE_OR_WORKING),
        later.c.started_at > runs.c.started_at,
        later.c.interval_start <= runs.c.interval_start,
        later.c.interval_end >= runs.c.interval_end,
    )
    columns = (runs.c.run_id, runs.c.pipeline, runs.c.interval_start, runs.c.interval_end, runs.c.timezone)
    query = sa.select(*columns, runs.c.reason).where(
        runs.c.state == "abandoned", runs.c.variant == LIVE, runs.c.reason.in_((RESTATE, BACKFILL)), ~scored_since
    )
    if pipeline is not None:
        query = query.where(runs.c.pipeline == pipeline)
    with database.reading() as connection:
        found = connection.execute(query.order_by(runs.c.interval_start, runs.c.started_at)).all()
    newest = {
        (name, start, end): UnfinishedRun(run_id, name, DataInterval(start, end, zone or "UTC"), reason)
        for run_id, name, start, end, zone, reason in found
    }
    return list(newest.values())
