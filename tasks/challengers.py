"""The tasks of a run's challengers. An error in one of them never fails the champion's run."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa
from prefect import get_run_logger, task

from penstock.run.challenger_ends import ChallengerEnd
from penstock.run.challengers import try_challenger
from penstock.run_types import (
    ChallengerResult,
    Challengers,
    Features,
    LeftOut,
    ModelPin,
    Partition,
    Pins,
    Receipt,
    ScoredRows,
    ScoringRun,
    deciding_model,
    pin_challengers,
)
from penstock.spec.pipeline import Pipeline
from penstock.spec.steps import ModelRef, choose_challengers
from penstock.tasks.events import announce_challenger
from penstock.tasks.inputs import whole
from penstock.tasks.process_resources import registry, scoring_steps
from penstock.tasks.retries import ONCE, RETRIED

logger = logging.getLogger(__name__)
TRIED_TWICE = RETRIED | {"retries": 1}
"""Fewer tries than the champion's tasks have, because the champion waits for its challengers."""
_NOT_FOUND = "it was not found when the backfill of this interval began"


@task(name="resolve-challenger", task_run_name="resolve {ref}", **TRIED_TWICE)
def resolve_challenger(ref: ModelRef) -> ModelPin:
    """Resolve a challenger's alias once. The version is pinned for the whole flow."""
    return registry().resolve(ref)


def resolve_challengers(pipeline: Pipeline, pins: Pins, choice: str = "") -> Challengers:
    """Pin a version of each challenger of the spec. One that cannot be found is left out.

    Args:
        choice: Versions that a backfill has chosen for all of its intervals, as `choose_challengers` reads them.
    """
    chosen = choose_challengers(pipeline.challengers, choice)
    wanted = [each.model_copy(update={"model": ref}) for each, ref in chosen.items() if ref]
    found = pin_challengers(wanted, deciding_model(pins), resolve_challenger)
    absent = tuple(LeftOut(str(each.model), _NOT_FOUND, failed=True) for each, ref in chosen.items() if ref is None)
    found = replace(found, left_out=(*absent, *found.left_out))
    for each in found.left_out:
        get_run_logger().log(
            logging.WARNING if each.failed else logging.INFO, "challenger %s is not scored: %s", each.model, each.why
        )
    return found


@task(name="score-challenger", task_run_name="{challenger.variant} {partition.label}", **TRIED_TWICE)
def score_challenger(
    challenger: ScoringRun, partition: Partition, features: Features, champion: pa.Schema, sample_share: float
) -> Receipt:
    """Score the champion's rows of a partition with a challenger, and load the scores in one transaction."""
    return scoring_steps(challenger.pipeline).score_challenger(challenger, partition, features, champion, sample_share)


def score_challengers(
    run: ScoringRun, partition: Partition, features: Features, scored: ScoredRows, sample_share: float
) -> tuple[ChallengerResult, ...]:
    """Score a partition with each challenger. None of a partition that a gate halted."""

    def score(challenger: ScoringRun) -> Receipt:
        columns = scored.table.schema
        return score_challenger(whole(challenger), whole(partition), whole(features), whole(columns), sample_share)

    return tuple(try_challenger(each, partial(score, each)) for each in run.challengers if not scored.halts)


@task(name="finish-challengers", task_run_name="finish challengers", **ONCE)
def finish_challengers(run: ScoringRun, receipts: Sequence[Receipt]) -> tuple[ChallengerEnd, ...]:
    """Judge and publish the challengers' runs of a published champion, each on its own."""
    return scoring_steps(run.pipeline).finish_challengers(run, receipts)


def conclude_challengers(run: ScoringRun, receipts: Sequence[Receipt]) -> None:
    """Finish the challengers of a published champion, and announce those that failed. Raises nothing."""
    for left in run.left_out:
        if left.failed:
            announce_challenger(run, None, left.model, "failed", left.why)
    if not run.challengers:
        return
    state = finish_challengers(whole(run), whole(receipts), return_state=True)
    ended = state.result(raise_on_failure=False)
    if isinstance(ended, BaseException):  # their leases end, and the next run gives them up
        logger.error("the challengers of run %s are not finished: %s", run.run_id, ended)
        return
    for each in ended:
        if each.error:
            get_run_logger().warning("challenger %s %s: %s", each.model, each.state, each.error)
            announce_challenger(run, each.run_id, each.model, each.state, each.error)
