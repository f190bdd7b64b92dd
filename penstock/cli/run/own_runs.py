"""The scoring runs of one call in this process, from the ledger."""

import os
import socket
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.database.connections import Database
    from penstock.ledger.reader import RunRecord


@dataclass(frozen=True)
class OwnRuns:
    """Runs of a pipeline that this process claimed since a moment. At most `at_most` runs are read."""

    database: "Database"
    pipeline: str
    since: datetime
    at_most: int

    def records(self) -> "tuple[RunRecord, ...]":
        """Return the runs, oldest interval first."""
        from penstock.ledger.reader import list_runs

        owner = f"{socket.gethostname()}:{os.getpid()}"
        newest = list_runs(self.database, self.pipeline, limit=self.at_most)
        own = [run for run in newest if run.lease_owner == owner and run.started_at >= self.since]
        return tuple(sorted(own, key=lambda run: (run.started_at, run.interval_key)))


def own_runs_from_now(database: "Database", pipeline: str, intervals: int) -> OwnRuns:
    """Return a reader of the runs that this process claims from now on, by the ledger's clock."""
    with database.reading() as connection:
        since = database.now(connection)
    return OwnRuns(database, pipeline, since, 2 * intervals + 50)  # other processes may have newer runs
