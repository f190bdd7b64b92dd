"""Every error that Penstock raises on purpose.

PenstockError
├── TransientError
│   ├── DatabaseUnavailable
│   │   ├── DatabaseLocked
│   │   ├── DatabaseFull
│   │   └── StandbyConflict
│   ├── StoreUnavailable
│   ├── KeyCollision
│   ├── ClusterUnreachable
│   ├── WorkerLost
│   └── NoWorkers
├── TerminalError
│   ├── UsageError
│   │   ├── SpecError
│   │   ├── SpecErrors
│   │   ├── SettingsError
│   │   ├── WorkersDiffer
│   │   ├── WrongParameters
│   │   ├── PipelineNotFound
│   │   ├── RunNotFound
│   │   ├── WrongState
│   │   ├── MemoryTooSmall
│   │   ├── DestinationTaken
│   │   ├── DestinationDisputed
│   │   ├── OverlappingRuns
│   │   └── RenameRefused
│   ├── AccessDenied
│   ├── StoreRefused
│   ├── ObjectNotFound
│   ├── ObjectChanged
│   ├── DatabaseUnusable
│   ├── LedgerLost
│   ├── SourceError
│   │   ├── MissingTable
│   │   ├── MissingColumns
│   │   ├── AmbiguousColumns
│   │   ├── MixedTypes
│   │   ├── NoFiles
│   │   ├── OutsideRoots
│   │   ├── BrokenFile
│   │   │   └── BrokenArchive
│   │   ├── FilesChanged
│   │   ├── FolderColumn
│   │   ├── MissingLakeTable
│   │   ├── UnreadableTable
│   │   ├── VersionGone
│   │   ├── SourceChanged
│   │   ├── ImplausibleTimes
│   │   ├── GroupFailed
│   │   ├── LinesPruned
│   │   ├── InexactColumn
│   │   ├── UnreadableTime
│   │   ├── UnfitValue
│   │   ├── MalformedRows
│   │   ├── AmbiguousDate
│   │   ├── AmbiguousDialect
│   │   ├── AmbiguousNumber
│   │   ├── DialectChanged
│   │   ├── HorizonHidden
│   │   └── QueryFailed
│   │       └── FilesFailed
│   ├── SnapshotLost
│   ├── FeaturesError
│   ├── ExpressionError
│   ├── ModelError
│   │   ├── ModelNotFound
│   │   ├── ModelRefused
│   │   └── ModelMismatch
│   ├── Halted
│   │   └── OverBudget
│   ├── DestinationMismatch
│   ├── PartitionMoved
│   ├── ReconciliationFailed
│   ├── TakenOver
│   ├── LeaseEnded
│   └── IntervalCancelled
└── IntervalBusy

Tasks retry a `TransientError` and nothing else. Each class has its facts as fields and survives pickling. Its
docstring gives cause and remedy, and `docs/errors.md` is generated from it. The message says what happened, where, and
what to do next.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, ClassVar

from penstock.wording import plural


def nearest(word: str, known: Sequence[str]) -> str:
    """Say which known word was probably meant, or list the known ones. Empty when there are none."""
    if not known:
        return ""
    by_folded = {name.casefold(): name for name in known}
    matches = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    if matches:
        return f" Did you mean `{by_folded[matches[0]]}`?"
    shown = ", ".join(f"`{name}`" for name in sorted(known)[:12])
    more = f" and {len(known) - 12} more" if len(known) > 12 else ""
    return f" Known: {shown}{more}."


@dataclass(eq=False)
class PenstockError(Exception):
    """Base of all errors that Penstock raises on purpose.

    Cause: one of the classes below.
    Remedy: read the message. It says what happened, where, and what to do next. `exit_code` is the exit code of the
        command.
    """

    exit_code: ClassVar[int] = 1

    def message(self) -> str:
        raise NotImplementedError

    def __str__(self) -> str:
        return self.message()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))


class TransientError(PenstockError):
    """The same call may succeed later.

    Cause: something outside Penstock is not available at the moment.
    Remedy: none at first: a task retries it with growing pauses. If the error stays, follow the message.
    """


class TerminalError(PenstockError):
    """The same call fails again, so nothing retries it.

    Cause: the spec, the data, a model or the environment is wrong.
    Remedy: follow the message, then run again.
    """


class UsageError(TerminalError):
    """The spec, a setting or an argument is wrong.

    Cause: a mistake in what the user wrote. No run was started.
    Remedy: correct the spec, the setting or the argument.
    """

    exit_code: ClassVar[int] = 2


# --- transient ---------------------------------------------------------------------------------


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


_ON_STANDBY = (
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
        return f"connection `{self.connection}` is a standby that cancelled a read: {self.reason}. {_ON_STANDBY}"


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


# --- neither ---------------------------------------------------------------------------------


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


# --- usage -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a pipeline file."""

    line: int
    where: str
    what: str

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}`{self.where}`: {self.what}" if self.where else f"{place}{self.what}"


