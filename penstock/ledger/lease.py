"""Keep a run's lease alive while it works."""

import logging
import threading
from types import TracebackType

from penstock.database.connections import Database
from penstock.errors import TakenOver, TransientError
from penstock.ledger.writer import renew
from penstock.run_types import ScoringRun

logger = logging.getLogger(__name__)


class LeaseKeeper:
    """Renew the lease from a thread. `check()` raises once the run has lost its interval."""

    def __init__(self, database: Database, run: ScoringRun, lease_seconds: float) -> None:
        self._database = database
        self._run = run
        self._lease_seconds = lease_seconds
        self._stop = threading.Event()
        self._lost: TakenOver | None = None
        self._thread = threading.Thread(target=self._keep, name=f"lease {run.run_id[:8]}", daemon=True)

    def __enter__(self) -> "LeaseKeeper":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=self._lease_seconds)

    def check(self) -> None:
        """Raise TakenOver if another run has taken the interval."""
        if self._lost is not None:
            raise self._lost

    def _keep(self) -> None:
        while not self._stop.wait(self._lease_seconds / 4):
            try:
                renew(self._database, self._run, self._lease_seconds)
            except TakenOver as lost:
                self._lost = lost
                return
            except TransientError as error:
                # The next renewal tries again; if all fail, the lease ends and publishing is refused.
                logger.warning("could not renew the lease of run %s: %s", self._run.run_id, error)
