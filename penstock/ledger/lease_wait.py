"""Wait for the lease of another run that may be dead."""

import socket
import time
from collections.abc import Callable
from datetime import datetime

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.ledger.tables import runs
from penstock.resources.processes import is_alive
from penstock.spec.pipeline import Pipeline

LONGEST_SECONDS = 60.0
"""A lease that ends later is not waited for."""
LOOK_SECONDS = 1.0
MARGIN_SECONDS = 0.1


def wait_for_lease(database: Database, run_id: str, log: Callable[[str], None]) -> bool:
    """Wait until a run's lease has ended. Return False if it lives, or if the lease ends too late to wait for it.

    A live run renews its lease after a quarter of it, and then this returns. A run whose process lives on this machine
    is not waited for. The whole wait is at most a minute.
    """
    until, owner, seconds = _read_lease(database, run_id)
    if not _may_be_dead(owner, seconds):
        return False
    if seconds > 0:
        log(f"waiting {seconds:.0f} s for the lease of run {run_id[:8]}, whose process may be dead")
    ends = time.monotonic() + LONGEST_SECONDS + MARGIN_SECONDS
    while seconds > 0 and time.monotonic() < ends:
        time.sleep(min(seconds + MARGIN_SECONDS, LOOK_SECONDS))
        now_until, _, seconds = _read_lease(database, run_id)
        if now_until > until:
            return False
    return True


def find_waits(database: Database, pipeline: Pipeline) -> dict[str, str]:
    """Return the keys of intervals whose new run would wait for a lease, each with a sentence about it."""
    columns = (runs.c.run_id, runs.c.interval_key, runs.c.lease_owner, runs.c.lease_until)
    mine = (runs.c.pipeline == pipeline.name, runs.c.variant == pipeline.destination.variant)
    running = sa.select(*columns).where(*mine, runs.c.state == "running")
    with database.reading() as connection:
        now = database.now(connection)
        found = connection.execute(running.order_by(runs.c.started_at)).all()
    left = ((run_id, key, owner, (until - now).total_seconds()) for run_id, key, owner, until in found)
    return {
        key: f"run {run_id[:8]} holds it, and its process may be dead; waiting up to {seconds:.0f} s for its lease"
        for run_id, key, owner, seconds in left
        if seconds > 0 and _may_be_dead(owner, seconds)
    }


def _may_be_dead(owner: str, seconds: float) -> bool:
    return seconds <= LONGEST_SECONDS and not _lives_here(owner)


def _read_lease(database: Database, run_id: str) -> tuple[datetime, str, float]:
    """Return the end of a run's lease, its owner and the seconds left. None are left if the run has ended."""
    columns = (runs.c.lease_until, runs.c.lease_owner, runs.c.state)
    with database.reading() as connection:
        until, owner, state = connection.execute(sa.select(*columns).where(runs.c.run_id == run_id)).one()
        left = (until - database.now(connection)).total_seconds()
    return until, owner, left if state == "running" else 0.0


def _lives_here(owner: str) -> bool:
    """Whether a process of this machine has the owner's id. Of other machines nothing is known."""
    host, _, pid = owner.rpartition(":")
    return host == socket.gethostname() and pid.isdecimal() and is_alive(int(pid))
