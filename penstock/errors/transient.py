"""Errors that may go away by themselves: tasks try again."""

from dataclasses import dataclass

from penstock.errors.base import TransientError


@dataclass(eq=False)
class DatabaseUnavailable(TransientError):
    """A database does not answer.

    Cause: the database refused or reset the connection, did not answer in time, or ended a transaction that conflicted
        with another one.
    Remedy: check that the database is running and reachable from this machine, then run again.
    """

    connection: str
    reason: str
    remedy: str = "Check that the database is running and reachable from this machine, then run again."

    def message(self) -> str:
        return f"connection `{self.connection}` is not available: {self.reason}. {self.remedy}"


@dataclass(eq=False)
class DatabaseLocked(DatabaseUnavailable):
    """Another session holds a lock for longer than Penstock waits.

    Cause: a long transaction, an open SQLite or DuckDB file, or a second run on the same table.
    Remedy: wait until the other session ends, or end it, then run again.
    """

    def message(self) -> str:
        return (
            f"connection `{self.connection}` is locked by another session or process for too long: {self.reason}. "
            "Wait until it ends, or end it, then run again."
        )


@dataclass(eq=False)
class DatabaseFull(DatabaseUnavailable):
    """The disk of a database is full.

    Cause: a write found no space. The published rows are unchanged.
    Remedy: free some space, for example with `penstock prune`, then run again.
    """

    def message(self) -> str:
        return (
            f"connection `{self.connection}` has no disk space left: {self.reason}. The published rows are unchanged. "
            "Free some space, then run again. `penstock prune` removes rows that no reader sees any more."
        )


ON_STANDBY = (
    "If it happens often, set `hot_standby_feedback = on` on the standby or raise its `max_standby_streaming_delay`, "
    "or connect to the primary server."
)


@dataclass(eq=False)
class StandbyConflict(DatabaseUnavailable):
    """A standby cancelled a read.

    Cause: the read needed rows that the primary server has removed, and the standby had to replay that.
    Remedy: none at first: a task retries it. If it happens often, set `hot_standby_feedback = on` on the standby, raise
        its `max_standby_streaming_delay`, or connect to the primary server.
    """

    def message(self) -> str:
        return f"connection `{self.connection}` is a standby that cancelled a read: {self.reason}. {ON_STANDBY}"


@dataclass(eq=False)
class StoreUnavailable(TransientError):
    """An object store does not answer.

    Cause: the store refused or cut the connection, did not answer in time, or asked for fewer requests. Penstock
        repeated the request for up to a minute.
    Remedy: check that the store is running and reachable from this machine, then run again.
    """

    url: str
    reason: str

    def message(self) -> str:
        return (
            f"{self.url} cannot be reached: {self.reason}. "
            "Check that the store is running and reachable from this machine, then run again."
        )


@dataclass(eq=False)
class KeyCollision(TransientError):
    """Another process wrote rows with the same keys first.

    Cause: a second copy of the same work is running or has run. Nothing was written twice.
    Remedy: run again.
    """

    connection: str
    reason: str

    def message(self) -> str:
        return (
            f"connection `{self.connection}`: another process wrote rows with these keys first: {self.reason}. "
            "Nothing was written twice. Run again."
        )


@dataclass(eq=False)
class ClusterUnreachable(TransientError):
    """The Dask scheduler or the Ray head node does not answer.

    Cause: the cluster is not running, or `PENSTOCK_RUNNER` has a wrong address. No interval was started.
    Remedy: start the cluster, correct the address, or set `PENSTOCK_RUNNER` to `threads:n`.
    """

    runner: str
    reason: str

    def message(self) -> str:
        return (
            f"PENSTOCK_RUNNER is {self.runner}, but this cluster does not answer: {self.reason.rstrip(' .')}. "
            "No interval was started. Start the cluster, correct the address, or set PENSTOCK_RUNNER to threads:n."
        )


@dataclass(eq=False)
class WorkerLost(TransientError):
    """The worker that ran a partition is gone.

    Cause: the process ended without an answer, most often because it ran out of memory.
    Remedy: look at the log of the worker, then run again. The interval is scored from the start.
    """

    partition: str
    runner: str
    reason: str

    def message(self) -> str:
        return (
            f"the worker of partition {self.partition} on {self.runner} was lost: {self.reason}. Nothing was "
            "published. Look at the log of the worker (the usual cause is too little memory), then run again: the "
            "interval is scored from the start."
        )


@dataclass(eq=False)
class NoWorkers(TransientError):
    """A cluster has lost all of its workers while partitions wait for one.

    Cause: the hosts of the workers are gone, and nothing has started new ones.
    Remedy: start workers, then run again. The interval is scored from the start.
    """

    runner: str
    seconds: float

    def message(self) -> str:
        return (
            f"{self.runner} has had no worker for {self.seconds:.0f} s, and partitions wait for one. Nothing was "
            "published. Start workers, then run again: the interval is scored from the start."
        )
