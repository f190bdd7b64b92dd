"""One run on one page."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.cli.output import count, make_table, plural

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.carriers import Validation
    from penstock.connections import Database
    from penstock.ledger.reader import PartitionRecord, RunRecord

BINS = 12
BAR = 40
OUTCOMES = {
    "passed": "[green]passed[/]",
    "vacuous": "judged nothing",
    "noted": "[yellow]noted[/]",
    "quarantined": "[yellow]quarantined[/]",
    "halted": "[red]halted[/]",
}


@dataclass(frozen=True)
class RunDetails:
    """All that the ledger knows of a run."""

    run: "RunRecord"
    partitions: "Sequence[PartitionRecord]"
    validations: "Sequence[Validation]"
    quarantine: Sequence[tuple[str, str, int]]
    """Stage, reasons, rows."""
    link: str | None
    """Where the run is seen in Prefect's UI."""

    @property
    def step_seconds(self) -> dict[str, float]:
        """Seconds by step, all partitions added up."""
        spent: dict[str, float] = defaultdict(float)
        for part in self.partitions:
            for step, seconds in part.seconds.items():
                spent[step] += seconds
        return {step: round(seconds, 4) for step, seconds in spent.items()}

    def as_object(self) -> dict[str, Any]:
        from penstock.cli.listing import run_object

        reasons = [{"stage": stage, "reasons": reasons, "rows": rows} for stage, reasons, rows in self.quarantine]
        return run_object(self.run) | {
            "validations": self.validations,
            "quarantine": reasons,
            "step_seconds": self.step_seconds,
            "loaded_partitions": self.partitions,
            "flow_run_link": self.link,
        }


def run_details(database: "Database", run: "RunRecord") -> RunDetails:
    """Read what the ledger holds of a run."""
    from penstock.ledger.reader import partitions_of, quarantine_reasons, validations_of
    from penstock.settings import prefect_api_url

    api = prefect_api_url()
    link = (
        f"{api.rstrip('/').removesuffix('/api')}/runs/flow-run/{run.flow_run_id}" if api and run.flow_run_id else None
    )
    return RunDetails(
        run,
        partitions_of(database, run.run_id),
        validations_of(database, run.run_id),
        quarantine_reasons(database, run.run_id),
        link,
    )


def tell_run(details: RunDetails, console: "Console") -> None:
    """Write the page."""
    from penstock.carriers import interval_label

    run = details.run
    console.print(f"{run.pipeline} {interval_label(run.interval)}: {run.state}", style="bold", markup=False)
    console.print(f"run {run.run_id}, {run.reason}, by {run.lease_owner}", markup=False)
    model = f"{run.model_name}/{run.model_version} {run.model_digest[:12]}"
    console.print(f"model {model}, spec {run.spec_fingerprint[:12]}", markup=False)
    console.print(_told_times(run), markup=False)
    if run.flow_run_id:
        console.print(f"flow run {details.link or run.flow_run_id}", markup=False, soft_wrap=True)
    if run.error:
        console.print(run.error, style="red", markup=False)
    _tell_counts(details, console)
    _tell_validations(details.validations, console)
    _tell_quarantine(details, console)
    _tell_seconds(details, console)
    if run.score_quantiles:
        _tell_scores(run.score_quantiles, console)


def _told_times(run: "RunRecord") -> str:
    told = f"started {run.started_at:%Y-%m-%d %H:%M:%S} UTC"
    if run.finished_at:
        told += f", ended {run.finished_at:%H:%M:%S}"
    if run.retired_at:
        told += f", {run.state} {run.retired_at:%Y-%m-%d %H:%M:%S}"
    return told


def _tell_counts(details: RunDetails, console: "Console") -> None:
    run = details.run
    names = ("planned", "extracted", "scored", "quarantined", "excluded", "partitions")
    table = make_table(*names, right=names)
    rows = (run.rows_planned, run.rows_extracted, run.rows_published, run.rows_quarantined, run.rows_excluded)
    table.add_row(*(count(number) for number in rows), f"{len(details.partitions)} of {count(run.partitions)}")
    console.print(table)


def _tell_validations(validations: "Sequence[Validation]", console: "Console") -> None:
    if not validations:
        return
    from rich.markup import escape

    right = ("judged", "failed")
    table = make_table("stage", "expectation", "severity", *right, "outcome", right=right, title="Validations")
    for v in validations:
        what = escape(f"{v.expectation}{f': {v.detail}' if v.detail else ''}")
        table.add_row(v.stage, what, v.severity, count(v.evaluated), count(v.unexpected), OUTCOMES[v.outcome])
    console.print(table)


def _tell_quarantine(details: RunDetails, console: "Console") -> None:
    if not details.quarantine:
        return
    from rich.markup import escape

    table = make_table("stage", "reasons", "rows", right=("rows",), title="Quarantine")
    for stage, reasons, rows in details.quarantine:
        table.add_row(stage, escape(reasons), count(rows))
    console.print(table)
    console.print(f"see the rows with `penstock quarantine show {details.run.run_id[:8]}`", markup=False)


def _tell_seconds(details: RunDetails, console: "Console") -> None:
    spent = details.step_seconds
    if not spent:
        return
    table = make_table(*spent, right=tuple(spent), title="Seconds by step")
    table.add_row(*(f"{seconds:.2f}" for seconds in spent.values()))
    console.print(table)
    retried = sum(1 for part in details.partitions if part.attempts > 1)
    if retried:
        console.print(f"{plural(retried, 'partition')} needed another try")


def _tell_scores(quantiles: Sequence[float], console: "Console") -> None:
    low, middle, high = (quantiles[i] for i in (5, 50, 95))
    console.print(f"Scores: 5 % below {low:.4g}, median {middle:.4g}, 95 % below {high:.4g}", style="bold")
    for edge, share in histogram(quantiles):
        console.print(f"  {edge:>10.4g} {'█' * round(share * BAR)} {share:.0%}", markup=False)


def histogram(quantiles: Sequence[float], bins: int = BINS) -> list[tuple[float, float]]:
    """Return (lower edge, share of the rows) of equally wide bins, from evenly spaced quantiles.

    Exact to about one per cent of the rows: that is what the ledger keeps.
    """
    low, high = min(quantiles), max(quantiles)
    width = (high - low) / bins
    if width <= 0:
        return [(low, 1.0)]
    held = [0] * bins
    for value in quantiles:
        held[min(int((value - low) / width), bins - 1)] += 1
    return [(low + i * width, n / len(quantiles)) for i, n in enumerate(held)]
