"""Every error that Penstock raises on purpose.

PenstockError
├── TransientError               the same call may succeed later; tasks retry it
│   ├── DatabaseUnavailable      refused, reset, timed out
│   │   ├── DatabaseLocked       another session or process holds what we need, for longer than we wait
│   │   └── DatabaseFull         no room on its disk
│   ├── KeyCollision             another copy of the same work wrote first
│   ├── ClusterUnreachable       no Dask scheduler, or Ray head, answers
│   └── WorkerLost               what ran a partition died without a word
├── IntervalBusy                 another run is at it; nothing to do here, and nothing to retry
└── TerminalError                the same call fails again; never retried
    ├── UsageError               exit code 2: wrong spec, settings or arguments
    │   ├── SpecError            one or more problems of a pipeline file, each with its line
    │   ├── SpecErrors           the same of several files
    │   ├── SettingsError        a setting is missing or cannot be read
    │   ├── PipelineNotFound
    │   ├── RunNotFound
    │   ├── MemoryTooSmall       PENSTOCK_MEMORY does not hold even one small partition
    │   └── WrongState           the run is not in a state that allows this
    ├── AccessDenied             wrong password, missing grant
    ├── SourceError              a source cannot be read as declared
    │   ├── MissingTable
    │   ├── MissingColumns
    │   ├── NoFiles              a path matches nothing
    │   ├── OutsideRoots         a path leads out of the folders that may be read
    │   ├── BrokenFile           truncated, corrupt, not what its format says
    │   ├── LinesPruned          landed log lines of the interval have been pruned
    │   ├── UnreadableTime       the event time is not stored in one readable way
    │   ├── HorizonHidden        nobody can tell which transactions may still write (`settle: horizon`)
    │   └── QueryFailed          the database refused a statement
    ├── SnapshotLost             the moment of the source that a run reads is no longer held still
    ├── FeaturesError            the features query fails or does not keep its contract
    ├── ExpressionError          a condition or a decision of the spec cannot be evaluated
    ├── ModelError
    │   ├── ModelNotFound
    │   ├── ModelRefused         digest, golden rows, file format or version are not as the manifest says
    │   └── ModelMismatch        the batch lacks what the manifest asks for
    ├── Halted                   exit code 3: a gate refused the interval; nothing was published
    │   └── OverBudget           what the run would take is more than its `budget:` allows; no row was read
    ├── DestinationMismatch      the history table has another key, or columns of other types
    ├── PartitionMoved           two copies of a partition saw different rows
    ├── ReconciliationFailed     rows extracted, scored, quarantined and excluded do not add up
    └── TakenOver                this run lost its interval to another run

Each class holds its facts as fields, survives pickling, and says what happened, where, and what to do next.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, ClassVar


def nearest(word: str, known: Sequence[str]) -> str:
    """Say which known word was probably meant, or list the known ones; empty when there are none."""
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
    """Base of all errors that a user may meet; `exit_code` is what the command line returns."""

    exit_code: ClassVar[int] = 1

    def message(self) -> str:
        raise NotImplementedError

    def __str__(self) -> str:
        return self.message()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))


class TransientError(PenstockError):
    """The same call may succeed later."""


class TerminalError(PenstockError):
    """The same call fails again."""


class UsageError(TerminalError):
    """What the user wrote is wrong; nothing was started."""

    exit_code: ClassVar[int] = 2


# --- transient ---------------------------------------------------------------------------------


@dataclass(eq=False)
class DatabaseUnavailable(TransientError):
    connection: str
    reason: str

    def message(self) -> str:
        return (
            f"connection `{self.connection}` did not answer as it should: {self.reason}. "
            "Check that the database runs and can be reached from here, then run again."
        )


@dataclass(eq=False)
class DatabaseLocked(DatabaseUnavailable):
    def message(self) -> str:
        return (
            f"connection `{self.connection}` is held by another session or process, for longer than we wait: "
            f"{self.reason}. Let that end, or end it, then run again."
        )


@dataclass(eq=False)
class DatabaseFull(DatabaseUnavailable):
    def message(self) -> str:
        return (
            f"connection `{self.connection}` has no room left: {self.reason}. What readers see is untouched. "
            "Make room on its disk, then run again; `penstock prune` removes rows that nobody sees any more."
        )


@dataclass(eq=False)
class KeyCollision(TransientError):
    connection: str
    reason: str

    def message(self) -> str:
        return (
            f"connection `{self.connection}`: rows with these keys were written meanwhile: {self.reason}. "
            "Another copy of the same work is running, or has run; nothing was written twice. Run again."
        )


@dataclass(eq=False)
class ClusterUnreachable(TransientError):
    runner: str
    reason: str

    def message(self) -> str:
        return (
            f"PENSTOCK_RUNNER is {self.runner}, and there is no such cluster: {self.reason.rstrip(' .')}. "
            "Start it, mend the address, or set PENSTOCK_RUNNER to threads:n; no interval was begun."
        )


@dataclass(eq=False)
class WorkerLost(TransientError):
    partition: str
    runner: str
    reason: str

    def message(self) -> str:
        return (
            f"the worker of partition {self.partition} on {self.runner} was lost: {self.reason}. Nothing was "
            "published. Look at the worker's own log (memory is the usual reason), then run again: the interval is "
            "scored anew."
        )


# --- neither ---------------------------------------------------------------------------------


@dataclass(eq=False)
class IntervalBusy(PenstockError):
    pipeline: str
    interval: str
    run_id: str
    until: str

    def message(self) -> str:
        return (
            f"`{self.pipeline}` {self.interval} is being scored by run {self.run_id} (lease until {self.until}). "
            "Wait for it, or run again after the lease has ended: an abandoned run is taken over then."
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
    file: str
    problems: tuple[Problem, ...]

    def message(self) -> str:
        count = f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
        return "\n".join([f"{self.file}: {count} in the pipeline spec.", *(f"  {p}" for p in self.problems)])


@dataclass(eq=False)
class SpecErrors(UsageError):
    errors: tuple[SpecError, ...]

    def message(self) -> str:
        return "\n".join(str(error) for error in self.errors)


@dataclass(eq=False)
class SettingsError(UsageError):
    what: str
    remedy: str

    def message(self) -> str:
        return f"{self.what}. {self.remedy}"


@dataclass(eq=False)
class PipelineNotFound(UsageError):
    name: str
    folder: str
    known: tuple[str, ...]

    def message(self) -> str:
        return (
            f"there is no pipeline `{self.name}` in {self.folder}, nor a file of that name."
            f"{nearest(self.name, self.known)} Give a name from that folder or a path to a YAML file."
        )


@dataclass(eq=False)
class RunNotFound(UsageError):
    run_id: str
    matches: tuple[str, ...] = ()

    def message(self) -> str:
        if self.matches:
            return f"run id `{self.run_id}` is not unique: {', '.join(self.matches)}. Type more of it."
        return f"the ledger knows no run `{self.run_id}`. List the runs with `penstock runs`."


@dataclass(eq=False)
class WrongState(UsageError):
    run_id: str
    state: str
    needed: str

    def message(self) -> str:
        return f"run {self.run_id} is `{self.state}`; only a run that is `{self.needed}` can be used here."


@dataclass(eq=False)
class MemoryTooSmall(UsageError):
    pipeline: str
    limit: int
    needed: int
    held: int
    audit: int
    partition: int

    def message(self) -> str:
        def told(size: int) -> str:
            return f"{-(-size // 2**20):,} MiB"

        parts = f"the process holds {told(self.held)} before it holds a row"
        if self.partition:
            parts += (
                f", the columns for the audit take {told(self.audit)}, the smallest partition {told(self.partition)}"
            )
        return (
            f"PENSTOCK_MEMORY is {told(self.limit)}, and that is too little for `{self.pipeline}`: {parts}. "
            f"Set {'at least' if self.partition else 'more than'} {told(self.needed)}."
        )


# --- sources -----------------------------------------------------------------------------------


@dataclass(eq=False)
class AccessDenied(TerminalError):
    connection: str
    reason: str

    def message(self) -> str:
        return (
            f"connection `{self.connection}` was refused: {self.reason}. "
            f"Check user, password and grants in PENSTOCK_CONNECTIONS__{self.connection.upper()}."
        )


class SourceError(TerminalError):
    """A source cannot be read as the spec declares it."""


@dataclass(eq=False)
class MissingTable(SourceError):
    connection: str
    table: str
    known: tuple[str, ...]

    def message(self) -> str:
        return (
            f"connection `{self.connection}` has no table or view `{self.table}`.{nearest(self.table, self.known)} "
            "Name the table as the database spells it, in the source's `table:` (and `schema:`)."
        )


@dataclass(eq=False)
class MissingColumns(SourceError):
    where: str
    columns: tuple[str, ...]
    known: tuple[str, ...]

    def message(self) -> str:
        names = ", ".join(f"`{c}`" for c in self.columns)
        return f"{self.where} lacks {names}.{nearest(self.columns[0], self.known)} Mend the spec, or the source."


@dataclass(eq=False)
class NoFiles(SourceError):
    source: str
    path: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: no file matches `{self.path}`. "
            "Relative paths start at the folder where penstock runs; check the path and its glob."
        )


@dataclass(eq=False)
class OutsideRoots(SourceError):
    source: str
    path: str
    leads_to: str
    roots: tuple[str, ...]

    def message(self) -> str:
        roots = ", ".join(f"`{root}`" for root in self.roots) or "no folder"
        return (
            f"source `{self.source}`: `{self.path}` leads to {self.leads_to}, outside of {roots}. "
            "Nothing was read. Mend the path, or allow its folder in PENSTOCK_ROOTS."
        )


@dataclass(eq=False)
class BrokenFile(SourceError):
    source: str
    file: str
    reason: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: {self.file} cannot be read: {self.reason}. "
            "Nothing of it was taken; replace the file, or move it out of the source's path, and run again."
        )


@dataclass(eq=False)
class LinesPruned(SourceError):
    source: str
    begin: str
    pruned_before: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: lines from {self.begin} on are asked for, and those before {self.pruned_before} "
            "have been pruned. What they gave is in the history table; leave the interval as it is, "
            "or begin later. `log_lines` of `retention:` says how long lines stay."
        )


@dataclass(eq=False)
class UnreadableTime(SourceError):
    source: str
    column: str
    reason: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: the event time `{self.column}` {self.reason}. "
            "Rows would fall into wrong intervals; store it in one way, in UTC, or read it through a `query:`."
        )


@dataclass(eq=False)
class HorizonHidden(SourceError):
    connection: str
    reason: str

    def message(self) -> str:
        return (
            f"connection `{self.connection}` cannot say whether an interval is settled: {self.reason}. "
            "Mend that, or leave `settle: horizon` out and watch for late rows with `lookback:`."
        )


@dataclass(eq=False)
class QueryFailed(SourceError):
    connection: str
    reason: str

    def message(self) -> str:
        return f"connection `{self.connection}` refused a statement: {self.reason}. Mend the query or the table."


@dataclass(eq=False)
class SnapshotLost(TerminalError):
    connection: str

    def message(self) -> str:
        return (
            f"connection `{self.connection}`: the snapshot that all partitions read is gone, for the session that held "
            "it has ended (a restart, a lost connection, somebody ended it). Partitions of two moments do not go "
            "together, so nothing was published. Run again: the interval is read afresh."
        )


@dataclass(eq=False)
class FeaturesError(TerminalError):
    pipeline: str
    reason: str

    def message(self) -> str:
        return f"the features query of `{self.pipeline}` {self.reason}"


@dataclass(eq=False)
class ExpressionError(TerminalError):
    pipeline: str
    where: str
    reason: str

    def message(self) -> str:
        return f"{self.where} of `{self.pipeline}` {self.reason}. Mend it in the spec."


# --- models ------------------------------------------------------------------------------------


class ModelError(TerminalError):
    """A model cannot be found, trusted or fed."""


@dataclass(eq=False)
class ModelNotFound(ModelError):
    ref: str
    store: str
    known: tuple[str, ...]

    def message(self) -> str:
        return (
            f"there is no model `{self.ref}` in {self.store}.{nearest(self.ref, self.known)} "
            "Register one with `penstock models register NAME FILE --reference ROWS`, or promote a version."
        )


@dataclass(eq=False)
class ModelRefused(ModelError):
    model: str
    reason: str

    def message(self) -> str:
        return f"model `{self.model}` is refused: {self.reason}"


@dataclass(eq=False)
class ModelMismatch(ModelError):
    model: str
    columns: tuple[str, ...]
    reason: str

    def message(self) -> str:
        names = ", ".join(f"`{c}`" for c in self.columns)
        return f"model `{self.model}` {self.reason}: {names}. Add or mend them in the features query."


# --- gates -------------------------------------------------------------------------------------


@dataclass(eq=False)
class Halted(TerminalError):
    """A gate refused the interval; what readers see is untouched."""

    pipeline: str
    interval: str
    reasons: tuple[str, ...]
    exit_code: ClassVar[int] = 3

    def message(self) -> str:
        reasons = "; ".join(self.reasons)
        return (
            f"`{self.pipeline}` {self.interval} halted: {reasons}. Nothing was published. "
            "Mend the data or the expectation; the next run tries the interval again."
        )


@dataclass(eq=False)
class OverBudget(Halted):
    def message(self) -> str:
        return (
            f"`{self.pipeline}` {self.interval} halted over budget: {'; '.join(self.reasons)}. No row was read. "
            "To score it all the same, raise `budget:` in the spec; the next run tries the interval again."
        )


@dataclass(eq=False)
class DestinationMismatch(TerminalError):
    table: str
    reason: str
    remedy: str

    def message(self) -> str:
        return f"`{self.table}` cannot take these rows: {self.reason}. {self.remedy}."


@dataclass(eq=False)
class PartitionMoved(TerminalError):
    run: str
    partition: str

    def message(self) -> str:
        return (
            f"partition {self.partition} of `{self.run}` is loaded already, with other numbers of rows: the source "
            "changed between two reads. What the first copy wrote stays; run again to read the interval anew."
        )


@dataclass(eq=False)
class ReconciliationFailed(TerminalError):
    pipeline: str
    interval: str
    difference: str

    def message(self) -> str:
        return (
            f"`{self.pipeline}` {self.interval} does not add up: {self.difference}. Nothing was published. "
            "This is a fault of Penstock or of a changing source; run again, and report it if it stays."
        )


@dataclass(eq=False)
class TakenOver(TerminalError):
    run_id: str
    state: str

    def message(self) -> str:
        return (
            f"run {self.run_id} no longer holds its interval (it is `{self.state}`): its lease ended and another run "
            "took over. Nothing of this run was published; look at the newer run with `penstock runs`."
        )
