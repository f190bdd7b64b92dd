"""Keep a run's lease alive while it works."""

import logging
import threading
import time

from penstock.database.connections import Database
from penstock.errors import LeaseEnded, PenstockError, TakenOver
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
        self._lost: PenstockError | None = None
        self._thread = threading.Thread(target=self._keep, name=f"lease {run.run_id[:8]}", daemon=True)

    def start(self) -> None:
        """Start renewing the lease."""
        self._thread.start()

    def close(self) -> None:
        """Stop renewing the lease."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self._lease_seconds)

    def check(self) -> None:
        """Raise why the run has lost its interval, if it has.

        Raises:
            TakenOver: another run has taken the interval.
            LeaseEnded: the lease has ended, because it could not be renewed.
        """
        if self._lost is not None:
            raise self._lost

    def _keep(self) -> None:
        ends, pause = time.monotonic() + self._lease_seconds, self._lease_seconds / 4
        while self._lost is None and not self._stop.wait(pause):
            begun = time.monotonic()
            try:
                renew(self._database, self._run, self._lease_seconds)
            except TakenOver as lost:
                self._lost = lost
            except Exception as error:  # noqa: BLE001 # whatever it is, `check` tells the run if it lasts
                logger.warning("could not renew the lease of run %s: %s", self._run.run_id, error)
                pause = self._lease_seconds / 20
                if time.monotonic() >= ends:
                    self._lost = LeaseEnded(self._run.run_id, f"{type(error).__name__}: {error}")
            else:
                ends, pause = begun + self._lease_seconds, self._lease_seconds / 4