@dataclass(eq=False)
class SpecError(UsageError):
    """A pipeline file has one or more problems.

    Cause: the YAML or a key in it is wrong. The message lists each problem with its line.
    Remedy: correct the lines. `penstock check PIPELINE` finds further problems without a run.
    """

    file: str
    problems: tuple[Problem, ...]

    def message(self) -> str:
        count = plural(len(self.problems), "problem")
        return "\n".join([f"{self.file}: {count} in the pipeline spec.", *(f"  {p}" for p in self.problems)])


@dataclass(eq=False)
class SpecErrors(UsageError):
    """Several pipeline files have problems.

    Cause: the same as for `SpecError`, in more than one file.
    Remedy: correct the lines of each file.
    """

    errors: tuple[SpecError, ...]

    def message(self) -> str:
        return "\n".join(str(error) for error in self.errors)


@dataclass(eq=False)
class SettingsError(UsageError):
    """A setting is missing or cannot be read.

    Cause: a `PENSTOCK_…` variable, a line of `.env` or a command-line option has a wrong value.
    Remedy: set the variable or option as the message says.
    """

    what: str
    remedy: str

    def message(self) -> str:
        return f"{self.what}. {self.remedy}"


@dataclass(frozen=True)
class WorkerDifference:
    """One way in which a worker differs from the flow."""

    worker: str
    """Its host, or its address in the cluster."""
    what: str
    remedy: str


@dataclass(eq=False)
class WorkersDiffer(UsageError):
    """A worker of a cluster would read, score or store other rows than the flow, or cannot do so at all.

    Cause: its packages, its settings, its model store, its databases or its files are not those of the flow.
    Remedy: give each worker what the flow has, best by one image for all, then run again.
    """

    runner: str
    differences: tuple[WorkerDifference, ...]

    def message(self) -> str:
        first, more = self.differences[0], len(self.differences) - 1
        others = f" ({plural(more, 'more difference')}: {_list_differences(self.differences[1:])})" if more else ""
        return (
            f"a worker of {self.runner} does not fit the flow: on {first.worker} {first.what}. {first.remedy}{others}"
        )


def _list_differences(differences: "tuple[WorkerDifference, ...]") -> str:
    shown = "; ".join(f"on {each.worker} {each.what}" for each in differences[:4])
    return shown + ("; …" if len(differences) > 4 else "")


@dataclass(eq=False)
class WrongParameters(UsageError):
    """Values in the form of a flow run cannot be used.

    Cause: a date that the calendar does not have, a word that is no choice, a model of no step, or the pipeline of
        another deployment.
    Remedy: correct the fields that the message names, and start the run again.
    """

    problems: tuple[str, ...]
    """One for each wrong field, which begins with the field's label in the form."""

    def message(self) -> str:
        return " ".join(self.problems)


@dataclass(eq=False)
class PipelineNotFound(UsageError):
    """There is no pipeline of that name.

    Cause: a typing error, or the command runs in another folder than the project.
    Remedy: give a name from the pipelines folder, or the path of a YAML file.
    """

    name: str
    folder: str
    known: tuple[str, ...]

    def message(self) -> str:
        return (
            f"there is no pipeline `{self.name}` in {self.folder}, and no file of that name."
            f"{nearest(self.name, self.known)} Give a name from that folder or a path to a YAML file."
        )


@dataclass(eq=False)
class RunNotFound(UsageError):
    """The ledger has no such run, or more than one.

    Cause: the run id is wrong or too short, or the warehouse is another one.
    Remedy: list the runs with `penstock runs`.
    """

    run_id: str
    matches: tuple[str, ...] = ()

    def message(self) -> str:
        if self.matches:
            return f"run id `{self.run_id}` is not unique: {', '.join(self.matches)}. Type more characters."
        return f"the ledger has no run `{self.run_id}`. List the runs with `penstock runs`."


@dataclass(eq=False)
class WrongState(UsageError):
    """The run is in a state that does not allow the command.

    Cause: the command needs a published run, and this run is not published.
    Remedy: choose another run from `penstock runs`.
    """

    run_id: str
    state: str
    needed: str

    def message(self) -> str:
        return (
            f"run {self.run_id} is `{self.state}`, but the command needs a run that is `{self.needed}`. "
            "List the runs with `penstock runs`."
        )


@dataclass(eq=False)
class MemoryTooSmall(UsageError):
    """`PENSTOCK_MEMORY` does not fit the smallest possible partition.

    Cause: the process, the model and a few rows need more memory than the limit.
    Remedy: raise `PENSTOCK_MEMORY` to at least the size in the message.
    """

    pipeline: str
    limit: int
    needed: int
    held: int
    audit: int
    partition: int

    def message(self) -> str:
        def mebibytes(size: int) -> str:
            return f"{-(-size // 2**20):,} MiB"

        parts = f"the process uses {mebibytes(self.held)} before it reads a row"
        if self.partition:
            parts += (
                f", the columns for the audit take {mebibytes(self.audit)}, "
                f"the smallest partition takes {mebibytes(self.partition)}"
            )
        return (
            f"PENSTOCK_MEMORY is {mebibytes(self.limit)}, which is too little for `{self.pipeline}`: {parts}. "
            f"Set it to {'at least' if self.partition else 'more than'} {mebibytes(self.needed)}."
        )


