"""Which halted runs may be published although a gate of the audit halted them: all of their rows are loaded.

The audit runs after the last partition is loaded. So a run that it halted has all of its rows, and lacks the pointer.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.database.dialects import dialect_of
from penstock.errors import AcceptRefused
from penstock.interval import iso
from penstock.ledger.destinations import LIVE, find_overlapping
from penstock.ledger.reader import RunRecord
from penstock.ledger.tables import moves, partitions, validations
from penstock.ledger.writer import INTERVAL_STAGE
from penstock.wording import plural

HALTED = "halted"
_COUNTS = ("rows_extracted", "rows_scored", "rows_quarantined", "rows_excluded")
_CORRECT = "Correct the data or the spec, and run again."
_AT_ONCE = 500


@dataclass(frozen=True)
class Obstacle:
    """Why a run cannot be accepted, and what to do instead."""

    reason: str
    remedy: str = _CORRECT


@dataclass(frozen=True)
class _Loaded:
    """What the partitions of a run have loaded."""

    partitions: int
    counts: tuple[int, ...]
    """In the order of `_COUNTS`."""


def require_acceptable(connection: sa.Connection, chosen: Sequence[RunRecord]) -> None:
    """Refuse a run that cannot be accepted now. Under the locks, nothing changes until the end of the transaction.

    Raises:
        AcceptRefused: the message says why.
    """
    found = find_obstacles(connection, chosen)
    for run in chosen:
        obstacle = _find_move(connection, run) or found.get(run.run_id) or _find_rival(connection, run)
        if obstacle is not None:
            raise AcceptRefused(run.run_id, run.pipeline, obstacle.reason, obstacle.remedy)


def is_acceptable(database: Database, run: RunRecord) -> bool:
    """Whether a run can be accepted now, as far as the ledger tells. The rows are not looked at."""
    if not list_acceptable(database, [run]):
        return False
    with database.reading() as connection:
        return _find_rival(connection, run) is None


def list_acceptable(database: Database, found: Iterable[RunRecord]) -> frozenset[str]:
    """Return the IDs of the runs that can be accepted by their own records. Other runs are not looked at."""
    halted = [run for run in found if run.state == HALTED]
    if not halted:
        return frozenset()
    with database.reading() as connection:
        return frozenset(run.run_id for run in halted) - find_obstacles(connection, halted).keys()


def accept_command(run_id: str) -> str:
    """Return the command that accepts a run. It shows what changes, and asks."""
    return f'penstock accept {run_id[:8]} --reason "why it is right"'


def find_obstacles(connection: sa.Connection, chosen: Sequence[RunRecord]) -> dict[str, Obstacle]:
    """Return by run what in its own records forbids to accept it."""
    ids = [run.run_id for run in chosen]
    loaded, halts = _read_loaded(connection, ids), _read_halts(connection, ids)
    found = {run.run_id: _judge(run, loaded.get(run.run_id), halts[run.run_id]) for run in chosen}
    return {run_id: obstacle for run_id, obstacle in found.items() if obstacle is not None}


def _judge(run: RunRecord, loaded: _Loaded | None, halts: Sequence[int]) -> Obstacle | None:
    """Judge one run by its own records.

    Args:
        halts: the partitions in which an expectation halted the run.
    """
    if run.state == "failed":
        why = f"`penstock show {run.run_id[:8]}` says why it failed."
        return Obstacle("it failed, and only a halt can be overruled", why)
    if run.state != HALTED:
        reason = f"its state is `{run.state}`, and only a halt can be overruled"
        return Obstacle(reason, "List the halted runs with `penstock runs --state halted`.")
    if run.variant != LIVE:
        return Obstacle(f"it is a run of variant {run.variant}, which readers do not see")
    if run.rows_pruned_at is not None:
        return Obstacle("its rows were pruned")
    inside = [partition + 1 for partition in halts if partition >= 0]
    if inside:
        return Obstacle(f"partition {inside[0]} was halted, so its rows were not scored")
    done = loaded or _Loaded(0, (0, 0, 0, 0))
    if run.partitions is None:
        return Obstacle("it halted before its rows were read")
    if done.partitions != run.partitions:
        reason = f"it halted when {done.partitions:,} of its {plural(run.partitions, 'partition')} had been scored"
        return Obstacle(reason)
    if INTERVAL_STAGE not in halts:
        return Obstacle("it was not halted by a gate of the audit")
    return _reconcile(run, done)


def _reconcile(run: RunRecord, done: _Loaded) -> Obstacle | None:
    """Return how the counts of a run differ, which no person can overrule."""
    extracted, *parts = done.counts
    if extracted != sum(parts):
        read = plural(extracted, "row was", "rows were")
        return Obstacle(f"its counts do not add up: {read} read, of which {sum(parts):,} can be accounted for")
    if tuple(getattr(run, name) for name in _COUNTS) != done.counts:
        return Obstacle("its counts are not those of its partitions", "Run again.")
    if run.rows_planned != extracted:
        counted = plural(run.rows_planned or 0, "row was", "rows were")
        reason = f"{counted} counted and {extracted:,} read, because the source changed while it was read"
        return Obstacle(reason, "Run again.")
    return None


def _find_move(connection: sa.Connection, run: RunRecord) -> Obstacle | None:
    """Return who has accepted the run already."""
    query = sa.select(moves.c.moved_by, moves.c.moved_at)
    before = connection.execute(query.where(moves.c.run_id == run.run_id, moves.c.state_before == HALTED)).first()
    if before is None:
        return None
    remedy = "Readers see its rows." if run.state == "published" else "`penstock publish` makes it live again."
    moment = iso(before.moved_at.astimezone(UTC).replace(microsecond=0))
    return Obstacle(f"{before.moved_by} accepted it already at {moment}", remedy)


def _find_rival(connection: sa.Connection, run: RunRecord) -> Obstacle | None:
    """Return the other run that has the interval: one that works, or a newer one that is live."""
    place, now = run.destination or "", dialect_of(connection).now(connection)
    for other in find_overlapping(connection, place, LIVE, run.interval, "running"):
        if other.lease_until > now:
            until = iso(other.lease_until.astimezone(UTC).replace(microsecond=0))
            reason = f"run {other.run_id[:8]} is scoring {other.label} (lease until {until})"
            return Obstacle(reason, "Wait for that run.")
    for other in find_overlapping(connection, place, LIVE, run.interval):
        if other.started_at > run.started_at:
            reason = f"the newer run {other.run_id[:8]} of {other.label} is live already"
            return Obstacle(reason, f"Look at it with `penstock show {other.run_id[:8]}`.")
    return None


def _read_loaded(connection: sa.Connection, run_ids: Sequence[str]) -> Mapping[str, _Loaded]:
    found = {}
    sums = [sa.func.sum(partitions.c[name]) for name in _COUNTS]
    query = sa.select(partitions.c.run_id, sa.func.count(), *sums).group_by(partitions.c.run_id)
    for some in _chunks(run_ids):
        for run_id, number, *counts in connection.execute(query.where(partitions.c.run_id.in_(some))):
            found[str(run_id)] = _Loaded(int(number), tuple(int(count) for count in counts))
    return found


def _read_halts(connection: sa.Connection, run_ids: Sequence[str]) -> Mapping[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    query = sa.select(validations.c.run_id, validations.c.partition).where(validations.c.outcome == HALTED)
    for some in _chunks(run_ids):
        for run_id, partition in connection.execute(query.where(validations.c.run_id.in_(some)).distinct()):
            found[str(run_id)].append(int(partition))
    return found


def _chunks(run_ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (run_ids[first : first + _AT_ONCE] for first in range(0, len(run_ids), _AT_ONCE))
