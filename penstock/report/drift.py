"""Drift as a section of a run's document, and as a table for the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from penstock.ledger.drift_answers import DriftAnswer
from penstock.ledger.reader import PartitionRecord, RunRecord
from penstock.monitor.drift import ColumnDrift, measure_drift
from penstock.report.blocks import (
    SHORT_ID,
    Block,
    Code,
    Column,
    Inline,
    Items,
    Line,
    Paragraph,
    Section,
    Status,
    Table,
)
from penstock.run_types import BinCounts, ColumnProfile
from penstock.timezones import describe_moment
from penstock.wording import plural

WORST = 5
"""Most columns that a card shows."""
_BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class RunDrift:
    """The columns of a run that were compared, the farthest first, and those that were only counted."""

    compared: Sequence[ColumnDrift]
    counted: Sequence[ColumnProfile]

    @property
    def baseline(self) -> str | None:
        """What the columns are compared with: versions as `name/version`, or the ID of a run. None: with nothing."""
        names = {each.profile.baseline.name for each in self.compared if each.profile.baseline}
        return ", ".join(sorted(names)) or None

    @property
    def models(self) -> str:
        """The versions that the bins are of."""
        return ", ".join(sorted({each.profile.model for each in self.compared}))


def measure_run(profiles: Mapping[str, ColumnProfile]) -> RunDrift:
    """Measure the columns of a run, those with an alarm first, then the ones that are farthest from the baseline."""
    measured = [found for profile in profiles.values() if (found := measure_drift(profile))]
    measured.sort(key=lambda each: (each.profile.alarm is None, -max(each.psi, abs(each.null_change))))
    return RunDrift(measured, [profile for profile in profiles.values() if profile.baseline is None])


def describe_drift(
    run: RunRecord,
    drift: RunDrift,
    partitions: Sequence[PartitionRecord],
    answers: Mapping[str, DriftAnswer],
    zone: str = "UTC",
) -> Section | None:
    """Lay out the columns that are farthest from what they are compared with. None if the run has no profiles.

    Args:
        answers: by column, what a person answered to its alarm.
        zone: Time zone of the times.
    """
    if drift.baseline is None:
        return None
    shown = drift.compared[:WORST]
    blocks: list[Block] = [table_of(shown, partitions), *list_answers(answers, zone)]
    if len(drift.compared) > len(shown):
        compared = plural(len(drift.compared), "column")
        command = Code(f"penstock monitor drift {run.pipeline} --run {run.run_id[:SHORT_ID]}")
        blocks.append(Paragraph((f"The farthest of {compared}. All of them: ", command, ".")))
    bars = "Bars: the share of the rows by bin, from the smallest value; the last bar has values that the model "
    blocks.append(Paragraph((f"{bars}has not seen. The bins are those of ", Code(drift.models), ".")))
    return Section(("Drift against ", Code(name_baseline(drift.baseline))), blocks)


def table_of(columns: Sequence[ColumnDrift], partitions: Sequence[PartitionRecord]) -> Table:
    """Return the table of columns that were compared: both distributions, both figures, and where it comes from."""
    sliced = any(each.profile.slice for each in columns)
    rows: list[list[Inline]] = [
        [
            each.profile.column,
            ", ".join(each.profile.sources) or "–",
            f"{each.psi:.3f}",
            f"{each.before.null_share:.1%} → {each.now.null_share:.1%}",
            draw_bars(each.before),
            draw_bars(each.now),
            Status(each.profile.alarm) if each.profile.alarm else "–",
            _describe_farthest(each.profile, partitions),
            *([_describe_slice(each.profile)] if sliced else []),
        ]
        for each in columns
    ]
    names = ["column", "from", "PSI", "NULLs", "before", "this run", "alarm", "farthest in"]
    names += ["mostly in"] if sliced else []
    return Table([Column(name, number=name == "PSI") for name in names], rows)


def list_answers(answers: Mapping[str, DriftAnswer], zone: str) -> list[Block]:
    """List what people answered to the alarms."""
    lines: list[Line] = [
        (Code(column), f": {describe_answer(answer, zone)}") for column, answer in sorted(answers.items())
    ]
    return [Items(lines)] if lines else []


def describe_answer(answer: DriftAnswer, zone: str) -> str:
    """Write who acknowledged or snoozed an alarm, and why."""
    until = answer.silent_until
    what = "acknowledged" if until is None else f"snoozed until {describe_moment(until, zone)}"
    note = f": {answer.note}" if answer.note else ""
    return f"{what} by {answer.answered_by} at {describe_moment(answer.answered_at, zone)}{note}"


def draw_bars(counts: BinCounts) -> str:
    """Draw the shares of the bins as bars of a line of text. A bin that has rows has a bar."""
    tallest = max(counts.counts, default=0)
    return "".join(_BARS[-(-8 * count // tallest)] if count else _BARS[0] for count in counts.counts) if tallest else ""


def name_baseline(name: str) -> str:
    """Return a model version as it is, and the ID of a run as far as people type it."""
    return name if "/" in name else name[:SHORT_ID]


def _describe_farthest(profile: ColumnProfile, partitions: Sequence[PartitionRecord]) -> str:
    """Name the partition that is farthest from the baseline, with its bounds."""
    if profile.farthest is None:
        return "–"
    bounds = next(((p.lower_bound, p.upper_bound) for p in partitions if p.partition == profile.farthest), (None, None))
    lower, upper = ("…" if bound is None else bound for bound in bounds)
    number = f"partition {profile.farthest + 1}"
    return number if bounds == (None, None) else f"{number} ({lower} to {upper})"


def _describe_slice(profile: ColumnProfile) -> str:
    """Name the slice that most of the distance comes from."""
    found = profile.slice
    return f"{found.column} {found.value} ({found.psi_without:.3f} without)" if found else "–"


def drift_object(each: ColumnDrift) -> dict[str, Any]:
    """Return a compared column as JSON shows it."""
    profile, baseline = each.profile, each.profile.baseline
    return column_object(profile) | {
        "baseline": baseline and baseline.name,
        "baseline_counts": each.before.counts,
        "baseline_nulls": each.before.nulls,
        "psi": each.psi,
        "psi_chance": each.psi_chance,
        "null_change": each.null_change,
        "null_chance": each.null_chance,
        "farthest_partition": profile.farthest,
        "slice": profile.slice and asdict(profile.slice),
        "alarm": profile.alarm,
        "alarm_since": profile.episode,
    }


def column_object(profile: ColumnProfile) -> dict[str, Any]:
    """Return the counts of a column as JSON shows them."""
    return {
        "column": profile.column,
        "stage": profile.stage,
        "kind": profile.kind,
        "sources": profile.sources,
        "model": profile.model,
        "edges": profile.edges,
        "edges_digest": profile.edges_digest,
        "counts": profile.counts.counts,
        "nulls": profile.counts.nulls,
    }
