"""The tasks of the flow that promotes a model: take the promotion further, show its evidence, ask a person."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import httpx
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.states import Cancelled
from pydantic import Field

from penstock.ledger.promotions import PromotionRecord
from penstock.promotion.advance import Caller, Outcome, Promoter
from penstock.promotion.card import describe_question, evidence_card
from penstock.promotion.decision import Answer
from penstock.promotion.evidence import EvidenceReader
from penstock.tasks.asked import AskedPromotion
from penstock.tasks.ledger_record import open_ledger
from penstock.tasks.process_resources import connector, registry, settings
from penstock.tasks.retries import ONCE, RETRIED

logger = logging.getLogger(__name__)


class Approval(RunInput):
    """The form. Prefect keeps a run suspended as long as a value does not match."""

    decision: Literal["approve", "decline"] = Field(title="Decision", description="Approve moves the alias.")
    by: str = Field(
        title="By",
        min_length=1,
        max_length=200,
        pattern=r"\S",
        description="Your name. It is kept as you type it: Prefect does not know who you are.",
    )
    note: str = Field(default="", title="Note", max_length=2000, description="Why. It is part of the alias's history.")


@task(name="advance-promotion", task_run_name="advance promotion", **RETRIED)
def advance_promotion(asked: AskedPromotion, flow_run_id: str, answer: Answer | None) -> Outcome:
    """Gather the facts, decide, and do what needs no person.

    Raises:
        ModelNotFound: the alias names no version, or the challenger is not in the store; not retried.
    """
    open_ledger(asked.promoting.pipelines[0])
    reader = EvidenceReader(asked.promoting, settings(), connector(), registry())
    with get_client(sync_client=True) as client:
        if answer is not None:  # it was given then: a worker may have started the flow run late
            answer = replace(answer, at=find_resumption(client, flow_run_id) or answer.at)
        caller = Caller(
            flow_run_id,
            datetime.now(UTC),
            answer,
            asked.ask_again,
            lambda asking: can_answer(client, asking),
            lambda asking: find_resumption(client, asking),
        )
        return Promoter(reader).advance(caller)


@task(name="show-evidence", task_run_name="show evidence", **ONCE)
def show_evidence(record: PromotionRecord) -> str:
    """Write the evidence of a question as an artifact, and return its markdown. Without Prefect's server it goes on."""
    card = evidence_card(record)
    try:
        create_markdown_artifact(card, key=artifact_key(record.model), description=f"Promotion {record.label}")
    except (PrefectException, httpx.HTTPError, OSError) as error:
        logger.warning("could not write the evidence: %s", error)
    return card


@task(name="end-questions", task_run_name="end questions", **ONCE)
def end_questions(ended: Sequence[PromotionRecord]) -> None:
    """End the flow runs whose questions ended without an answer, so that their forms disappear."""
    with get_client(sync_client=True) as client:
        for record in ended:
            if record.flow_run_id and is_suspended(client, record.flow_run_id):
                client.set_flow_run_state(record.flow_run_id, Cancelled(message=f"{record.label} ended: {record.why}"))


def wait_for_answer(record: PromotionRecord) -> Answer:
    """Suspend this flow run until a person has filled in the form. Then it starts again, and this returns the answer.

    Prefect gets no timeout: it would end the flow run as Failed. An automation cancels it when the time is over.
    """
    form = Approval.with_initial_data(description=describe_question(record))
    filled = suspend_flow_run(wait_for_input=form, timeout=None, key=f"promotion-{record.number}")
    return Answer(
        record.number, filled.decision == "approve", filled.by.strip(), filled.note.strip(), datetime.now(UTC)
    )


def lapsed(why: str) -> State[object]:
    """Return the state of a flow run whose question lapsed. It is no failure, and nothing was decided."""
    return Cancelled(message=f"Lapsed: {why}")


def find_resumption(client: SyncPrefectClient, flow_run_id: str) -> datetime | None:
    """Return when a flow run was resumed last. None if it never was."""
    states = client.read_flow_run_states(UUID(flow_run_id)) if flow_run_id else []
    return max((state.timestamp for state in states if state.name == "Resuming"), default=None)


def can_answer(client: SyncPrefectClient, flow_run_id: str) -> bool:
    """Whether a flow run still waits for an answer or works on it. False if it has ended or is not on this server."""
    state = _read_state(client, flow_run_id)
    return state is not None and not state.is_final()


def is_suspended(client: SyncPrefectClient, flow_run_id: str) -> bool:
    """Whether a flow run waits for an answer."""
    state = _read_state(client, flow_run_id)
    return state is not None and state.is_paused()


def _read_state(client: SyncPrefectClient, flow_run_id: str) -> State[object] | None:
    try:
        return client.read_flow_run(UUID(flow_run_id)).state if flow_run_id else None
    except ObjectNotFound:
        return None


def artifact_key(model: str) -> str:
    """Return the key of a model's evidence: Prefect takes small letters, digits and dashes."""
    return "promotion-" + "".join(each if each.isalnum() and each.isascii() else "-" for each in model.lower())
