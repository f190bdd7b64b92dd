"""The scoring runs of one call in this process, from the ledger."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.database.connections import Database
    from penstock.ledger.reader import RunRecord


@dataclass(frozen=True)
class OwnRuns:
    """Runs of a pipeline that this process claimed since a moment."""

    database: "Database"
    pipeline: str
    since: datetime

    def records(self) -> "tuple[RunRecord, ...]":
        """Return the runs, oldest interval first."""
        from penstock.ledger.reader import list_own_runs
        from penstock.ledger.writer import this_process

        return tuple(list_own_runs(self.database, self.pipeline, this_process(), self.since))


def own_runs_from_now(database: "Database", pipeline: str) -> OwnRuns:
    """Return a reader of the runs that this process claims from now on, by the ledger's clock."""
    with database.reading() as connection:
        return OwnRuns(database, pipeline, database.now(connection))
