"""The refused rows, and their release."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from penstock.database.connections import Database
from penstock.ledger.quarantine import QuarantinedRow, ReasonCount, count_reasons, newest_rows, standing_runs
from penstock.ledger.releases import pending_releases
from penstock.spec.pipeline import Pipeline
from penstock.upkeep.quarantine_release import Choice, Selected, release_selected, select_rows
from penstock.web.all_pipelines import ReadPipelines, read_all
from penstock.web.context import WebContext
from penstock.web.pages.answers import PageError, go, require_role, show

SHOWN_ROWS = 50
LONGEST_NOTE = 2_000


@dataclass(frozen=True)
class Refusals:
    """The current refusals of one pipeline."""

    pipeline: str
    reasons: tuple[ReasonCount, ...]
    rows: tuple[QuarantinedRow, ...]
    """The newest ones."""
    waiting: int
    """Released rows that the next run scores."""


def list_refusals(context: WebContext, request: Request) -> Response:
    """Show the refused rows of one pipeline, or the reasons of all."""
    name = request.query_params.get("pipeline", "")
    if name:
        pipeline = context.load(name)
        with context.open_of(pipeline) as database:
            found = ReadPipelines([_read_refusals(database, pipeline, SHOWN_ROWS)])
    else:
        found = read_all(context, lambda database, pipeline: _read_refusals(database, pipeline, 0))
    rows = [each for each in found.rows if each.reasons or name]
    facts = {"found": rows, "broken": found.broken, "unread": found.unread}
    return show(
        context, request, "quarantine.html", facts | {"name": name, "shown": SHOWN_ROWS, "fields": _list_fields}
    )


def _read_refusals(database: Database, pipeline: Pipeline, rows: int) -> Refusals:
    standing = standing_runs(database, pipeline.name)
    return Refusals(
        pipeline.name,
        tuple(count_reasons(database, standing)),
        tuple(newest_rows(database, standing, rows)) if rows else (),
        sum(pending_releases(database, pipeline.name).values()),
    )


def _list_fields(text: str) -> list[tuple[str, Any]]:
    """Return the fields of a stored row or key."""
    return list(json.loads(text).items())


def ask_release(context: WebContext, request: Request) -> Response:
    """Show which rows would be released, and ask."""
    require_role(request, "operator")
    name, reason = request.path_params["name"], request.query_params.get("reason", "")
    selected = _select(context, name, reason)
    facts = {"name": name, "reason": reason, "selected": selected, "longest": LONGEST_NOTE}
    return show(context, request, "release.html", facts)


def release(context: WebContext, request: Request, form: Mapping[str, str]) -> Response:
    """Release rows, as `penstock quarantine release --no-run` does. Who did it is the name of the token."""
    name, reason, note = request.path_params["name"], form.get("reason", ""), form.get("note", "").strip()
    if not 0 < len(note) <= LONGEST_NOTE:
        raise PageError(400, "A reason is needed", f"Say why, in at most {LONGEST_NOTE:,} characters.")
    pipeline = context.load(name)
    with context.open_of(pipeline) as database:
        selected = select_rows(database, _choose(reason), name)
        if form.get("rows") != selected.digest:
            raise PageError(409, "The rows have changed", "Look again: open the page, and send its form.")
        release_selected(database, selected, request.state.identity.name, note)
    return go(request, f"/quarantine?pipeline={name}")


def _select(context: WebContext, name: str, reason: str) -> Selected:
    with context.open_of(context.load(name)) as database:
        return select_rows(database, _choose(reason), name)


def _choose(reason: str) -> Choice:
    """Select rows that failed one expectation and no other, as `--failed` does."""
    if not reason:
        raise PageError(400, "No expectation is named", "Choose one from the page of refused rows.")
    return Choice((reason,))
