"""The run card: one run on one page, as markdown. Told from the ledger alone."""

import base64
import re
from collections.abc import Callable, Sequence
from itertools import chain

from penstock.database.connections import Database
from penstock.ledger.reader import RunRecord, find_run
from penstock.report.chart import draw_histogram
from penstock.report.facts import (
    RunFacts,
    partition_seconds,
    pins_of,
    read_facts,
    shift_between,
    tell_cost,
    tell_heir,
    tell_replaced,
    tell_shift,
)
from penstock.resources.memory import read_fit
from penstock.run.planning import Plan
from penstock.run_types import Pins, interval_label
from penstock.spec.pipeline import Pipeline

LinkTo = Callable[[str], str]
"""Makes the address of a flow run's page from its id."""

_COUNTS = re.compile(r"^[\d,]+ of [\d,]+ rows(, |$)")
"""How a detail may begin; on the card these counts have a column of their own."""
_STATES = {"published": "✓", "halted": "✗", "failed": "✗", "abandoned": "✗"}
_OUTCOMES = {
    "passed": "✓ passed",
    "vacuous": "∅ judged nothing",
    "noted": "• noted",
    "quarantined": "⚠ quarantined",
    "halted": "✗ **halted**",
}


def run_card(database: Database, run_id: str, link_to: LinkTo | None = None) -> str:
    """Return a run's card; `link_to` makes the addresses of flow runs, without it their runs are only named."""
    facts = read_facts(database, find_run(database, run_id))
    parts = (_head(facts, link_to), _counts(facts), _validations(facts), _quarantine(facts), _scores(facts, link_to))
    return "\n\n".join(chain(*parts, _times(facts), _earlier(facts, link_to)))


def plan_card(pipeline: Pipeline, plan: Plan, pins: Pins) -> str:
    """Return what a run would do now, as markdown."""
    lines = [f"# {pipeline.name}: what would be scored", _models(pins) + "."]
    if plan.intervals:
        rows = [f"| {planned.label} | {planned.reason} |" for planned in plan.intervals]
        lines.append("\n".join(["| interval | why |\n|---|---|", *rows]))
    else:
        lines.append("Nothing is due.")
    told = {
        "published intervals are left alone": plan.settled,
        "were withdrawn; only a restate scores them again": plan.withdrawn,
        "are due as well, and left for a later run": plan.left_over,
    }
    if plan.stall:
        lines.append(f"{plan.stall}.")
    return "\n\n".join([*lines, *(f"{count:,} {what}." for what, count in told.items() if count)])


def _head(facts: RunFacts, link_to: LinkTo | None) -> list[str]:
    run = facts.run
    mark = _STATES.get(run.state, "")
    lines = [f"# {run.pipeline} {interval_label(run.interval)}: {f'{mark} {run.state}'.strip()}"]
    if run.error:
        lines.append("> " + _plain(run.error))
    ended = f", ended {run.finished_at:%H:%M:%S}" if run.finished_at else ""
    page = f" ([flow run]({link_to(run.flow_run_id)}))" if link_to and run.flow_run_id else ""
    told = [
        f"Run `{run.run_id}`{page}, {run.reason}; started {run.started_at:%Y-%m-%d %H:%M:%S} UTC{ended}",
        f"{_models(pins_of(run))}, spec `{run.spec_fingerprint[:12]}`",
    ]
    for replaced in facts.replaced:
        did, why = tell_replaced(replaced)
        told.append(f"**{did.capitalize()} run** {_named(replaced, link_to)} ({_plain(why)})")
    if facts.successor:
        told.append(f"This run {tell_heir(run)} {_named(facts.successor, link_to)}")
    return [*lines, "\n".join(f"- {line}" for line in told)]


def _counts(facts: RunFacts) -> list[str]:
    run = facts.run
    loaded = f"{len(facts.partitions)} of {_number(run.partitions)}"
    rate = "–" if facts.rows_per_second is None else f"{facts.rows_per_second:,.0f}"
    seconds = "–" if run.seconds is None else f"{run.seconds:.2f}"
    counts = (run.rows_extracted, run.rows_published, run.rows_quarantined, run.rows_excluded)
    cells = [*map(_number, counts), loaded, seconds, rate]
    head = ["extracted", "published", "quarantined", "excluded", "partitions", "seconds", "rows/s"]
    cost = tell_cost(run)
    spent = [_table([*cost], [[*cost.values()]], right=[*cost])] if cost else []
    fit = [f"Memory: {read_fit(run.memory).describe()}."] if run.memory else []
    return [_table(head, [cells], right=head), *spent, *fit]


