"""Measure Prefect itself: one subflow per interval of W6, with empty versions of Penstock's tasks.

Each subflow waits at its end for Prefect's heartbeat, half a second on average. Penstock's subflows do not wait
(`penstock.tasks.heartbeat`).
"""

from prefect import flow, task
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.transactions import CommitMode, transaction

from benchmarks.place import Place
from benchmarks.workloads.w6 import intervals
from penstock.tasks.retries import ONCE, RETRIED


@task(name="claim", **RETRIED)
def claim() -> None: ...


@task(name="plan-partitions", **RETRIED)
def plan_partitions() -> None: ...


@task(name="extract", **RETRIED)
def extract() -> None: ...


@task(name="validate", **ONCE)
def validate() -> None: ...


@task(name="score", **ONCE)
def score_rows() -> None: ...


@task(name="load", **RETRIED)
def load_rows() -> None: ...


@task(name="score-partition", **RETRIED)
def score_partition() -> None:
    with transaction(commit_mode=CommitMode.EAGER):
        for step in (extract, validate, score_rows, load_rows):
            step()


@task(name="audit", **RETRIED)
def audit() -> None: ...


@task(name="publish", **RETRIED)
def publish() -> None: ...


@task(name="report", **ONCE)
def report() -> None: ...


@flow(name="empty-interval", persist_result=False)
def empty_interval() -> None:
    claim()
    plan_partitions()
    score_partition.submit().result()
    audit()
    publish()
    report()


@flow(name="empty", persist_result=False)
def empty(count: int) -> None:
    run_one = empty_interval.with_options(task_runner=ThreadPoolTaskRunner(max_workers=2))
    for _ in range(count):
        run_one()


def run(place: Place) -> None:
    empty(intervals(place))