@dataclass(eq=False)
class DestinationTaken(UsageError):
    """The destination belongs to another pipeline.

    Cause: the pipeline was renamed, or two pipelines have the same `destination.table`.
    Remedy: `penstock rename OLD NEW` for a renamed pipeline; otherwise another `destination.table`.
    """

    table: str
    pipeline: str
    owner: str
    runs: int
    """Its published and running runs there. 0: only a name collides with one of its view or table names."""

    def message(self) -> str:
        if not self.runs:
            return (
                f"`{self.table}` is a view or a table of pipeline `{self.owner}`, and `{self.pipeline}` would write "
                "one of that name too. Nothing was changed. Choose another `destination.table`."
            )
        return (
            f"`{self.table}` belongs to pipeline `{self.owner}`, which has {self.runs:,} live "
            f"run{'' if self.runs == 1 else 's'} in it, so `{self.pipeline}` cannot write there. Nothing was changed. "
            f"If `{self.owner}` was renamed: `penstock rename {self.owner} {self.pipeline}`. If not, give "
            f"`{self.pipeline}` a `destination.table` of its own, or take the rows of `{self.owner}` out with "
            f"`penstock withdraw --pipeline {self.owner}`."
        )


@dataclass(eq=False)
class DestinationDisputed(UsageError):
    """A destination has overlapping live runs, or those of several pipelines.

    Cause: an older Penstock allowed it, after a change of grain, start or name.
    Remedy: withdraw runs until none overlap; `penstock ledger verify` lists them.
    """

    table: str
    pipeline: str
    pipelines: tuple[str, ...]
    overlaps: tuple[str, ...]
    """The first overlaps, each as two runs with their intervals."""

    def message(self) -> str:
        found = [f"the runs {pair} overlap" for pair in self.overlaps]
        if len(self.pipelines) > 1:
            found.insert(0, f"the pipelines {', '.join(f'`{p}`' for p in self.pipelines)} have live runs in it")
        others = [p for p in self.pipelines if p != self.pipeline]
        way_out = (
            f"Keep one pipeline's runs: `penstock withdraw --pipeline {others[0]}`"
            if others
            else "Take out one run of each pair: `penstock withdraw RUN_ID`"
        )
        return (
            f"`{self.table}` shows rows twice: {'; '.join(found)}. It takes no new run until that is resolved, and the "
            f"upgrade has changed nothing. {way_out}. `penstock ledger verify` lists all of them."
        )


@dataclass(eq=False)
class OverlappingRuns(UsageError):
    """An interval overlaps live runs that it does not cover.

    Cause: the grain, the start or the time zone of the pipeline has changed.
    Remedy: restate a range that covers the named runs, or withdraw them.
    """

    pipeline: str
    interval: str
    runs: tuple[str, ...]
    """The live runs, each as ID and interval."""
    cover_start: str = ""
    """Start of a range of whole intervals that covers them. Empty if the pipeline's grid has none."""
    cover_end: str = ""
    table: str = ""
    """With the next two: where and from when to when live runs must be withdrawn together, or the rest would stay."""
    live_start: str = ""
    live_end: str = ""

    def message(self) -> str:
        named = ", ".join(self.runs[:5]) + (f" and {len(self.runs) - 5} more" if len(self.runs) > 5 else "")
        restate = (
            f"restate a range that covers them: {self._restate(self.cover_start, self.cover_end)}; or "
            if self.cover_start
            else "change `interval` back, so that the intervals cover them; or "
        )
        return (
            f"`{self.pipeline}` {self.interval} overlaps live runs that it does not cover: {named}. Publishing it "
            f"would show rows twice, so nothing was changed. Two ways out: {restate}take them out of the view with "
            f"{self._withdraw()}."
        )

    def _restate(self, start: str, end: str) -> str:
        return f"`penstock run {self.pipeline} --restate --start {start} --end {end}`"

    def _withdraw(self) -> str:
        if not self.live_start:
            return f"`penstock withdraw {' '.join(run.split()[0] for run in self.runs[:5])}`, and run again"
        start, end = self.live_start, self.live_end
        withdraw = f"`penstock withdraw --pipeline {self.pipeline} --table {self.table} --start {start} --end {end}`"
        return f"{withdraw}, and score what was withdrawn again with {self._restate(start, end)}"


@dataclass(eq=False)
class RenameRefused(UsageError):
    """A pipeline cannot be renamed in the ledger.

    Cause: follow the message: a run works, the old name is unknown, or the two names are two pipelines.
    Remedy: follow the message, then repeat the command. Nothing was changed.
    """

    old: str
    new: str
    reason: str

    def message(self) -> str:
        return f"`{self.old}` cannot become `{self.new}`: {self.reason}. Nothing was changed."


