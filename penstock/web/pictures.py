"""Small pictures as SVG: a bar for a contribution, a line for a row of figures. They have a description for readers."""

from collections.abc import Sequence

from markupsafe import Markup

_BAR_WIDTH, _BAR_HEIGHT = 160, 14
_LINE_WIDTH, _LINE_HEIGHT, _EDGE = 120, 28, 3


def draw_bar(share: float) -> Markup:
    """Draw a bar from the middle: to the right for what adds, to the left for what takes away.

    Args:
        share: From -1 to 1, of half of the width. The number stands beside the bar, so readers need no description.
    """
    half = _BAR_WIDTH / 2
    length = max(min(abs(share), 1.0) * half, 1.0)
    x = half if share >= 0 else half - length
    side = "adds" if share >= 0 else "takes"
    return Markup(
        '<svg class="bar" viewBox="0 0 {w} {h}" width="{w}" height="{h}" aria-hidden="true" focusable="false">'
        '<line class="axis" x1="{m}" x2="{m}" y1="0" y2="{h}"/>'
        '<rect class="{side}" x="{x}" y="2" width="{length}" height="{inner}" rx="2"/></svg>'
    ).format(
        w=_BAR_WIDTH, h=_BAR_HEIGHT, m=half, side=side, x=f"{x:.1f}", length=f"{length:.1f}", inner=_BAR_HEIGHT - 4
    )


def draw_line(values: Sequence[float], words: str) -> Markup:
    """Draw figures as a line, the newest at the right. One figure is a dot. `words` describe them."""
    if not values:
        return Markup('<span class="muted">–</span>')
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = (_LINE_WIDTH - 2 * _EDGE) / max(len(values) - 1, 1)
    inner = _LINE_HEIGHT - 2 * _EDGE
    places = [(_EDGE + step * i, _EDGE + inner * (1 - (value - low) / span)) for i, value in enumerate(values)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    x, y = places[-1]
    return Markup(
        '<svg class="spark" role="img" aria-label="{words}" viewBox="0 0 {w} {h}" width="{w}" height="{h}">'
        '<polyline points="{points}"/><circle cx="{x}" cy="{y}" r="2.5"/></svg>'
    ).format(words=words, w=_LINE_WIDTH, h=_LINE_HEIGHT, points=points, x=f"{x:.1f}", y=f"{y:.1f}")