def _validations(facts: RunFacts) -> list[str]:
    if not facts.validations:
        return []
    rows = [
        [
            _OUTCOMES[v.outcome],
            f"{v.unexpected:,} of {v.evaluated:,}",
            f"{v.stage}: {_plain(v.expectation)}",
            v.severity,
            _plain(_COUNTS.sub("", v.detail)),
        ]
        for v in facts.validations
    ]
    head = ["outcome", "unexpected", "expectation", "severity", "detail"]
    return [f"## Validations: {facts.outcomes}", _table(head, rows, right=["unexpected"])]


def _quarantine(facts: RunFacts) -> list[str]:
    if not facts.quarantine:
        return []
    rows = [[f"{count:,}", stage, _plain(reasons)] for stage, reasons, count in facts.quarantine]
    return ["## Quarantine", _table(["rows", "stage", "reasons"], rows, right=["rows"])]


def _scores(facts: RunFacts, link_to: LinkTo | None) -> list[str]:
    run, before, shift = facts.run, facts.before, facts.shift
    if not run.score_quantiles:
        return []
    low, middle, high = (run.score_quantiles[i] for i in (5, 50, 95))
    lines = []
    if before and shift:
        other = f", scored by {before.models}" if before.models != run.models else ""
        name = f"{interval_label(before.interval)}, run {_named(before, link_to)}{other}"
        lines.append(f"**{tell_shift(shift)}**, against the published run before ({name}).")
    lines.append(f"5 % below {low:.4g}, median {middle:.4g}, 95 % below {high:.4g}.")
    earlier = before.score_quantiles if before else ()
    labels = ["this run", *(["the run before"] if earlier else [])]
    encoded = base64.b64encode(draw_histogram(run.score_quantiles, earlier, labels).encode()).decode()
    note = "*Share of the rows in bins of equal width, read off 101 quantiles: exact to about one per cent.*"
    return ["## Scores", *lines, f"![score histogram](data:image/svg+xml;base64,{encoded})", note]


def _times(facts: RunFacts) -> list[str]:
    if not facts.steps:
        return []
    longest = max(step.seconds for step in facts.steps)
    rows = []
    for step in facts.steps:
        cells = [step.step, f"{step.seconds:.2f}", f"{step.share:.0%}", _rate(step.rows_per_second)]
        rows.append([f"**{cell}**" for cell in cells] if step.seconds == longest else cells)
    numbers = ["seconds", "share", "rows/s"]
    lines = ["## Seconds by step, all partitions added up", _table(["step", *numbers], rows, right=numbers)]
    if facts.slowest and len(facts.partitions) > 1:
        lines.append(f"Slowest partition: {facts.slowest.partition + 1}, {partition_seconds(facts.slowest):.2f} s.")
    if facts.retried:
        told = ", ".join(f"{part.partition + 1} ({part.attempts} attempts)" for part in facts.retried)
        lines.append(f"Partitions that needed another try: {told}.")
    return lines


def _earlier(facts: RunFacts, link_to: LinkTo | None) -> list[str]:
    if not facts.earlier:
        return []
    rows = []
    for run in facts.earlier:
        shift = shift_between(facts.run, run)
        cells = [_named(run, link_to), f"{run.started_at:%Y-%m-%d %H:%M}", run.state, run.models]
        rows.append([*cells, f"{shift.psi:.3f}" if shift else "–", _plain(run.error or run.reason)])
    head = ["run", "started (UTC)", "state", "model", "PSI to it", "why"]
    return ["## Earlier runs of this interval", _table(head, rows, right=["PSI to it"])]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> str:
    """Return a table; the columns in `right` hold numbers."""
    sides = ["--:" if name in right else "---" for name in head]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, sides, *rows))


def _named(run: RunRecord, link_to: LinkTo | None) -> str:
    """Name a run by what is enough to type, with its link; no code marks, which Prefect's UI shows as they are."""
    short = run.run_id[:8]
    return f"[{short}]({link_to(run.flow_run_id)})" if link_to and run.flow_run_id else short


def _models(pins: Pins) -> str:
    """Tell each step's version and digest; of one step its name says nothing."""
    if len(pins) == 1:
        [pin] = pins.values()
        return f"Model **{pin}** `{pin.digest[:12]}`"
    return "Models " + ", ".join(f"{step} **{pin}** `{pin.digest[:12]}`" for step, pin in pins.items())


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _plain(text: str) -> str:
    """Keep a text from being read as a cell's end, a tag or emphasis."""
    for mark in "\\|*<":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", " ")
