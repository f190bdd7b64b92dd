"""Keep the lease of a claimed run while it works, and record in the ledger how it ends."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from penstock.database.connections import Database
from penstock.errors import PenstockError
from penstock.ledger.lease import LeaseKeeper
from penstock.ledger.writer import Totals, end_claimed, end_run
from penstock.privacy.masking import HIDDEN
from penstock.resources.usage import NO_PRICES, Prices, RunMeter
from penstock.run_types import ScoringRun
from penstock.spec.pipeline import Pipeline

logger = logging.getLogger(__name__)

CANCELLED = "cancelled before it was done: its process was stopped"
"""The error of a run that is stopped by a signal or from Prefect's UI."""


class ActiveRun:
    """A run under its lease. `totals` and `quantiles` are recorded if it ends unpublished. `meter` counts its cost."""

    def __init__(self, keeper: LeaseKeeper, prices: Prices) -> None:
        self.check = keeper.check
        self.meter = RunMeter(prices)
        self.totals: Totals | None = None
        self.quantiles: Sequence[float] = ()


@contextmanager
def run_lease(
    database: Database, run: ScoringRun, lease_seconds: float, prices: Prices = NO_PRICES
) -> Iterator[ActiveRun]:
    """Keep the run's lease. An error in the block ends the run as `halted` or `failed`, with its text."""
    with closing(LeaseKeeper(database, run, lease_seconds)) as keeper:
        active = ActiveRun(keeper, prices)
        ended = "failed", CANCELLED
        try:
            keeper.start()
            yield active
            ended = "", ""
        except Exception as error:
            halted = isinstance(error, PenstockError) and error.exit_code == 3
            ended = "halted" if halted else "failed", describe_error(run.pipeline, error)
            raise
        finally:
            if ended[0]:
                _end(database, run, ended, active)


def end_claimed_run(database: Database, pipeline: Pipeline, flow_run_id: str, stop: BaseException) -> None:
    """End the run that this process has claimed for a flow run as `failed`, if it has claimed one.

    Args:
        stop: why the flow run ends before the run has a lease keeper.
    """
    reason = describe_error(pipeline, stop) if isinstance(stop, Exception) else CANCELLED
    try:
        end_claimed(database, flow_run_id, reason)
    except Exception as error:  # noqa: BLE001 # what ended the flow run matters more
        logger.warning("could not record in the ledger that flow run %s was stopped: %s", flow_run_id, error)


def describe_error(pipeline: Pipeline | None, error: Exception) -> str:
    """Return the text of an error that ended a run, without private values. None: a pipeline that could not be read."""
    if isinstance(error, PenstockError):
        return str(error)
    message = HIDDEN if pipeline and pipeline.private_columns else str(error)  # a library's message may quote a value
    return f"{type(error).__name__}: {message}"


def _end(database: Database, run: ScoringRun, ended: tuple[str, str], active: ActiveRun) -> None:
    try:
        end_run(database, run, *ended, active.totals, active.meter.read(), active.quantiles)
    except Exception as error:  # noqa: BLE001 # the error that ended the run matters more
        # The lease ends, and the next run marks this one `abandoned`.
        logger.warning("could not record in the ledger how run %s ended: %s", run.run_id, error)
