"""A metric from interval to interval as SVG: a line with its 95 % intervals."""

from collections.abc import Sequence
from itertools import groupby

from penstock.labels.trend import TrendPoint

_WIDTH, _HEIGHT = 640, 170
_TOP, _LEFT, _BOTTOM = 12, 64, 24
_BLUE, _GREY = "#3b82f6", "#757f8d"
"""Legible on white and on Prefect's dark grey, since the picture has no background."""
_SHOWN = 8
"""Points of the description in words."""


def draw_trend(points: Sequence[TrendPoint]) -> str:
    """Draw the points. Those whose labels may still come are hollow. Those of too few rows have no interval."""
    values = [p.estimate.value for p in points]
    bounds = [(p.estimate.low, p.estimate.high) for p in points]
    low = min([*values, *(low for low, _ in bounds if low is not None)])
    high = max([*values, *(high for _, high in bounds if high is not None)])
    span = (high - low) or 1.0

    def x(number: int) -> float:
        return _LEFT + _WIDTH * (number + 0.5) / len(points)

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (1 - (value - low) / span)

    middle = [(x(i), y(value)) for i, value in enumerate(values)]
    drawn = []
    for known, some in groupby(enumerate(bounds), lambda each: None not in each[1]):
        if known:  # a band over each stretch of points with an interval
            ends = [(x(i), y(low or 0.0), y(high or 0.0)) for i, (low, high) in some]
            outline = [*((at, top) for at, _, top in ends), *((at, bottom) for at, bottom, _ in reversed(ends))]
            drawn.append(f'<polygon points="{_join(outline)}" fill="{_BLUE}" fill-opacity="0.2"/>')
    drawn.append(f'<polyline points="{_join(middle)}" fill="none" stroke="{_BLUE}" stroke-width="2.5"/>')
    for (left, top), point in zip(middle, points, strict=True):
        fill = "none" if point.provisional else _BLUE
        drawn.append(f'<circle cx="{left:.1f}" cy="{top:.1f}" r="4" fill="{fill}" stroke="{_BLUE}" stroke-width="2"/>')
    base = _TOP + _HEIGHT
    drawn += [_text(_LEFT - 8, _TOP + 5, f"{high:.3g}", "end"), _text(_LEFT - 8, base + 4, f"{low:.3g}", "end")]
    drawn += [_text(x(0), base + 18, points[0].interval, "start")] if len(points) > 1 else []
    drawn.append(_text(x(len(points) - 1), base + 18, points[-1].interval, "end"))
    frame = f'viewBox="0 0 {_LEFT + _WIDTH} {base + _BOTTOM}" width="{_LEFT + _WIDTH}" height="{base + _BOTTOM}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {frame}>{"".join(drawn)}</svg>'


def describe_trend(metric: str, points: Sequence[TrendPoint]) -> str:
    """Write the newest points in words, for readers who do not see the picture."""
    shown = ", ".join(f"{point.interval}: {point.estimate.value:.3g}" for point in points[-_SHOWN:])
    return f"{metric} by interval, the newest last: {shown}."


def _join(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{left:.1f},{top:.1f}" for left, top in places)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    style = f'font-size="14" font-family="sans-serif" fill="{_GREY}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{text}</text>'
