"""Promote a model: check what its challenger has shown, ask a person, and move the alias once."""

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from penstock.errors import PenstockError
from penstock.tasks.asked import AskedPromotion, read_asked_promotion
from penstock.tasks.events import end_score
from penstock.tasks.form import AskAgainField, PromotedModelField
from penstock.tasks.heartbeat import end_without_waiting
from penstock.tasks.naming import promotion_run_name
from penstock.tasks.outcome import end_with, failed, published, skipped
from penstock.tasks.promotion import advance_promotion, end_questions, lapsed, show_evidence, wait_for_answer

end_without_waiting()  # here, because Prefect starts a flow run's heartbeat before it calls the flow


@flow(name="promote", flow_run_name=promotion_run_name, persist_result=False, validate_parameters=False)
def promote(model: PromotedModelField, ask_again: AskAgainField = False) -> State[object]:
    """Check whether the challenger of a model meets the requirements. If so, ask a person, and move the alias.

    While it waits, the flow run is suspended. When somebody answers, it starts again from the top, and the ledger says
    how far it was.

    Args:
        model: Name of the model whose alias is to move.
        ask_again: Ask about a version that was declined.
    """
    logger = get_run_logger()
    asked: AskedPromotion | None = None
    try:
        asked = read_asked_promotion(model, ask_again)
        own_id = str(flow_run.id or "")
        outcome = advance_promotion(asked, own_id, None)
        while True:
            end_questions(outcome.ended)
            if outcome.step != "wait" or outcome.record is None:
                break
            show_evidence(outcome.record)
            outcome = advance_promotion(asked, own_id, wait_for_answer(outcome.record))
        logger.info("%s", outcome.why)
        if outcome.step == "settle":
            return end_with(published(outcome.why))
        return lapsed(outcome.why) if outcome.step == "lapse" else end_with(skipped(outcome.why))
    except PenstockError as error:
        logger.error("%s", error, exc_info=True)
        return end_score(asked.promoting.pipelines[0] if asked else model, failed(error))
