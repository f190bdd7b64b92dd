"""What the ledger knows of one run and of those around it: what the run card and `penstock show` both tell."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from penstock.database.connections import Database
from penstock.ledger.lineage import earlier_runs, previous_published, replaced_by, replaced_runs
from penstock.ledger.quarantine import quarantine_reasons
from penstock.ledger.reader import (
    PartitionRecord,
    RunRecord,
    partitions_of,
    validations_of,
)
from penstock.monitor.score_shift import ScoreShift, measure_shift
from penstock.resources.usage import format_bytes
from penstock.run_types import ModelPin, Pins, Validation


@dataclass(frozen=True)
class StepTime:
    """What one step took in all partitions together."""

    step: str
    seconds: float
    share: float
    """Of all steps' seconds."""
    rows_per_second: float | None


@dataclass(frozen=True)
class RunFacts:
    """One run with all that belongs to it."""

    run: RunRecord
    partitions: Sequence[PartitionRecord]
    validations: Sequence[Validation]
    """The worst outcome first."""
    quarantine: Sequence[tuple[str, str, int]]
    """Stage, reasons, rows; most frequent first."""
    before: RunRecord | None
    """The published run of the interval before, which the scores are compared with."""
    earlier: Sequence[RunRecord]
    """The last runs of the same interval that started before, newest first."""
    replaced: Sequence[RunRecord]
    """Those whose place this run took."""
    successor: RunRecord | None
    """The run that took this one's place."""

    @property
    def shift(self) -> ScoreShift | None:
        return shift_between(self.run, self.before)

    @property
    def outcomes(self) -> str:
        """How many validations ended how, the worst first: `1 halted, 3 passed`."""
        return ", ".join(
            f"{count} {outcome}" for outcome, count in Counter(v.outcome for v in self.validations).items()
        )

    @property
    def rows_per_second(self) -> float | None:
        """Rows read by the second of the whole run, from claim to end."""
        seconds, rows = self.run.seconds, self.run.rows_extracted
        return rows / seconds if seconds and rows else None

    @property
    def steps(self) -> list[StepTime]:
        """The partitions' steps in their order, seconds added up: more than the clock where partitions overlap."""
        spent: dict[str, float] = defaultdict(float)
        for partition in self.partitions:
            for step, seconds in partition.seconds.items():
                spent[step] += seconds
        rows, total = sum(p.rows_extracted for p in self.partitions), sum(spent.values())
        return [
            StepTime(step, seconds, seconds / total if total else 0.0, rows / seconds if seconds and rows else None)
            for step, seconds in spent.items()
        ]

    @property
    def retried(self) -> list[PartitionRecord]:
        return [partition for partition in self.partitions if partition.attempts > 1]

    @property
    def slowest(self) -> PartitionRecord | None:
        return max(self.partitions, key=partition_seconds, default=None)


def read_facts(database: Database, run: RunRecord) -> RunFacts:
    """Read all that the ledger holds of a run."""
    return RunFacts(
        run,
        partitions_of(database, run.run_id),
        validations_of(database, run.run_id),
        quarantine_reasons(database, run.run_id),
        previous_published(database, run),
        earlier_runs(database, run),
        replaced_runs(database, run),
        replaced_by(database, run),
    )


def pins_of(run: RunRecord) -> Pins:
    """Return the version of each step that a run scored with; there always is one."""
    return run.step_models or {"score": ModelPin(run.model_name, run.model_version, run.model_digest)}


def shift_between(run: RunRecord, before: RunRecord | None) -> ScoreShift | None:
    """Compare the scores of two runs; None where there is nothing to compare."""
    if before is None:
        return None
    return measure_shift(run.score_quantiles, run.rows_scored or 0, before.score_quantiles, before.rows_scored or 0)


def partition_seconds(partition: PartitionRecord) -> float:
    return sum(partition.seconds.values())


def tell_cost(run: RunRecord) -> dict[str, str]:
    """Return what a run cost, each figure in words under its name; empty where it was not measured."""
    if run.cpu_seconds is None or run.peak_bytes is None:
        return {}
    peak = format_bytes(run.peak_bytes)
    told = {
        "CPU s": f"{run.cpu_seconds:,.1f}",
        "read": format_bytes(run.bytes_read or 0),
        "written": format_bytes(run.bytes_written or 0),
        "peak memory": peak if run.processes == 1 else f"{peak} in {run.processes} processes",
    }
    if run.cost is not None:
        each = run.cost_per_million
        told |= {"cost": f"{run.cost:.4g}", "cost per million rows": "–" if each is None else f"{each:.4g}"}
    return told


def tell_replaced(run: RunRecord) -> tuple[str, str]:
    """Return how a run's successor speaks of it: what it did to it, and why."""
    if run.state == "abandoned":
        return "takes over from", f"abandoned: {run.error}"
    return "supersedes", f"published {run.published_at:%Y-%m-%d %H:%M} UTC"


def tell_heir(run: RunRecord) -> str:
    """Return what became of a run that lost its place, up to its successor's name."""
    return "was taken over by" if run.state == "abandoned" else "was superseded by"


def tell_shift(shift: ScoreShift) -> str:
    """Say a shift in one line: `PSI 0.031: steady; median 0.21 → 0.22`."""
    lines = {
        "steady": "steady (below 0.1)",
        "within chance": f"no more than chance gives between so few rows (up to {shift.chance:.2g})",
        "moved": "moved (0.1 to 0.25)",
        "shifted": "shifted (above 0.25)",
    }
    return f"PSI {shift.psi:.3f}: {lines[shift.reading]}; median {shift.median_before:.4g} → {shift.median:.4g}"
