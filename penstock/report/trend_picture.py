"""A metric from interval to interval as SVG: a line with its 95 % intervals."""

from collections.abc import Sequence

from penstock.labels.trend import TrendPoint

_WIDTH, _HEIGHT = 640, 170
_TOP, _LEFT, _BOTTOM = 12, 64, 24
_BLUE, _GREY = "#3b82f6", "#757f8d"
"""Legible on white and on Prefect's dark grey, since the picture has no background."""
_SHOWN = 8
"""Points of the description in words."""


def draw_trend(points: Sequence[TrendPoint]) -> str:
    """Draw the points. Those whose labels may still come are hollow."""
    low, high = min(p.estimate.low for p in points), max(p.estimate.high for p in points)
    span = (high - low) or 1.0

    def x(number: int) -> float:
        return _LEFT + _WIDTH * (number + 0.5) / len(points)

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (1 - (value - low) / span)

    upper = [(x(i), y(p.estimate.high)) for i, p in enumerate(points)]
    lower = [(x(i), y(p.estimate.low)) for i, p in enumerate(points)]
    middle = [(x(i), y(p.estimate.value)) for i, p in enumerate(points)]
    drawn = [
        f'<polygon points="{_join([*upper, *reversed(lower)])}" fill="{_BLUE}" fill-opacity="0.2"/>',
        f'<polyline points="{_join(middle)}" fill="none" stroke="{_BLUE}" stroke-width="2.5"/>',
    ]
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
