"""The ends of runs: halts, lost claims, and sums that do not agree."""

from dataclasses import dataclass
from typing import ClassVar

from penstock.errors.base import PenstockError, TerminalError


@dataclass(eq=False)
class IntervalBusy(PenstockError):
    """Another run is scoring the interval.

    Cause: two runs started for the same interval. The second one skips it and completes. It first waits for a lease
        that ends within a minute.
    Remedy: wait for the first run. If it was abandoned, run again after its lease has ended.
    """

    pipeline: str
    interval: str
    run_id: str
    until: str

    def message(self) -> str:
        return (
            f"`{self.pipeline}` {self.interval} is being scored by run {self.run_id} (lease until {self.until}). "
            "Wait for that run. If it was abandoned, run again after its lease has ended: the new run takes over."
        )


@dataclass(eq=False)
class Halted(TerminalError):
    """A gate refused the interval. Readers see the same rows as before.

    Cause: a critical expectation failed, or too many rows were refused. Nothing was published.
    Remedy: correct the data or the expectation. The next run tries the interval again, unless it is published.
    """

    pipeline: str
    interval: str
    reasons: tuple[str, ...]
    exit_code: ClassVar[int] = 3

    def message(self) -> str:
        return f"`{self.pipeline}` {self.interval} halted: {self.describe_reasons()}"

    def describe_reasons(self) -> str:
        """Say why the interval was halted, and what to do next."""
        return (
            f"{'; '.join(self.reasons).removesuffix('.')}. Nothing was published. "
            "Correct the data or the expectation. The next run tries the interval again, unless it is published."
        )


@dataclass(eq=False)
class OverBudget(Halted):
    """The estimate of a run is above its budget.

    Cause: the interval has more rows, or would take longer or cost more, than `budget:` allows. No row was read.
    Remedy: raise `budget:` in the spec. The next run tries the interval again, unless it is published.
    """

    def message(self) -> str:
        return f"`{self.pipeline}` {self.interval} halted over budget: {self._describe_excess()}"

    def describe_reasons(self) -> str:
        return f"over budget: {self._describe_excess()}"

    def _describe_excess(self) -> str:
        return (
            f"{'; '.join(self.reasons).removesuffix('.')}. No row was read. "
            "To score it anyway, raise `budget:` in the spec. "
            "The next run tries the interval again, unless it is published."
        )


@dataclass(eq=False)
class DestinationMismatch(TerminalError):
    """The history table does not fit the rows.

    Cause: the key, a column or a type of the spec has changed since the table was made, a column's name is taken, or
        the schema is missing.
    Remedy: follow the message: change the spec back, rename the column, or choose another `destination.table`.
    """

    table: str
    reason: str
    remedy: str

    def message(self) -> str:
        return f"`{self.table}` cannot take these rows: {self.reason}. {self.remedy}."


@dataclass(eq=False)
class PartitionMoved(TerminalError):
    """Two copies of a partition read different rows.

    Cause: the source changed between two reads of the same interval. The rows of the first copy stay.
    Remedy: run again to read the interval from the start.
    """

    run: str
    partition: str

    def message(self) -> str:
        return (
            f"partition {self.partition} of `{self.run}` was loaded before with other rows: the source changed "
            "between two reads. The rows of the first copy stay. Run again to read the interval from the start."
        )


@dataclass(eq=False)
class ReconciliationFailed(TerminalError):
    """Extracted rows are not the sum of scored, quarantined and excluded rows.

    Cause: the source changed during the run, or Penstock has a bug. Nothing was published.
    Remedy: run again. Report it if it happens again.
    """

    pipeline: str
    interval: str
    difference: str

    def message(self) -> str:
        return (
            f"`{self.pipeline}` {self.interval} does not add up: {self.difference}. Nothing was published. "
            "The source changed during the run, or Penstock has a bug. Run again, and report it if it happens again."
        )


@dataclass(eq=False)
class TakenOver(TerminalError):
    """The run lost its interval.

    Cause: the process was stopped or cut off for longer than its lease, so that the run was given up or another run
        took over. Nothing of this run was published.
    Remedy: none: look at the newer run with `penstock runs`.
    """

    run_id: str
    state: str

    def message(self) -> str:
        return (
            f"run {self.run_id} lost its interval (its state is `{self.state}`): its lease ended, and it was given up "
            "or another run took over. Nothing of this run was published. Look at the newer run with `penstock runs`."
        )


@dataclass(eq=False)
class LeaseEnded(TerminalError):
    """A run could not renew its lease, and the lease has ended.

    Cause: the ledger could not be written for as long as a lease lasts. Nothing of this run was published.
    Remedy: correct the cause that the message names, then run again.
    """

    run_id: str
    reason: str

    def message(self) -> str:
        return (
            f"run {self.run_id} could not renew its lease before the lease ended: {self.reason}. Another run may take "
            "the interval, so this one stopped. Nothing of it was published. Correct the cause, then run again."
        )


@dataclass(eq=False)
class IntervalCancelled(TerminalError):
    """Someone cancelled an interval's flow run in Prefect while it worked.

    Cause: a cancel in Prefect's UI or API. Nothing of this run was published, and the other intervals go on.
    Remedy: none: the next run tries the interval again.
    """

    run_id: str

    def message(self) -> str:
        return (
            f"cancelled in Prefect before it was done: nothing of run {self.run_id} was published. The next run tries "
            "the interval again."
        )
