"""The run card: one run on one page, as markdown. Told from the ledger alone."""

import base64
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from penstock.carriers import ModelPin, interval_label
from penstock.connections import Database
from penstock.ledger.reader import (
    PartitionRecord,
    RunRecord,
    find_run,
    partitions_of,
    previous_published,
    quarantine_reasons,
    validations_of,
)
from penstock.planning import Plan
from penstock.spec import Pipeline

_BINS, _WIDTH, _HEIGHT = 20, 600, 160
_MARKS = {
    "passed": "✓ passed",
    "vacuous": "∅ judged nothing",
    "noted": "• noted",
    "quarantined": "⚠ quarantined",
    "halted": "✗ halted",
}


def run_card(database: Database, run_id: str) -> str:
    """Return a run's card: counts, validations, quarantine reasons, timings, score histogram."""
    run = find_run(database, run_id)
    parts = partitions_of(database, run_id)
    lines = [
        f"# {run.pipeline} {interval_label(run.interval)}: {run.state}",
        f"Run `{run.run_id}` · model **{run.model_name}/{run.model_version}** `{run.model_digest[:12]}` · "
        f"spec `{run.spec_fingerprint[:12]}` · {run.reason}",
    ]
    if run.error:
        lines.append(f"> {run.error}")
    lines += _counts(run, parts) + _validations(database, run_id) + _quarantine(database, run_id)
    lines += _scores(run, previous_published(database, run)) + _timings(parts)
    return "\n\n".join(lines)


def plan_card(pipeline: Pipeline, plan: Plan, model: ModelPin) -> str:
    """Return what a run would do now, as markdown."""
    lines = [f"# {pipeline.name}: what would be scored", f"Model **{model}** `{model.digest[:12]}`."]
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
    return "\n\n".join([*lines, *(f"{count:,} {what}." for what, count in told.items() if count)])


def _counts(run: RunRecord, parts: Sequence[PartitionRecord]) -> list[str]:
    def shown(value: int | None) -> str:
        return "–" if value is None else f"{value:,}"

    seconds = run.seconds
    rate = f"{(run.rows_extracted or 0) / seconds:,.0f}" if seconds and run.rows_extracted else "–"
    return [
        "| extracted | scored | quarantined | excluded | partitions | seconds | rows/s |\n"
        "|--:|--:|--:|--:|--:|--:|--:|\n"
        f"| {shown(run.rows_extracted)} | {shown(run.rows_published)} | {shown(run.rows_quarantined)} "
        f"| {shown(run.rows_excluded)} | {len(parts)} | {'–' if seconds is None else f'{seconds:.2f}'} | {rate} |"
    ]


def _validations(database: Database, run_id: str) -> list[str]:
    found = validations_of(database, run_id)
    if not found:
        return []
    rows = [
        f"| {v.stage} | {_cell(v.expectation)} | {v.severity} | {v.evaluated:,} | {v.unexpected:,} "
        f"| {_MARKS[v.outcome]} | {_cell(v.detail)} |"
        for v in found
    ]
    head = (
        "| stage | expectation | severity | evaluated | unexpected | outcome | detail |\n|---|---|---|--:|--:|---|---|"
    )
    return ["## Validations", "\n".join([head, *rows])]


def _quarantine(database: Database, run_id: str) -> list[str]:
    reasons = quarantine_reasons(database, run_id)
    if not reasons:
        return []
    rows = [f"| {stage} | {_cell(reason)} | {count:,} |" for stage, reason, count in reasons]
    return ["## Quarantine", "\n".join(["| stage | reasons | rows |\n|---|---|--:|", *rows])]


def _scores(run: RunRecord, before: RunRecord | None) -> list[str]:
    if not run.score_quantiles:
        return []
    low, middle, high = (run.score_quantiles[i] for i in (5, 50, 95))
    line = f"5 % below {low:.4g}, median {middle:.4g}, 95 % below {high:.4g}."
    earlier = before.score_quantiles if before else ()
    if before and earlier:
        line += f" Published run before ({interval_label(before.interval)}): median {earlier[50]:.4g}"
        line += f", so it moved by {middle - earlier[50]:+.4g}."
    encoded = base64.b64encode(score_histogram(run.score_quantiles, earlier).encode()).decode()
    return ["## Scores", line, f"![score histogram](data:image/svg+xml;base64,{encoded})"]


def score_histogram(quantiles: Sequence[float], before: Sequence[float] = ()) -> str:
    """Draw the score distribution as SVG bars, the run before as an outline.

    The shares are read off the 101 quantiles that the ledger keeps: a bar is exact to about one per cent of the rows.
    """
    low, high = min(*quantiles, *before), max(*quantiles, *before)
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    bars, outline = _shares(quantiles, edges), _shares(before, edges)
    tallest = max([*bars, *outline])
    step = _WIDTH / _BINS
    drawn = []
    for i, share in enumerate(bars):
        tall = share / tallest * _HEIGHT
        place = f'x="{i * step + 1:.1f}" y="{_HEIGHT - tall:.1f}" width="{step - 2:.1f}" height="{tall:.1f}"'
        drawn.append(f'<rect {place} fill="#3b82f6"/>')
    if outline:
        tops = [(i * step, _HEIGHT - share / tallest * _HEIGHT) for i, share in enumerate(outline)]
        points = " ".join(f"{x:.1f},{y:.1f} {x + step:.1f},{y:.1f}" for x, y in tops)
        drawn.append(f'<polyline points="{points}" fill="none" stroke="#f59e0b" stroke-width="2"/>')
    for x, anchor, value in ((0, "start", low), (_WIDTH, "end", high)):
        style = f'font-size="12" font-family="sans-serif" fill="#64748b" text-anchor="{anchor}"'
        drawn.append(f'<text x="{x}" y="{_HEIGHT + 16}" {style}>{value:.4g}</text>')
    frame = f'viewBox="0 0 {_WIDTH} {_HEIGHT + 22}" width="{_WIDTH}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {frame}>{"".join(drawn)}</svg>'


def _shares(quantiles: Sequence[float], edges: "np.ndarray[Any, Any]") -> list[float]:
    """Return the share of rows in each bin, from evenly spaced quantiles."""
    if not quantiles:
        return []
    counts, _ = np.histogram(np.asarray(quantiles), edges)
    return [float(count) / len(quantiles) for count in counts]


def _timings(parts: Sequence[PartitionRecord]) -> list[str]:
    if not parts:
        return []
    spent: dict[str, float] = defaultdict(float)
    for part in parts:
        for step, seconds in part.seconds.items():
            spent[step] += seconds
    retried = sum(1 for part in parts if part.attempts > 1)
    cells = " | ".join(f"{seconds:.2f}" for seconds in spent.values())
    head = f"| {' | '.join(spent)} |\n|{'--:|' * len(spent)}\n| {cells} |"
    return [
        "## Seconds by step, all partitions added up",
        head,
        *([f"{retried} partitions needed another try."] if retried else []),
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
