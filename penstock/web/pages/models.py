"""The models with their history, and the questions about their aliases that wait for a person."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from penstock.errors import DatabaseLocked, NoPromotion, PenstockError
from penstock.ledger.promotions import PromotionRecord, list_promotions
from penstock.models.aliases import AliasMove
from penstock.models.manifest import Manifest
from penstock.promotion.advance import Caller, Outcome, Promoter
from penstock.promotion.decision import Answer
from penstock.promotion.evidence import EvidenceReader
from penstock.promotion.specs import PromotingPipelines, find_promoting, group_by_model
from penstock.web.context import WebContext
from penstock.web.pages.answers import PageError, go, require_role, show
from penstock.web.prefect import end_form

LONGEST_NOTE = 2_000
_SHOWN_QUESTIONS = 20


@dataclass(frozen=True)
class Question:
    """A question about an alias, with what its evidence says."""

    record: PromotionRecord
    pipelines: tuple[dict[str, Any], ...]
    """Of the evidence: by pipeline its runs, rows and checks."""


@dataclass(frozen=True)
class VersionRow:
    """One version of a model."""

    manifest: Manifest
    aliases: tuple[str, ...]


def list_models(context: WebContext, request: Request) -> Response:
    """Show all models, their versions by alias, and which ones wait for an answer."""
    registry, (sound, broken) = context.registry, context.load_all()
    models = [(name, registry.aliases(name), registry.versions(name)) for name in registry.names()]
    waiting: dict[str, list[Question]] = {}
    unread: list[tuple[str, str]] = []
    for name, _, _ in models:
        try:
            promoting = group_by_model(each for each in sound if each.model and each.model.name == name).get(name)
            waiting[name] = [each for each in _read_questions(context, promoting) if each.record.is_open]
        except DatabaseLocked:
            raise
        except PenstockError as error:  # the other models are shown
            waiting[name] = []
            unread.append((name, str(error)))
    facts = {"models": models, "waiting": waiting, "broken": broken, "unread": unread}
    return show(context, request, "models.html", facts)


def show_model(context: WebContext, request: Request) -> Response:
    """Show the versions of one model, who moved its aliases, and the questions about them."""
    name, registry = request.path_params["name"], context.registry
    if name not in registry.names():
        raise PageError(404, "Not found", f"There is no model {name}.")
    named: dict[str, list[str]] = {}
    for alias, version in registry.aliases(name).items():
        named.setdefault(version, []).append(alias)
    manifests = [registry.manifest(name, version) for version in reversed(registry.versions(name))]
    versions = [VersionRow(each, tuple(sorted(named.get(each.version, ())))) for each in manifests]
    moves: list[AliasMove] = list(reversed(registry.alias_history(name)))
    questions = _read_questions(context, _find_promoting(context, name))
    facts = {"name": name, "versions": versions, "moves": moves, "questions": questions}
    return show(context, request, "model.html", facts)


def ask_answer(context: WebContext, request: Request) -> Response:
    """Show the evidence of the open question about a model, what an answer would do, and ask."""
    require_role(request, "approver")
    name = request.path_params["name"]
    question = _find_open(context, name)
    facts = {"name": name, "question": question, "longest": LONGEST_NOTE}
    return show(context, request, "answer.html", facts)


def answer(context: WebContext, request: Request, form: Mapping[str, str]) -> Response:
    """Answer a question, through the function that the form in Prefect uses. Who answers is the name of the token."""
    name, note, decision = request.path_params["name"], form.get("note", "").strip(), form.get("decision")
    if decision not in ("approve", "decline") or len(note) > LONGEST_NOTE:
        raise PageError(400, "The answer cannot be read", "Approve or decline on the page of the question.")
    record = _find_open(context, name).record
    if form.get("number") != str(record.number):
        raise PageError(409, "This question has ended", f"{record.label} is the open question now. Look at it first.")
    by, now = request.state.identity.name, context.now()
    outcome = _advance(context, name, Caller("", now, Answer(record.number, decision == "approve", by, note, now)))
    end_form(context.prefect_api, record, f"{record.label} was answered by {by}: {outcome.why}")
    return go(request, f"/models/{name}")


def _advance(context: WebContext, name: str, caller: Caller) -> Outcome:
    promoting = find_promoting(context.settings.pipelines, name)
    with context.open(promoting.home), context.open_sources() as connect:
        reader = EvidenceReader(promoting, context.settings, connect, context.registry)
        return Promoter(reader).advance(caller)


def _find_promoting(context: WebContext, name: str) -> PromotingPipelines | None:
    """Return the pipelines that promote a model. None: there are none.

    Raises:
        PromotionsDiffer: two of them say different things about the alias.
        SpecError: a file cannot be read, so that nobody knows whether its requirements are met.
    """
    try:
        return find_promoting(context.settings.pipelines, name)
    except NoPromotion:
        return None


def _find_open(context: WebContext, name: str) -> Question:
    questions = _read_questions(context, _find_promoting(context, name))
    found = next((each for each in questions if _waits(each)), None)
    if found is None:
        raise PageError(404, "Nothing to answer", f"No question about {name} waits for an answer.")
    return found


def _waits(question: Question) -> bool:
    return question.record.state == "waiting"


def _read_questions(context: WebContext, promoting: PromotingPipelines | None) -> list[Question]:
    """Return the questions about a model's alias, the newest first."""
    if promoting is None:
        return []
    with context.open(promoting.home) as database:
        records = list_promotions(database, promoting.model, promoting.alias, limit=_SHOWN_QUESTIONS)
    return [Question(each, tuple(json.loads(each.evidence)["pipelines"])) for each in records]
