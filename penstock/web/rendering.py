"""Templates: every value is escaped, and a name that a template does not get is an error."""

from datetime import datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from penstock.report.blocks import Block, Inline
from penstock.report.chart import describe_histogram, draw_histogram
from penstock.report.marks import MARKS
from penstock.report.trend_picture import describe_trend, draw_trend
from penstock.timezones import describe_moment
from penstock.web.pictures import draw_bar, draw_line
from penstock.wording import plural


@cache
def _environment() -> Environment:
    loader = PackageLoader("penstock.web")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    filters = {"moment": _write_moment, "count": _write_count, "plural": plural, "kind": _name_kind, "mark": _mark}
    made.filters |= filters
    made.globals |= {"bar": draw_bar, "sparkline": draw_line, "histogram": _draw_histogram, "trend": _draw_trend}
    return made


def render(template: str, **facts: Any) -> str:
    """Fill in a template."""
    return _environment().get_template(template).render(**facts)


def _name_kind(part: Block | Inline | Any) -> str:
    """Return which of the blocks or inlines of a document it is."""
    return "text" if isinstance(part, str) else type(part).__name__


def _mark(state: str) -> str:
    return MARKS.get(state, "")


def _write_moment(moment: datetime | None, zone: str) -> str:
    return "–" if moment is None else describe_moment(moment, zone)


def _write_count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def _draw_histogram(quantiles: Any, before: Any) -> Markup:
    labels = ["this run", *(["the run before"] if before else [])]
    return _picture(draw_histogram(quantiles, before, labels), describe_histogram(quantiles, before))


def _draw_trend(metric: str, points: Any) -> Markup:
    return _picture(draw_trend(points), describe_trend(metric, points))


def _picture(svg: str, words: str) -> Markup:
    """Return a picture of our own drawing inline, with its description. It has only numbers and names of intervals."""
    figure = Markup('<figure class="picture" role="img" aria-label="{}">{}</figure>')
    return figure.format(words, Markup(svg))  # drawn here, of numbers
