"""One run, and the halted runs that a person may accept."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from penstock.database.connections import Database
from penstock.delivery.opening import DeliveryNote, deliver_live
from penstock.errors import PenstockError
from penstock.ledger.reader import RunRecord
from penstock.report.document import read_document
from penstock.report.needs import Need
from penstock.report.sections import build_sections
from penstock.report.status import read_status
from penstock.run_types import interval_label
from penstock.spec.pipeline import Pipeline
from penstock.upkeep.acceptance import accept_run, describe_left_halted, list_overruled, plan_acceptance
from penstock.upkeep.live_changes import compare_live
from penstock.web.all_pipelines import read_all
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

    def read(database: Database, pipeline: Pipeline) -> list[Waiting]:
        status = read_status(database, pipeline, context.now(), context.zone)
        return [Waiting(pipeline.name, need) for need in status.needs if need.kind == "halted"]

    found = read_all(context, read)
    facts = {"found": [each for row in found.rows for each in row], "broken": found.broken, "unread": found.unread}
    return show(context, request, "halted.html", facts)


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
        left = describe_left_halted(database, run)
        message = f"{plural(run.rows_scored or 0, 'score')} published: {by} accepted the halted run: {reason}"
    announce(context.prefect_api, database, run, message)
    notes = [*([DeliveryNote(left, is_complete=False)] if left else []), *_deliver(context, run, database.name)]
    if not notes:
        return go(request, f"/runs/{run.run_id}")
    return show(context, request, "accepted.html", {"run": run, "message": message, "notes": notes})


def _deliver(context: WebContext, run: RunRecord, warehouse: str) -> list[DeliveryNote]:
    """Deliver what has become live, as the command does. What fails is left to the next run."""
    try:
        with context.open_sources() as connect:
            assert connect.read_value is not None  # a server's connector has it
            pipeline = context.load(run.pipeline)
            return list(deliver_live(connect(warehouse), pipeline, connect.read_value, context.settings))
    except PenstockError as error:  # its file may be gone
        return [DeliveryNote(f"nothing of `{run.pipeline}` is delivered: {error}", is_complete=False)]
