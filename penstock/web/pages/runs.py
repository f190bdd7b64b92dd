"""One run, and the halted runs that a person may accept."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from penstock.report.document import read_document
from penstock.report.sections import build_sections
from penstock.report.status import Need, read_status
from penstock.run_types import interval_label
from penstock.upkeep.acceptance import accept_run, list_overruled, plan_acceptance
from penstock.upkeep.live_changes import compare_live
from penstock.web.context import WebContext
from penstock.web.pages.answers import PageError, go, require_role, show
from penstock.web.prefect import announce
from penstock.wording import plural

LONGEST_REASON = 2_000


@dataclass(frozen=True)
class Waiting:
    """An interval whose run a gate has halted."""

    pipeline: str
    need: Need


def show_run(context: WebContext, request: Request) -> Response:
    """Show the document of a run, as its card has it."""
    with context.open_run(request.path_params["run_id"]) as (database, run):
        document = read_document(database, run)
    sections = build_sections(document, context.zone)
    return show(context, request, "run.html", {"run": run, "document": document, "sections": sections})


def list_halted(context: WebContext, request: Request) -> Response:
    """Show the intervals whose last run was halted, in all pipelines."""
    found: list[Waiting] = []
    for pipeline in context.load_all()[0]:
        with context.open_of(pipeline) as database:
            status = read_status(database, pipeline, context.now(), context.zone)
        found += [Waiting(pipeline.name, need) for need in status.needs if need.kind == "halted"]
    return show(context, request, "halted.html", {"found": found})


def ask_accept(context: WebContext, request: Request) -> Response:
    """Show what readers would see change if a halted run were accepted, and ask."""
    require_role(request, "operator")
    with context.open_run(request.path_params["run_id"]) as (database, run):
        changes = list(compare_live(database, plan_acceptance(database, run.run_id)))
        gates = list_overruled(database, run.run_id)
    facts = {"run": run, "interval": interval_label(run.interval), "changes": changes, "gates": gates}
    return show(context, request, "accept.html", facts | {"longest": LONGEST_REASON})


def accept(context: WebContext, request: Request, form: Mapping[str, str]) -> Response:
    """Publish a halted run, as `penstock accept` does. Who did it is the name of the token."""
    by, reason = request.state.identity.name, form.get("reason", "").strip()
    if not 0 < len(reason) <= LONGEST_REASON:
        raise PageError(
            400, "A reason is needed", f"Say why its data are right, in at most {LONGEST_REASON:,} characters."
        )
    with context.open_run(request.path_params["run_id"]) as (database, run):
        accept_run(database, run.run_id, by, reason)
        message = f"{plural(run.rows_scored or 0, 'score')} published: {by} accepted the halted run: {reason}"
    announce(context.prefect_api, database, run, message)
    return go(request, f"/runs/{run.run_id}")