# --- sources -----------------------------------------------------------------------------------


@dataclass(eq=False)
class AccessDenied(TerminalError):
    """A database refused the user.

    Cause: a wrong user, password or database name, or a missing grant.
    Remedy: correct the URL of the connection, or have the grant added.
    """

    connection: str
    reason: str
    remedy: str = "Have the missing grant added to the user."

    def message(self) -> str:
        return f"connection `{self.connection}` was refused: {self.reason}. {self.remedy}"


@dataclass(eq=False)
class StoreRefused(TerminalError):
    """An object store refuses a request.

    Cause: no credentials, no permission, a bucket that does not exist, or a server that lacks what safe reading needs.
    Remedy: set the store's credentials, or correct the URL, the endpoint or the region. See docs/object-stores.md.
    """

    url: str
    reason: str
    remedy: str

    def message(self) -> str:
        return f"{self.url} cannot be used: {self.reason}. {self.remedy}"


@dataclass(eq=False)
class ObjectNotFound(TerminalError):
    """There is no object with this URL.

    Cause: a wrong URL, or the object was removed.
    Remedy: correct the URL.
    """

    url: str

    def message(self) -> str:
        return f"there is no object {self.url}. Correct the URL."


@dataclass(eq=False)
class ObjectChanged(TerminalError):
    """An object is not in the state that a request requires.

    Cause: another process wrote or removed the object in between.
    Remedy: run again.
    """

    url: str
    change: str

    def message(self) -> str:
        return f"{self.url} {self.change}. Another process wrote it. Run again."


@dataclass(eq=False)
class DatabaseUnusable(TerminalError):
    """A database is there, or should be, and cannot be used as it is.

    Cause: its file is missing, damaged, a folder, of a newer version or not to be read or written; or the server and
        the URL do not agree on encryption.
    Remedy: follow the message. It depends on what is wrong.
    """

    connection: str
    reason: str
    remedy: str

    def message(self) -> str:
        return f"connection `{self.connection}` cannot be used: {self.reason}. {self.remedy}"


@dataclass(eq=False)
class LedgerLost(TerminalError):
    """The ledger that the project had is gone, or is another one.

    Cause: a volume that is not mounted, a wrong `PENSTOCK_HOME`, a deleted or emptied database, or the URL of another
        one. Nothing was read or written.
    Remedy: bring the ledger back, or correct the URL. If a new ledger is meant: `penstock ledger accept`.
    """

    connection: str
    reason: str
    """What is in its place."""
    before: str
    """The ledger that is known."""

    @property
    def remedy(self) -> str:
        """The ways out."""
        return (
            "Mount the volume, restore the database, or correct PENSTOCK_HOME or "
            f"PENSTOCK_CONNECTIONS__{self.connection.upper()}. If it is meant, run `penstock ledger accept`."
        )

    def message(self) -> str:
        return (
            f"connection `{self.connection}` has lost its ledger: {self.reason}. This project had {self.before}. With "
            "a new one, a run would land all log lines and publish the whole history again, so nothing was done. "
            + self.remedy
        )


class SourceError(TerminalError):
    """A source cannot be read as the spec declares it.

    Cause: one of the classes below.
    Remedy: correct the source or its part of the spec.
    """


@dataclass(eq=False)
class MissingTable(SourceError):
    """A table or view of a source does not exist.

    Cause: a wrong name, a wrong schema, or a connection to another database.
    Remedy: write the table in `table:` and `schema:` as the database spells it.
    """

    connection: str
    table: str
    known: tuple[str, ...]

    def message(self) -> str:
        return (
            f"connection `{self.connection}` has no table or view `{self.table}`.{nearest(self.table, self.known)} "
            "Write the table in the source's `table:` (and `schema:`) as the database spells it."
        )


@dataclass(eq=False)
class MissingColumns(SourceError):
    """A source or a query lacks columns that the spec names.

    Cause: a column was renamed or removed, or the spec has a typing error.
    Remedy: correct the spec or the source.
    """

    where: str
    columns: tuple[str, ...]
    known: tuple[str, ...]

    def message(self) -> str:
        names = ", ".join(f"`{c}`" for c in self.columns)
        return f"{self.where} lacks {names}.{nearest(self.columns[0], self.known)} Correct the spec or the source."


@dataclass(eq=False)
class AmbiguousColumns(SourceError):
    """A source has two columns of one name.

    Cause: a query such as `select u.*, t.*`, or names that differ only in upper and lower case.
    Remedy: select the columns by name, and give each a name of its own.
    """

    where: str
    columns: tuple[str, ...]

    def message(self) -> str:
        names = ", ".join(f"`{c}`" for c in self.columns)
        return (
            f"{self.where} has more than one column of a name: {names} (upper and lower case are the same). "
            "Select the columns in a `query:` by name, and give each a name of its own, as in `t.id as order_id`."
        )


