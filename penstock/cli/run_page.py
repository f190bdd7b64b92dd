"""One run on one page."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.cli.output import count, make_table, plural, short

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.ledger.reader import RunRecord
    from penstock.monitor.score_shift import ScoreShift
    from penstock.report.facts import RunFacts

BINS = 12
BAR = 40
OUTCOMES = {
    "passed": "[green]passed[/]",
    "vacuous": "judged nothing",
    "noted": "[yellow]noted[/]",
    "quarantined": "[yellow]quarantined[/]",
    "halted": "[red]halted[/]",
}


def run_object(run: "RunRecord", shift: "ScoreShift | None", link: str | None) -> dict[str, Any]:
    """Return a run as `--json` writes it; `link` is the flow run's page in Prefect's UI."""
    import dataclasses
    import json

    fields = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
    fields["memory"] = json.loads(run.memory) if run.memory else None
    figures = {"seconds": run.seconds, "cost_per_million": run.cost_per_million, "psi": shift.psi if shift else None}
    return fields | figures | {"flow_run_link": link}


def page_object(facts: "RunFacts", link: str | None) -> dict[str, Any]:
    """Return the page as `--json` writes it; `link` is the flow run's page in Prefect's UI."""
    import dataclasses

    shift = facts.shift
    return run_object(facts.run, shift, link) | {
        "validations": facts.validations,
        "quarantine": [{"stage": stage, "reasons": why, "rows": rows} for stage, why, rows in facts.quarantine],
        "step_seconds": {step.step: round(step.seconds, 4) for step in facts.steps},
        "loaded_partitions": facts.partitions,
        "compared_with": facts.before.run_id if facts.before else None,
        "score_shift": dataclasses.asdict(shift) | {"reading": shift.reading} if shift else None,
        "replaced_runs": [_told(run) for run in facts.replaced],
        "replaced_by": _told(facts.successor) if facts.successor else None,
        "earlier_runs": [_told(run) for run in facts.earlier],
    }


def tell_run(facts: "RunFacts", link: str | None, console: "Console") -> None:
    """Write the page."""
    from penstock.report.facts import pins_of
    from penstock.run_types import interval_label

    run = facts.run
    console.print(f"{run.pipeline} {interval_label(run.interval)}: {run.state}", style="bold", markup=False)
    console.print(f"run {run.run_id}, {run.reason}, by {run.lease_owner}", markup=False)
    pins = pins_of(run).items()
    told = ", ".join(f"{f'{step} ' if len(pins) > 1 else ''}{pin} {pin.digest[:12]}" for step, pin in pins)
    console.print(f"model{'s' if len(pins) > 1 else ''} {told}, spec {run.spec_fingerprint[:12]}", markup=False)
    console.print(_told_times(run), markup=False)
    if run.flow_run_id:
        console.print(f"flow run {link or run.flow_run_id}", markup=False, soft_wrap=True)
    _tell_succession(facts, console)
    if run.error:
        console.print(run.error, style="red", markup=False)
    _tell_counts(facts, console)
    _tell_validations(facts, console)
    _tell_quarantine(facts, console)
    _tell_seconds(facts, console)
    _tell_scores(facts, console)
    _tell_earlier(facts, console)


def _told(run: "RunRecord") -> dict[str, Any]:
    names = ("run_id", "state", "reason", "error", "started_at", "published_at", "retired_at", "flow_run_id")
    return {name: getattr(run, name) for name in names}


def _told_times(run: "RunRecord") -> str:
    told = f"started {run.started_at:%Y-%m-%d %H:%M:%S} UTC"
    if run.state == "running":
        told += f", lease until {run.lease_until:%H:%M:%S}"
    if run.finished_at:
        told += f", ended {run.finished_at:%H:%M:%S}"
    if run.retired_at:
        told += f", {run.state} {run.retired_at:%Y-%m-%d %H:%M:%S}"
    if run.rows_pruned_at:
        told += f", its rows were pruned {run.rows_pruned_at:%Y-%m-%d %H:%M:%S}"
    return told


def _tell_succession(facts: "RunFacts", console: "Console") -> None:
    from penstock.report.facts import tell_heir, tell_replaced

    for replaced in facts.replaced:
        did, why = tell_replaced(replaced)
        console.print(f"{did} run {short(replaced.run_id)} ({why})", style="yellow", markup=False)
    if facts.successor:
        console.print(f"{tell_heir(facts.run)} run {short(facts.successor.run_id)}", style="yellow", markup=False)


def _tell_counts(facts: "RunFacts", console: "Console") -> None:
    from penstock.report.facts import tell_cost
    from penstock.resources.memory import read_fit

    run = facts.run
    names = ("planned", "extracted", "scored", "quarantined", "excluded", "partitions", "rows/s")
    table = make_table(*names, right=names)
    rows = (run.rows_planned, run.rows_extracted, run.rows_published, run.rows_quarantined, run.rows_excluded)
    loaded, rate = f"{len(facts.partitions)} of {count(run.partitions)}", facts.rows_per_second
    table.add_row(*(count(number) for number in rows), loaded, count(None if rate is None else round(rate)))
    console.print(table)
    cost = tell_cost(run)
    if cost:
        spent = make_table(*cost, right=tuple(cost))
        spent.add_row(*cost.values())
        console.print(spent)
    if run.memory:
        console.print(f"memory: {read_fit(run.memory).describe()}", markup=False)


def _tell_validations(facts: "RunFacts", console: "Console") -> None:
    if not facts.validations:
        return
    from rich.markup import escape

    title = f"Validations: {facts.outcomes}"
    right = ("judged", "failed")
    table = make_table("stage", "expectation", "severity", *right, "outcome", right=right, title=title)
    for v in facts.validations:
        what = escape(f"{v.expectation}{f': {v.detail}' if v.detail else ''}")
        table.add_row(v.stage, what, v.severity, count(v.evaluated), count(v.unexpected), OUTCOMES[v.outcome])
    console.print(table)


def _tell_quarantine(facts: "RunFacts", console: "Console") -> None:
    if not facts.quarantine:
        return
    from rich.markup import escape

    table = make_table("stage", "reasons", "rows", right=("rows",), title="Quarantine")
    for stage, reasons, rows in facts.quarantine:
        table.add_row(stage, escape(reasons), count(rows))
    console.print(table)
    console.print(f"see the rows with `penstock quarantine show {short(facts.run.run_id)}`", markup=False)


def _tell_seconds(facts: "RunFacts", console: "Console") -> None:
    if not facts.steps:
        return
    right = ("seconds", "share", "rows/s")
    table = make_table("step", *right, right=right, title="Seconds, all partitions")
    longest = max(step.seconds for step in facts.steps)
    for step in facts.steps:
        rate = None if step.rows_per_second is None else round(step.rows_per_second)
        style = "bold" if step.seconds == longest else None
        table.add_row(step.step, f"{step.seconds:.2f}", f"{step.share:.0%}", count(rate), style=style)
    console.print(table)
    if facts.retried:
        told = ", ".join(f"{part.partition + 1} ({part.attempts} attempts)" for part in facts.retried)
        console.print(f"{plural(len(facts.retried), 'partition')} needed another try: {told}", markup=False)


def _tell_scores(facts: "RunFacts", console: "Console") -> None:
    quantiles = facts.run.score_quantiles
    if not quantiles:
        return
    from penstock.report.facts import tell_shift
    from penstock.run_types import interval_label

    low, middle, high = (quantiles[i] for i in (5, 50, 95))
    console.print(f"Scores: 5 % below {low:.4g}, median {middle:.4g}, 95 % below {high:.4g}", style="bold")
    if facts.before and facts.shift:
        console.print(tell_shift(facts.shift), markup=False)
        name = f"{interval_label(facts.before.interval)}, run {short(facts.before.run_id)}, {facts.before.models}"
        console.print(f"against the published run before: {name}", markup=False)
    for edge, share in _histogram(quantiles):
        console.print(f"  {edge:>10.4g} {'█' * round(share * BAR)} {share:.0%}", markup=False)


def _histogram(quantiles: Sequence[float]) -> list[tuple[float, float]]:
    """Return (lower edge, share of the rows) of equally wide bins."""
    from penstock.monitor.score_shift import bin_edges, bin_shares

    edges = bin_edges(BINS, quantiles)
    return list(zip(edges, bin_shares(quantiles, edges), strict=False))


def _tell_earlier(facts: "RunFacts", console: "Console") -> None:
    if not facts.earlier:
        return
    from rich.markup import escape

    table = make_table("run", "started", "state", "model", "why", title="Earlier runs of this interval")
    for run in facts.earlier:
        started = f"{run.started_at:%m-%d %H:%M:%S}"
        table.add_row(short(run.run_id), started, run.state, run.models, escape(run.error or run.reason))
    console.print(table)
