"""The run card: one run on one page, as markdown. Told from the ledger alone."""

import base64
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from penstock.carriers import interval_label
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

_BINS = 20
_MARKS = {"passed": "✓ passed", "vacuous": "∅ judged nothing", "noted": "• noted", "quarantined": "⚠ quarantined", "halted": "✗ halted"}


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


def _counts(run: RunRecord, parts: Sequence[PartitionRecord]) -> list[str]:
    def shown(value: int | None) -> str:
        return "–" if value is None else f"{value:,}"

    seconds = run.seconds
    rate = f"{(run.rows_extracted or 0) / seconds:,.0f}" if seconds and run.rows_extracted else "–"
    return [
        "| extracted | scored | quarantined | excluded | partitions | seconds | rows/s |\n|--:|--:|--:|--:|--:|--:|--:|\n"
        f"| {shown(run.rows_extracted)} | {shown(run.rows_scored)} | {shown(run.rows_quarantined)} "
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
    head = "| stage | expectation | severity | evaluated | unexpected | outcome | detail |\n|---|---|---|--:|--:|---|---|"
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
    if before and before.score_quantiles:
        moved = middle - before.score_quantiles[50]
        line += f" Median of the published run before ({interval_label(before.interval)}): {before.score_quantiles[50]:.4g} ({moved:+.4g})."
    svg = score_histogram(run.score_quantiles, before.score_quantiles if before else ())
    encoded = base64.b64encode(svg.encode()).decode()
    return ["## Scores", line, f"![score histogram](data:image/svg+xml;base64,{encoded})"]


def score_histogram(quantiles: Sequence[float], before: Sequence[float] = ()) -> str:
    """Draw the score distribution as SVG bars, the run before as an outline.

    The shares are read off the 101 quantiles that the ledger keeps, so a bar is exact to about one per cent of the rows.
    """
    ends = [*quantiles, *before]
    edges = np.linspace(min(ends), max(ends) or 1.0, _BINS + 1) if max(ends) > min(ends) else np.linspace(ends[0] - 0.5, ends[0] + 0.5, _BINS + 1)
    bars, outline = _shares(quantiles, edges), _shares(before, edges)
    top = max([*bars, *outline, 1e-9])
    width, height, step = 600, 160, 600 / _BINS
    drawn = [
        f'<rect x="{i * step + 1:.1f}" y="{height - h / top * height:.1f}" width="{step - 2:.1f}" height="{h / top * height:.1f}" fill="#3b82f6"/>'
        for i, h in enumerate(bars)
    ]
    if len(outline):
        points = " ".join(f"{i * step:.1f},{height - h / top * height:.1f} {(i + 1) * step:.1f},{height - h / top * height:.1f}" for i, h in enumerate(outline))
        drawn.append(f'<polyline points="{points}" fill="none" stroke="#f59e0b" stroke-width="2"/>')
    text = "".join(
        f'<text x="{x}" y="{height + 16}" font-size="12" text-anchor="{anchor}" fill="#64748b" font-family="sans-serif">{value:.4g}</text>'
        for x, anchor, value in ((0, "start", edges[0]), (width, "end", edges[-1]))
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 22}" width="{width}">{"".join(drawn)}{text}</svg>'


def _shares(quantiles: Sequence[float], edges: np.ndarray) -> list[float]:  # type: ignore[type-arg]
    """Return the share of rows in each bin, from evenly spaced quantiles."""
    if not len(quantiles):
        return []
    counts, _ = np.histogram(np.asarray(quantiles), edges)
    return [float(c) / len(quantiles) for c in counts]


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
    return ["## Seconds by step, all partitions added up", head, *([f"{retried} partitions needed another try."] if retried else [])]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