@dataclass(eq=False)
class MixedTypes(SourceError):
    """The column of `partition_by` has values of several types.

    Cause: a SQLite column with numbers and texts, or with bytes. `1` and `'1'` are two values in the database and one
        in the features query, so their rows could be in two partitions.
    Remedy: convert the column to one type in a `query:`.
    """

    source: str
    column: str
    kinds: tuple[str, ...]

    def message(self) -> str:
        return (
            f"source `{self.source}`: `{self.column}`, the column of `partition_by`, has values of the types "
            f"{', '.join(self.kinds)}, so rows that belong together could be in two partitions. Convert it to one type "
            "in a `query:`, as in `cast(… as text)`."
        )


@dataclass(eq=False)
class NoFiles(SourceError):
    """No file matches the path of a source.

    Cause: a wrong path or glob, another working folder, or a file that has not arrived.
    Remedy: check the path. Relative paths start at the folder where Penstock runs.
    """

    source: str
    path: str

    def message(self) -> str:
        relative = "" if "://" in self.path else " Relative paths start at the folder where penstock runs."
        return f"source `{self.source}`: no file matches `{self.path}`. Check the path and its glob.{relative}"


@dataclass(eq=False)
class OutsideRoots(SourceError):
    """A path leads out of the folders that may be read.

    Cause: the path, or a link in it, ends outside of `PENSTOCK_ROOTS`. Nothing was read.
    Remedy: correct the path, or add its folder to `PENSTOCK_ROOTS`.
    """

    source: str
    path: str
    leads_to: str
    roots: tuple[str, ...]

    def message(self) -> str:
        roots = ", ".join(f"`{root}`" for root in self.roots) or "no folder"
        return (
            f"source `{self.source}`: `{self.path}` leads to {self.leads_to}, outside of {roots}. "
            "Nothing was read. Correct the path, or add its folder to PENSTOCK_ROOTS."
        )


@dataclass(eq=False)
class BrokenFile(SourceError):
    """A file of a source cannot be read.

    Cause: the file is truncated, corrupt or of another format. No row of it was used.
    Remedy: replace the file, or move it out of the source's path, then run again.
    """

    source: str
    file: str
    reason: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: {self.file} cannot be read: {self.reason}. "
            "No row of it was used. Replace the file, or move it out of the source's path, then run again."
        )


@dataclass(eq=False)
class BrokenArchive(BrokenFile):
    """A compressed file of a source cannot be unpacked.

    Cause: the archive is cut, corrupt, too large, or still being written. No row of it was used.
    Remedy: replace the file, or move it out of the source's path. A log source reads its other files meanwhile.
    """


@dataclass(eq=False)
class FilesChanged(SourceError):
    """Files of a source changed while a run read them.

    Cause: a file was renamed, replaced, extended or removed after the run was planned.
    Remedy: none at first: the flow reads the interval again once. Write files under another name, and rename them
        into the folder when they are complete.
    """

    source: str
    changes: tuple[str, ...]

    def message(self) -> str:
        shown = "; ".join(self.changes[:3])
        more = f"; and {len(self.changes) - 3} more" if len(self.changes) > 3 else ""
        return (
            f"source `{self.source}`: files changed after the run was planned: {shown}{more}. Rows of two states of "
            "the files cannot be combined, so nothing was published. Run again to read the interval from the start. "
            "Write files under another name, and rename them into the folder when they are complete."
        )


@dataclass(eq=False)
class FolderColumn(SourceError):
    """A column that folders named `key=value` give cannot be used.

    Cause: a file has a column of that name with another value, a path has the key twice, or the column is private.
    Remedy: correct the file or its folder, or rename one of the two.
    """

    source: str
    column: str
    reason: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: the column `{self.column}`, which folders named `key=value` give, {self.reason}."
        )


@dataclass(eq=False)
class MissingLakeTable(SourceError):
    """A Delta or Iceberg table does not exist.

    Cause: a wrong path or name, another working folder, or a catalog in another database.
    Remedy: write the folder that has `_delta_log` in `path:`, or the namespace and name that the catalog has in
        `table:`.
    """

    source: str
    place: str
    """Where the table was looked for."""
    known: tuple[str, ...] = ()
    """Tables of an Iceberg catalog, if the name may be a typing error."""
    table: str = ""

    def message(self) -> str:
        return (
            f"source `{self.source}`: there is no {self.place}.{nearest(self.table, self.known)} Relative paths start "
            "at the folder where penstock runs. `path:` of a Delta table is the folder that has `_delta_log`, and "
            "`table:` of an Iceberg table is namespace and name as its catalog has them."
        )


@dataclass(eq=False)
class UnreadableTable(SourceError):
    """A Delta or Iceberg table has something that cannot be read right.

    Cause: a feature of the format that the library does not read, such as Iceberg's equality deletes or Delta's type
        widening, or a damaged file. No row of the table was used.
    Remedy: rewrite the table without the feature with the engine that writes it (for example by compaction), or read it
        through an engine, as a `kind: sql` source.
    """

    source: str
    table: str
    reason: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: {self.table} cannot be read: {self.reason}. No row of it was used. Rewrite the "
            "table without it, for example by compaction, or read it through an engine as a `kind: sql` source."
        )


