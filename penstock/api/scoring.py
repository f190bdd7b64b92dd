"""A run without Prefect: the order of the steps, one partition after another in this process.

`flows/score.py` has the same order with tasks, retries and several partitions at once.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from penstock.errors import Halted
from penstock.ledger.run_lease import ActiveRun
from penstock.resources.usage import PartitionMeter
from penstock.run.challengers import try_challenger
from penstock.run_types import (
    ChallengerResult,
    Features,
    Partition,
    Receipt,
    ScoredRows,
    ScoringRun,
    gather_receipts,
    interval_label,
)
from penstock.scoring_steps import ScoringSteps, timed

logger = logging.getLogger(__name__)


def score_claimed(steps: ScoringSteps, run: ScoringRun, partition_rows: int | None = None) -> None:
    """Score a claimed interval and publish it, one partition after another in this process.

    Raises:
        Halted: a gate refused the interval; nothing was published.
        TakenOver: the lease was lost and another run took over; nothing was published.
        LeaseEnded: the lease could not be renewed; nothing was published.
    """
    with steps.lease(run) as active:
        receipts, chosen = gather_receipts(_score_partitions(steps, run, partition_rows, active))
        steps.explain(run, receipts, chosen, active.check)
        result = steps.audit(run, receipts)
        active.totals, active.quantiles = result.totals, result.score_quantiles
        if result.halts:
            raise Halted(steps.pipeline.name, interval_label(run.interval), result.halts)
        active.check()
        steps.publish(run, result, active.meter.read())
        for ended in steps.finish_challengers(run, receipts):
            if ended.error:
                logger.warning("challenger %s %s: %s", ended.model, ended.state, ended.error)


def _score_partitions(
    steps: ScoringSteps, run: ScoringRun, partition_rows: int | None, active: ActiveRun
) -> Iterator[Receipt]:
    """Score one partition after another. Stop after the first one that a gate halts."""
    with ExitStack() as snapshots:
        source_plan = steps.prepare(run, partition_rows, snapshots)
        share = min(1.0, steps.pipeline.audit_rows / max(source_plan.rows, 1))
        for partition in source_plan.partitions:
            receipt = _score_partition(steps, run, partition, share)
            run = run.drop_challengers(receipt.lost_challengers)
            for spent in receipt.all_spent:
                active.meter.add(spent)
            active.check()
            yield receipt
            if receipt.halts:
                break


def _score_partition(steps: ScoringSteps, run: ScoringRun, partition: Partition, share: float) -> Receipt:
    """Read, validate, score and load one partition."""
    seconds: dict[str, float] = {}
    meter = PartitionMeter()
    with timed(seconds, "extract"):
        extracted = steps.extract(run, partition)
        meter.bytes_read = extracted.nbytes
    with timed(seconds, "validate"):
        features = steps.validate(run, partition, extracted, share)
    if not run.steps:
        with timed(seconds, "score"):
            scored = steps.score(run, partition, features, share)
        receipt = steps.load(run, partition, scored, seconds, meter=meter)
        return replace(receipt, challengers=_score_challengers(steps, run, partition, features, scored, share))
    for step in steps.pipeline.steps if not features.halts else ():
        with timed(seconds, step.name):
            features = steps.add_step(run, features, step)
    with timed(seconds, "decide"):
        scored = steps.decide(run, partition, features, share)
    return steps.load(run, partition, scored, seconds, meter=meter)


def _score_challengers(
    steps: ScoringSteps, run: ScoringRun, partition: Partition, features: Features, scored: ScoredRows, share: float
) -> tuple[ChallengerResult, ...]:
    """Score and load the same rows with each challenger. None of a partition that a gate halted."""
    columns = scored.table.schema
    return tuple(
        try_challenger(each, partial(steps.score_challenger, each, partition, features, columns, share))
        for each in (run.challengers if not scored.halts else ())
    )
