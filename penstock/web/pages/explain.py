"""Explain a key: its score, the reasons, and its scores over time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from penstock.explain.one_score import Explainer, Explanation
from penstock.explain.scores import KeyRecord, KeyScore
from penstock.explain.sections import build_sections
from penstock.ledger.destinations import LIVE
from penstock.privacy.row_key import read_row_key
from penstock.spec.pipeline import Pipeline
from penstock.web.context import WebContext
from penstock.web.pages.answers import PageError, show

LONGEST_KEY = 1_000


@dataclass(frozen=True)
class ScoreLine:
    """The scores of a key in live runs, the oldest interval first."""

    output: str
    values: tuple[float, ...]
    words: str


def explain_key(context: WebContext, request: Request) -> Response:
    """Show a search, and what is known of the key that was searched for."""
    return _show(context, request, request.query_params, make=False)


def explain_with_reasons(context: WebContext, request: Request, form: Mapping[str, str]) -> Response:
    """Show it with reasons that are made now. This reads the source, so that no link of another site may ask for it."""
    return _show(context, request, form, make=True)


def _show(context: WebContext, request: Request, asked: Mapping[str, str], *, make: bool) -> Response:
    name, key, run = (asked.get(each, "").strip() for each in ("pipeline", "key", "run"))
    names = [pipeline.name for pipeline in context.load_all()[0]]
    facts: dict[str, Any] = {
        "names": names,
        "name": name,
        "key": key,
        "run": run,
        "sections": [],
        "line": None,
        "can_make": False,
    }
    if not key:
        return show(context, request, "explain.html", facts)
    if len(key) > LONGEST_KEY:
        raise PageError(400, "The key is too long", f"A key has at most {LONGEST_KEY:,} characters here.")
    pipeline = context.load(name or next(iter(names), ""))
    found = _explain(context, pipeline, key, run, make=make)
    told = (found.promotions, found.origin, found.absence)
    facts["sections"] = build_sections(pipeline, found.record, *told, context.zone)
    facts["line"] = _draw(found.record)
    facts["can_make"] = found.record.lacks_reasons and not make
    return show(context, request, "explain.html", facts)


def _explain(context: WebContext, pipeline: Pipeline, key: str, run: str, *, make: bool) -> Explanation:
    with context.open_of(pipeline) as warehouse, context.open_sources() as sources:
        explainer = Explainer(pipeline, context.settings, warehouse, sources, context.registry)
        return explainer.explain(read_row_key(key, pipeline.key), run, make=make)


def _draw(record: KeyRecord) -> ScoreLine | None:
    """Return the first output of the key in live runs, from interval to interval. None if there is only one."""
    known = [each for each in (record.shown, *record.others) if each and each.run.variant == LIVE]
    live = sorted((each for each in known if each.run.state == "published"), key=_start_of)
    columns = live[-1].columns if live else {}
    output = next((name for name, value in columns.items() if isinstance(value, float)), "")
    values = tuple(value for each in live if isinstance(value := each.columns.get(output), float))
    if len(values) < 2:
        return None
    return ScoreLine(output, values, f"{output}, the newest last: {', '.join(f'{value:.4g}' for value in values[-8:])}")


def _start_of(score: KeyScore) -> datetime:
    return score.run.interval_start or score.run.started_at