@dataclass(eq=False)
class VersionGone(SourceError):
    """The version of a table that a run was planned with is gone.

    Cause: VACUUM, `expire_snapshots` or a clean-up of old metadata removed its files while the run read them.
    Remedy: none at first: the flow reads the interval again once, from the newest version. Keep old versions for longer
        than a run takes.
    """

    source: str
    version: str
    """The version, with its table."""
    reason: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: {self.version} is gone: {self.reason}. Rows of two versions cannot be combined, "
            "so nothing was published. Run again to read the newest version from the start. Keep old versions for "
            "longer than a run takes, when you VACUUM a Delta table or expire snapshots of an Iceberg table."
        )


@dataclass(eq=False)
class SourceChanged(SourceError):
    """Rows of a source changed while a run read them in several partitions.

    Cause: a database whose connections cannot share a snapshot (MariaDB, MySQL): its partitions read different moments,
        and the fingerprint after the last one differs from the one before the first.
    Remedy: none at first: the flow reads the interval again once. Let the interval end before it is read (`delay:`),
        raise `partition_rows` until one partition reads it, or read from a replica that stands still.
    """

    source: str
    connection: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: rows of `{self.connection}` changed while the run read them in several "
            "partitions, and its connections cannot share a snapshot. Nothing was published. Run again to read the "
            "interval from the start. If it happens again, read it later (`delay:`), raise `partition_rows` until one "
            "partition reads the interval, or read from a replica that stands still."
        )


@dataclass(eq=False)
class ImplausibleTimes(SourceError):
    """The times of a log file cannot be right.

    Cause: the lines lie in 1900, 1970 or 2262, as numbers read in the wrong unit do. Or they have no year, and the time
        of their file does not tell it.
    Remedy: correct `time_format`, or set `year` to the year of the file's first line. No line after it was landed.
    """

    source: str
    file: str
    offset: int
    time: str
    reason: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: {self.file}, line at byte {self.offset}: the time {self.time} {self.reason}. "
            "No line from there on was landed. Correct the time format, or set `year` for times without one."
        )


@dataclass(eq=False)
class GroupFailed(SourceError):
    """The lines of a log cannot be grouped.

    Cause: an expression in `group.columns` names a column that the lines do not have, or does not fit its type.
    Remedy: correct the expression.
    """

    source: str
    reason: str

    def message(self) -> str:
        return f"source `{self.source}`: its lines cannot be grouped: {self.reason}. Correct `group` in the spec."


@dataclass(eq=False)
class LinesPruned(SourceError):
    """Landed log lines that the interval needs have been pruned.

    Cause: the interval is older than `retention.log_lines`.
    Remedy: keep the published scores, or score a later range. Raise `log_lines` to keep lines longer.
    """

    source: str
    begin: str
    pruned_before: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: the interval needs lines from {self.begin} on, but lines before "
            f"{self.pruned_before} have been pruned. Keep the scores that the history table has for it, or start "
            "later. Raise `log_lines` in `retention:` to keep lines longer."
        )


@dataclass(eq=False)
class InexactColumn(SourceError):
    """A key or a column to keep has values that would lose digits.

    Cause: times with nanoseconds, or numbers that the file's reader would round.
    Remedy: write the values as text at the source, or cast them there to a type that the message names.
    """

    column: str
    reason: str
    remedy: str = "Cast it to text or to a coarser type at the source, or take it out of `keep`"
    source: str = ""
    """Empty where the name is not known yet."""

    def message(self) -> str:
        where = f"source `{self.source}`: " if self.source else ""
        return f"{where}column `{self.column}`, a key or in `keep`, {self.reason}. {self.remedy}."


@dataclass(eq=False)
class UnreadableTime(SourceError):
    """The event time of a source cannot be read as a time.

    Cause: the column has another type, or a value is in no format that Penstock reads.
    Remedy: store the event time in ISO 8601 or as epoch numbers, convert it in a `query:`, or declare its format in
        `columns:`. The message has a value and the way to write it.
    """

    source: str
    column: str
    reason: str
    value: str = ""
    remedy: str = "Store it in one format, in ISO 8601 or as epoch numbers, or convert it in a `query:`."

    def message(self) -> str:
        shown = f", as `{self.value}`" if self.value else ""
        return (
            f"source `{self.source}`: the event time `{self.column}` {self.reason}{shown}, so rows could fall into the "
            f"wrong interval. {self.remedy}"
        )


