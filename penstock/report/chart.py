"""The score histogram as SVG: this run as bars, the run before as an outline."""

from collections.abc import Sequence
from itertools import pairwise

from penstock.monitor.score_shift import bin_edges, bin_shares

_BINS, _WIDTH, _HEIGHT = 20, 640, 170
_TOP, _LEFT, _BOTTOM = 26, 44, 24
_WORDED_BINS = 5
"""Bins of the description in words."""
BLUE, ORANGE, GREY = "#3b82f6", "#d97706", "#757f8d"
"""Legible on white and on Prefect's dark grey, since the picture has no background."""


def draw_histogram(quantiles: Sequence[float], before: Sequence[float] = (), labels: Sequence[str] = ()) -> str:
    """Draw the distribution of scores with a legend, from the ledger's 101 quantiles."""
    edges = bin_edges(_BINS, quantiles, before)
    bars = bin_shares(quantiles, edges)
    outline = bin_shares(before, edges) if before else []
    tallest = max([*bars, *outline])
    plot = _Plot(len(bars), tallest)
    drawn = [plot.bar(i, share) for i, share in enumerate(bars)]
    if outline:
        drawn.append(plot.outline(outline))
    drawn += plot.axes(edges)
    drawn += _legend(labels)
    width, height = _LEFT + _WIDTH + 8, _TOP + _HEIGHT + _BOTTOM
    frame = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {frame}>{"".join(drawn)}</svg>'


def describe_histogram(quantiles: Sequence[float], before: Sequence[float] = ()) -> str:
    """Write the histogram's bins in words, for readers who do not see the picture."""
    text = f"Score histogram of this run: {_list_shares(quantiles, before)}."
    return f"{text} The run before: {_list_shares(before, quantiles)}." if before else text


def _list_shares(quantiles: Sequence[float], other: Sequence[float]) -> str:
    edges = bin_edges(_WORDED_BINS, quantiles, other)
    if edges[0] == edges[-1]:
        return f"all at {edges[0]:.3g}"
    binned = zip(bin_shares(quantiles, edges), pairwise(edges), strict=True)
    return ", ".join(f"{share:.0%} from {low:.3g} to {high:.3g}" for share, (low, high) in binned if share > 0)


class _Plot:
    """The place of each bin and share in the picture."""

    def __init__(self, bins: int, tallest: float) -> None:
        self._step = _WIDTH / bins
        self._tallest = tallest

    def bar(self, i: int, share: float) -> str:
        if share <= 0:
            return ""
        top, width = self._y(share), min(self._step - 3, 60)
        x = _LEFT + (i + 0.5) * self._step - width / 2
        place = f'x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_TOP + _HEIGHT - top:.1f}"'
        return f'<rect {place} rx="2" fill="{BLUE}" fill-opacity="0.85"/>'

    def outline(self, shares: Sequence[float]) -> str:
        tops = enumerate(self._y(share) for share in shares)
        corners = [(_LEFT + (i + side) * self._step, y) for i, y in tops for side in (0, 1)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        return f'<polyline points="{points}" fill="none" stroke="{ORANGE}" stroke-width="2.5"/>'

    def axes(self, edges: Sequence[float]) -> list[str]:
        base = _TOP + _HEIGHT
        line = f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{base}" y2="{base}" stroke="{GREY}"/>'
        marks = [
            draw_text(_LEFT - 6, _TOP + 5, f"{self._tallest:.0%}", "end"),
            draw_text(_LEFT - 6, base + 4, "0 %", "end"),
        ]
        places = [(0.5, "middle")] if edges[0] == edges[-1] else [(0, "start"), (0.5, "middle"), (1, "end")]
        for part, anchor in places:
            value = edges[0] + (edges[-1] - edges[0]) * part
            marks.append(draw_text(_LEFT + _WIDTH * part, base + 18, f"{value:.3g}", anchor))
        return [line, *marks]

    def _y(self, share: float) -> float:
        return _TOP + _HEIGHT * (1 - share / self._tallest)


def _legend(labels: Sequence[str]) -> list[str]:
    drawn, x = [], _LEFT
    for label, colour in zip(labels, (BLUE, ORANGE), strict=False):
        drawn.append(f'<rect x="{x}" y="4" width="14" height="11" rx="2" fill="{colour}"/>')
        drawn.append(draw_text(x + 20, 14, label, "start"))
        x += 40 + 8 * len(label)
    return drawn


def draw_text(x: float, y: float, text: str, anchor: str) -> str:
    """Return a line of text. `anchor` is the part that is at the place: start, middle or end."""
    style = f'font-size="14" font-family="sans-serif" fill="{GREY}" text-anchor="{anchor}"'
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y}" {style}>{escaped}</text>'
