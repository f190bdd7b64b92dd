"""Keep the lease of a claimed run while it works, and record in the ledger how it ends."""

from collections.abc import Iterator
from contextlib import contextmanager

from penstock.database.connections import Database
from penstock.errors import PenstockError, TakenOver, TransientError
from penstock.ledger.lease import LeaseKeeper
from penstock.ledger.writer import Totals, end_run
from penstock.privacy.masking import HIDDEN
from penstock.resources.usage import NO_PRICES, Prices, RunMeter, Usage
from penstock.run_types import ScoringRun

CANCELLED = "cancelled before it was done: its process was stopped"
"""The error of a run that is stopped by a signal or from Prefect's UI."""


class ActiveRun:
    """A run under its lease. `totals` is recorded if it ends unpublished. `meter` counts what it costs."""

    def __init__(self, keeper: LeaseKeeper, prices: Prices) -> None:
        self.check = keeper.check
        self.meter = RunMeter(prices)
        self.totals: Totals | None = None


@contextmanager
def run_lease(
    database: Database, run: ScoringRun, lease_seconds: float, prices: Prices = NO_PRICES
) -> Iterator[ActiveRun]:
    """Keep the run's lease. An error in the block ends the run as `halted` or `failed`, with its text."""
    with LeaseKeeper(database, run, lease_seconds) as keeper:
        active = ActiveRun(keeper, prices)
        ended = "failed", CANCELLED
        try:
            yield active
            ended = "", ""
        except PenstockError as error:
            ended = ("halted" if error.exit_code == 3 else "failed"), str(error)
            raise
        except Exception as error:
            message = HIDDEN if run.pipeline.private_columns else str(error)  # a library's message may quote a value
            ended = "failed", f"{type(error).__name__}: {message}"
            raise
        finally:
            if ended[0]:
                _end(database, run, ended, active.totals, active.meter.read())


def _end(database: Database, run: ScoringRun, ended: tuple[str, str], totals: Totals | None, usage: Usage) -> None:
    try:
        end_run(database, run, *ended, totals, usage)
    except (TransientError, TakenOver):
        # The database is gone as well: the lease ends, and the next run marks this one `abandoned`.
        return