@dataclass(eq=False)
class UnfitValue(SourceError):
    """A value in a file does not fit the type of its column.

    Cause: the file has changed, or the declared type is wrong. The type comes from `columns:` or, once an interval is
        published, from the contract.
    Remedy: correct the file, declare another type in `columns:`, or accept the files as they are now with
        `penstock check PIPELINE --accept`.
    """

    source: str
    file: str
    row: int
    column: str
    value: str
    kind: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: `{self.column}` is {self.kind}, and row {self.row:,} of {self.file} has "
            f"`{self.value}`. Correct the file, or declare the type of the column under `columns:` of the source, as "
            f"in `{self.column}: string`."
        )


@dataclass(eq=False)
class MalformedRows(SourceError):
    """Too many rows of a source's CSV or JSON files, or too many of its documents, cannot be read.

    Cause: lines are broken, documents are of another kind or encoding, or values do not fit the type of their column,
        which comes from `columns:` or, once an interval is published, from the contract.
    Remedy: correct the files, declare another type in `columns:`, raise `max_malformed`, or accept the files as they
        are now with `penstock check PIPELINE --accept`.
    """

    source: str
    refused: int
    rows: int
    """All rows of the files, refused ones included."""
    limit: float
    file: str
    """That of the first refused row, as are its line and what is wrong with it."""
    line: int
    """0: the row is the file, which is a document."""
    reason: str
    """Empty if a value does not fit."""
    column: str = ""
    value: str = ""
    kind: str = ""

    def message(self) -> str:
        what = plural(self.rows, "row" if self.line else "document")
        share = f"{self.refused:,} of {what} cannot be read, and `max_malformed` is {self.limit:.2%}"
        if not self.line:
            return (
                f"source `{self.source}`: {share}. The first is {self.file}, which {self.reason}. "
                "Correct or move the document, or raise `max_malformed` of the source."
            )
        why = f"`{self.column}` is {self.kind}, and the file has `{self.value}`" if self.column else self.reason
        declare = f", or declare the column under `columns:` of the source, as in `{self.column}: string`"
        return (
            f"source `{self.source}`: {share}. The first is line {self.line:,} of {self.file}: {why}. "
            f"Correct the file{declare if self.column else ', or raise `max_malformed` of the source'}."
        )


@dataclass(eq=False)
class AmbiguousDate(SourceError):
    """The dates of a column can be read in several ways.

    Cause: all values fit several formats, such as day first and month first.
    Remedy: declare the format in `columns:` of the source.
    """

    source: str
    column: str
    value: str
    kind: str
    formats: tuple[str, ...]

    def message(self) -> str:
        ways = " or ".join(f"`{each}`" for each in self.formats)
        return (
            f"source `{self.source}`: `{self.column}` has dates like `{self.value}`, and all of them can be read as "
            f"{ways}. Declare the column under `columns:` of the source, with `type: {self.kind}` and "
            f'`format: "{self.formats[0]}"` or another of them.'
        )


@dataclass(frozen=True)
class Reading:
    """One way to read a file."""

    spec: str
    """What decides for it, as the spec takes it."""
    shown: str
    """What is read so."""


def _describe_readings(readings: tuple[Reading, ...]) -> str:
    return "; or ".join(f"`{each.spec}` reads {each.shown}" for each in readings)


@dataclass(eq=False)
class AmbiguousDialect(SourceError):
    """A text file can be read in several ways, and the result would differ.

    Cause: the file does not show which way is right, as with a first row that may be a header or data.
    Remedy: write one of the lines of the message into the source, and check it with `penstock check PIPELINE`.
    """

    source: str
    file: str
    line: int
    what: str
    readings: tuple[Reading, ...]

    def message(self) -> str:
        ways = _describe_readings(self.readings)
        return (
            f"source `{self.source}`: {self.file} line {self.line:,} is {self.what}. It can be read in several ways: "
            f"{ways}. Write the right one under the source."
        )


@dataclass(eq=False)
class AmbiguousNumber(SourceError):
    """The numbers of a column can be read in two ways.

    Cause: all values have one mark with three digits after it, as in `1.250`. The mark may be the decimal mark, or be
        between groups of digits.
    Remedy: write one of the lines of the message into the source.
    """

    source: str
    column: str
    value: str
    readings: tuple[Reading, ...]

    def message(self) -> str:
        ways = _describe_readings(self.readings)
        return (
            f"source `{self.source}`: `{self.column}` has numbers like `{self.value}`, and all of them can be read in "
            f"two ways: {ways}. Write the right one under the source."
        )


@dataclass(eq=False)
class DialectChanged(SourceError):
    """A file is not written as the files of the published intervals were.

    Cause: the delimiter, the header or the encoding changed. The first published interval made them the contract.
    Remedy: correct the file. If later files are written so too, accept it with `penstock check PIPELINE --accept`.
    """

    source: str
    file: str
    line: int
    expected: str
    found: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: {self.file} line {self.line:,} does not fit the contract: expected "
            f"{self.expected}, found {self.found}. Correct the file. If later files are written so too, accept it with "
            "`penstock check PIPELINE --accept`."
        )


