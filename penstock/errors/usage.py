"""Mistakes in specs, settings and arguments."""

from dataclasses import dataclass

from penstock.errors.base import UsageError, nearest
from penstock.wording import plural


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
    Remedy: raise `PENSTOCK_MEMORY` to at least the size in the message. With `reasons:`, a smaller `budget.rows` helps.
    """

    pipeline: str
    limit: int
    needed: int
    held: int
    kept: int
    """What the rows take that are kept for the audit and for reasons."""
    partition: int

    def message(self) -> str:
        def mebibytes(size: int) -> str:
            return f"{-(-size // 2**20):,} MiB"

        parts = f"the process uses {mebibytes(self.held)} before it reads a row"
        if self.partition:
            parts += (
                f", the rows kept for the audit and for reasons take {mebibytes(self.kept)}, "
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
class PublishRefused(UsageError):
    """Runs that have ended cannot become the live ones.

    Cause: the message names it. Rows of a run were pruned, chosen runs overlap, a live run would be covered in part, or
        the destination belongs to another pipeline.
    Remedy: choose other runs, or score the intervals again with `penstock run --restate`.
    """

    pipeline: str
    reason: str
    remedy: str = "Choose other runs, or score the intervals again with `penstock run --restate`."

    def message(self) -> str:
        return f"runs of `{self.pipeline}` cannot be published: {self.reason}. Nothing was changed. {self.remedy}"


@dataclass(eq=False)
class SandboxRefused(UsageError):
    """A sandbox cannot have this name, or cannot be used so.

    Cause: the message names it. A name has lower-case letters and digits only, because it becomes part of the name of
        a table. A sandbox that has a running run cannot end, and one that has no runs is not there.
    Remedy: follow the message.
    """

    name: str
    reason: str
    remedy: str

    def message(self) -> str:
        return f"sandbox `{self.name}` {self.reason}. {self.remedy}"


@dataclass(eq=False)
class AcceptRefused(UsageError):
    """The halt of a run cannot be overruled.

    Cause: the message names it. Only gates of the audit can be overruled, and only while nothing newer is live: a run
        that failed, or whose rows were not all scored, is refused.
    Remedy: follow the message. Mostly: correct the data or the expectation, and run again.
    """

    run_id: str
    pipeline: str
    reason: str
    remedy: str = "Correct the data or the spec, and run again."

    def message(self) -> str:
        return (
            f"run {self.run_id[:8]} of `{self.pipeline}` cannot be accepted: {self.reason}. "
            f"Nothing was changed. {self.remedy}"
        )


@dataclass(eq=False)
class NoDriftAlarm(UsageError):
    """There is no alarm of drift to acknowledge.

    Cause: the newest judged run of the pipeline has no alarm of the column, or of any column.
    Remedy: look at the alarms with `penstock monitor drift PIPELINE`.
    """

    pipeline: str
    column: str
    """Empty: no column has an alarm."""
    lasting: tuple[str, ...]

    def message(self) -> str:
        what = f"of `{self.column}`" if self.column else "of any column"
        there = f" It has one of {', '.join(f'`{column}`' for column in self.lasting)}." if self.lasting else ""
        return (
            f"the newest judged run of `{self.pipeline}` has no alarm of drift {what}.{there} Nothing was changed. "
            f"Look at the columns with `penstock monitor drift {self.pipeline}`."
        )


@dataclass(eq=False)
class CompareRefused(UsageError):
    """Two sides of a pipeline cannot be compared.

    Cause: the message names it. A name is unknown, a run was never published, no interval is in both, rows were pruned,
        or the tables have other keys.
    Remedy: choose other runs from `penstock runs`, or score the same intervals.
    """

    pipeline: str
    a: str
    b: str
    """Empty if `a` alone is the cause."""
    reason: str
    remedy: str

    def message(self) -> str:
        sides = f"`{self.a}` and `{self.b}`" if self.b else f"`{self.a}`"
        stop = "" if self.reason.endswith((".", "?")) else "."
        return f"{sides} of `{self.pipeline}` cannot be compared: {self.reason}{stop} {self.remedy}"


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


@dataclass(eq=False)
class TokenFileUnusable(UsageError):
    """The file of tokens cannot be read, or a token in it cannot be changed.

    Cause: it is missing, other users may write to it, a line is wrong, or a name is taken or unknown.
    Remedy: follow the message. As long as a server cannot read its file, no token is valid.
    """

    file: str
    line: int
    """Number of the wrong line, or 0 if none is meant."""
    what: str
    remedy: str

    def message(self) -> str:
        line = f" line {self.line}" if self.line else ""
        return f"token file {self.file}{line}: {self.what}. {self.remedy}"
