"""One partition as one task, and all partitions of a run with a few in flight.

A partition's steps are called inside its task, and only its receipt is returned: rows are never results of the flow.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from queue import Empty, SimpleQueue

from prefect import task
from prefect.futures import PrefectFuture
from prefect.runtime import task_run
from prefect.transactions import CommitMode, transaction

from penstock.resources.usage import PartitionMeter
from penstock.run_types import Features, Partition, Receipt, ScoredRows, ScoringRun
from penstock.scoring_steps import timed
from penstock.tasks.agreement import Agreement, require_agreement
from penstock.tasks.challengers import score_challengers
from penstock.tasks.inputs import whole
from penstock.tasks.retries import RETRIED
from penstock.tasks.runners import current_agreement, outcome_of, with_workers
from penstock.tasks.steps import add_step, decide_rows, extract, load_rows, score_rows, validate

CHECK_SECONDS = 1.0
"""Seconds between two calls of the check while partitions run."""


@task(name="score-partition", task_run_name="partition {partition.label}", **(RETRIED | {"retries": 1}))
def score_partition(
    run: ScoringRun, partition: Partition, sample_share: float, agreement: Agreement | None = None
) -> Receipt:
    """Read, validate, score and load one partition."""
    require_agreement(agreement)
    seconds: dict[str, float] = {}
    meter = PartitionMeter()
    # EAGER: otherwise a retried step rolls finished steps back, and Prefect shows them as RolledBack.
    with transaction(commit_mode=CommitMode.EAGER):
        with timed(seconds, "extract"):
            extracted = extract(whole(run), whole(partition))
            meter.bytes_read = extracted.nbytes
        with timed(seconds, "validate"):
            features = validate(whole(run), whole(partition), whole(extracted), sample_share)
        if run.pipeline.models:
            scored = _score_in_steps(run, partition, features, sample_share, seconds)
        else:
            with timed(seconds, "score"):
                scored = score_rows(whole(run), whole(partition), whole(features), sample_share)
        receipt = load_rows(
            whole(run), whole(partition), whole(scored), seconds, int(task_run.run_count or 1), whole(meter)
        )
        return replace(receipt, challengers=score_challengers(run, partition, features, scored, sample_share))


def _score_in_steps(
    run: ScoringRun, partition: Partition, features: Features, sample_share: float, seconds: dict[str, float]
) -> ScoredRows:
    for step in run.pipeline.steps if not features.halts else ():
        with timed(seconds, step.name):
            features = add_step(whole(run), whole(partition), whole(features), whole(step))
    with timed(seconds, "decide"):
        return decide_rows(whole(run), whole(partition), whole(features), sample_share)


def score_partitions(
    run: ScoringRun,
    partitions: Sequence[Partition],
    in_flight: int,
    sample_share: float,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Receipt]:
    """Score the partitions, at most `in_flight` at once. Yield each receipt when its partition is done.

    After a partition fails or is halted, no other one is started, and the running ones are awaited.

    Args:
        check: Called every second. It raises if the run is to end at once.
    """
    check = with_workers(check)
    ended: SimpleQueue[PrefectFuture[Receipt]] = SimpleQueue()
    waiting = list(reversed(partitions))
    running: dict[PrefectFuture[Receipt], Partition] = {}
    failure: Exception | None = None
    stopped = False
    while running or (waiting and not stopped):
        while waiting and not stopped and len(running) < in_flight:
            partition = waiting.pop()
            future = score_partition.submit(run, partition, sample_share, current_agreement())
            running[future] = partition
            future.add_done_callback(ended.put)
        done = _wait_for_one(ended, check)
        result = outcome_of(done, running.pop(done).label)
        if isinstance(result, Exception):
            failure, stopped = failure or result, True
            continue
        stopped = stopped or bool(result.halts)
        run = run.drop_challengers(result.lost_challengers)  # later partitions leave out a challenger that is lost
        yield result
    if failure is not None:
        raise failure


def _wait_for_one(ended: "SimpleQueue[PrefectFuture[Receipt]]", check: Callable[[], None]) -> PrefectFuture[Receipt]:
    while True:
        check()
        try:
            return ended.get(timeout=CHECK_SECONDS)
        except Empty:
            continue