@dataclass(eq=False)
class HorizonHidden(SourceError):
    """The database does not show which transactions are open.

    Cause: `settle: horizon` with a standby, with a user without the grant, or with another database than Postgres.
    Remedy: give the user the grant, connect to the primary server, or use `lookback:` instead.
    """

    connection: str
    reason: str

    def message(self) -> str:
        return (
            f"connection `{self.connection}` does not show which transactions are open: {self.reason}. "
            "Correct that, or remove `settle: horizon` and find late rows with `lookback:`."
        )


@dataclass(eq=False)
class QueryFailed(SourceError):
    """A database refused a statement.

    Cause: a mistake in a query of the spec, or a table that has changed.
    Remedy: follow the message: correct the query or the table, or look at the ledger with `penstock doctor`.
    """

    connection: str
    reason: str
    remedy: str = "Correct the query or the table."

    def message(self) -> str:
        return f"connection `{self.connection}` refused a statement: {self.reason}. {self.remedy}"


@dataclass(eq=False)
class FilesFailed(QueryFailed):
    """The rows of a source's files cannot be read.

    Cause: the files changed, or are of another kind than the spec says.
    Remedy: correct the files, or the source in the spec.
    """

    remedy: str = "Correct the files, or what the spec says of them."

    def message(self) -> str:
        return f"source `{self.connection}`: its files cannot be read: {self.reason}. {self.remedy}"


@dataclass(eq=False)
class SnapshotLost(TerminalError):
    """The database snapshot of a run is gone.

    Cause: the session that held it has ended: a server restart, a switch to another server, a lost connection, an
        administrator, or a standby that had to replay changes.
    Remedy: none at first: the flow reads the interval again once. If it fails again, run again later. For a standby,
        set `hot_standby_feedback`.
    """

    connection: str
    conflict: bool = False
    """Whether a standby ended the session because of changes that it had to replay."""

    def message(self) -> str:
        why, remedy = (
            ("the standby ended the session that held it, to replay changes of the primary server", f" {_ON_STANDBY}")
            if self.conflict
            else (
                "the session that held it has ended (a server restart, a switch to another server, a lost connection "
                "or an administrator)",
                "",
            )
        )
        return (
            f"connection `{self.connection}`: the snapshot that all partitions read is gone, because {why}. "
            "Partitions of two snapshots cannot be combined, so nothing was published. "
            f"Run again to read the interval from the start.{remedy}"
        )


@dataclass(eq=False)
class FeaturesError(TerminalError):
    """The features query fails or returns wrong rows or columns.

    Cause: an error in the SQL, a missing key column, or a query that takes too long.
    Remedy: correct `features:` as the message says. `penstock check` runs it on a few rows.
    """

    pipeline: str
    reason: str

    def message(self) -> str:
        return f"the features query of `{self.pipeline}` {self.reason}"


@dataclass(eq=False)
class ExpressionError(TerminalError):
    """A condition or a decision of the spec cannot be evaluated.

    Cause: a `when:` or `decide:` expression fails on a row or returns a wrong type.
    Remedy: correct the expression in the spec.
    """

    pipeline: str
    where: str
    reason: str

    def message(self) -> str:
        return f"{self.where} of `{self.pipeline}` {self.reason}. Correct it in the spec."


# --- models ------------------------------------------------------------------------------------


class ModelError(TerminalError):
    """A model cannot be found, trusted or used.

    Cause: one of the classes below.
    Remedy: correct the model, the model store or the spec.
    """


@dataclass(eq=False)
class ModelNotFound(ModelError):
    """The model store has no such model, version or alias.

    Cause: a typing error, a model that was never registered, or another model store.
    Remedy: register a version with `penstock models register`, or set the alias with `penstock models promote`.
    """

    ref: str
    store: str
    known: tuple[str, ...]

    def message(self) -> str:
        return (
            f"there is no model `{self.ref}` in {self.store}.{nearest(self.ref, self.known)} "
            "Register one with `penstock models register NAME FILE --reference ROWS`, or promote a version with "
            "`penstock models promote NAME VERSION ALIAS`."
        )


@dataclass(eq=False)
class ModelRefused(ModelError):
    """A model file is not what its manifest says.

    Cause: a wrong digest, a wrong score on the golden rows, or a format or version that is not supported.
    Remedy: register the model again from its original file.
    """

    model: str
    reason: str

    def message(self) -> str:
        return f"model `{self.model}` is refused: {self.reason}"


@dataclass(eq=False)
class ModelMismatch(ModelError):
    """A batch lacks columns that the model needs.

    Cause: the features query and the model do not belong together.
    Remedy: add or correct the columns in the features query, or choose another model.
    """

    model: str
    columns: tuple[str, ...]
    reason: str

    def message(self) -> str:
        names = ", ".join(f"`{c}`" for c in self.columns)
        return f"model `{self.model}` {self.reason}: {names}. Add or correct them in the features query."


# --- gates -------------------------------------------------------------------------------------


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
            f"partition {self.partition} of `{self.run}` was loaded before with other row counts: the source changed "
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
