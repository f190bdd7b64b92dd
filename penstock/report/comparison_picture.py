"""A comparison as a picture: of each score both distributions and the rows by decile, of each decision its changes.

Its colours are legible on white and on dark grey, and it has no background of its own.
"""

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from penstock.monitor.agreement import DECILES, DecisionAgreement, ScoreAgreement
from penstock.report.chart import BLUE, ORANGE, draw_histogram, draw_text
from penstock.report.comparison import Comparison
from penstock.wording import plural

FORMATS = (".svg", ".html")
_WIDTH, _HISTOGRAM = 1040, 692
_TITLE, _ROW, _BAR = 34, 250, 26
_CELL, _LEFT = 26, 740
"""Size of a decile's cell, and where the cells begin."""
_MOST_BARS = 12
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<meta name="viewport" content="width=device-width"><title>{title}</title>
<style>body {{ margin: 2em; font-family: sans-serif }} svg {{ max-width: 100%; height: auto }}</style>
<body>{svg}
"""


def write_picture(comparison: Comparison, file: Path) -> None:
    """Draw the comparison into a file, which appears complete or not at all. Its name's end chooses the format."""
    svg = draw_comparison(comparison)
    if file.suffix.lower() == ".html":
        svg = _PAGE.format(title=escape(_title(comparison)), svg=svg)
    unfinished = file.with_name(f"{file.name}.unfinished")
    try:
        unfinished.write_text(svg, encoding="utf-8")
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


def draw_comparison(comparison: Comparison) -> str:
    """Return the picture as SVG."""
    drawn, top = [draw_text(12, 20, _title(comparison), "start")], float(_TITLE)
    for score in comparison.scores:
        drawn += _draw_score(score, top)
        top += _ROW
    for decision in comparison.decisions:
        bars = _draw_decision(decision, top)
        drawn += bars
        top += _TITLE + _BAR * max(len(bars) // 3, 1)
    size = f'viewBox="0 0 {_WIDTH} {top:.0f}" width="{_WIDTH}" height="{top:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>{"".join(drawn)}</svg>'


def _title(comparison: Comparison) -> str:
    paired, rows = comparison.paired, plural(comparison.both, "row")
    return f"{comparison.pipeline}: {paired.b.name} compared with {paired.a.name}, {rows} in both"


def _draw_score(score: ScoreAgreement, top: float) -> list[str]:
    head = f"{score.column}: {plural(score.rows, 'row')} with a value in both"
    if not score.deciles or score.psi is None or score.same_decile is None:
        return [draw_text(12, top + 16, head, "start")]
    head += f", PSI {score.psi:.3f} ({score.reading}), {score.same_decile:.0%} in the same decile"
    histogram = draw_histogram(score.quantiles_b, score.quantiles_a, (f"B {score.column}", f"A {score.column}"))
    placed = histogram.replace("<svg ", f'<svg x="12" y="{top + 24:.0f}" ', 1)
    return [draw_text(12, top + 16, head, "start"), placed, *_draw_deciles(score.deciles, top + 24)]


def _draw_deciles(deciles: Sequence[Sequence[int]], top: float) -> list[str]:
    """Draw the rows by both deciles. A cell is as dark as its share of its row, and the diagonal has a frame."""
    drawn = [draw_text(_LEFT, top + 14, "decile of A down, of B across", "start")]
    for i, row in enumerate(deciles):
        for j, rows in enumerate(row):
            place = f'x="{_LEFT + j * _CELL}" y="{top + 26 + i * 18:.0f}" width="{_CELL - 2}" height="16"'
            share = rows / sum(row) if sum(row) else 0.0
            frame = f' stroke="{ORANGE}" stroke-width="1"' if i == j else ""
            shown = f"<title>decile {i + 1} of A, {j + 1} of B: {plural(rows, 'row')} ({share:.1%})</title>"
            drawn.append(f'<rect {place} fill="{BLUE}" fill-opacity="{max(share, 0.03):.2f}"{frame}>{shown}</rect>')
    assert len(deciles) == DECILES
    return drawn


def _draw_decision(decision: DecisionAgreement, top: float) -> list[str]:
    """Draw a bar for each change from A to B, three elements a change after the heading."""
    head = f"{decision.column}: {plural(decision.flips, 'flip')} ({decision.share:.2%})"
    drawn = [draw_text(12, top + 18, head, "start")]
    changes = [cell for cell in decision.cells if cell.a != cell.b][:_MOST_BARS]
    for i, cell in enumerate(changes):
        y = top + _TITLE + i * _BAR
        width = max(1.0, (_HISTOGRAM - 320) * cell.rows / changes[0].rows)
        label = f"{_value(cell.a)} → {_value(cell.b)}"
        drawn.append(draw_text(300, y + 13, label[:36], "end"))
        drawn.append(f'<rect x="312" y="{y:.0f}" width="{width:.1f}" height="16" rx="2" fill="{BLUE}"/>')
        drawn.append(draw_text(320 + width, y + 13, plural(cell.rows, "row"), "start"))
    return drawn


def _value(value: object) -> str:
    return "NULL" if value is None else str(value)
