"""Create and connect the task runner for partitions that `PENSTOCK_RUNNER` names, and count its slots."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast
from urllib.parse import urlsplit

from prefect import get_run_logger
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_API_URL
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from penstock.errors import ClusterUnreachable, NoWorkers, SettingsError, WorkerDifference, WorkerLost, WorkersDiffer
from penstock.resources.memory import MemoryPlan
from penstock.resources.runner import Runner
from penstock.run.placement import check_databases
from penstock.run_types import Pins, Receipt
from penstock.spec.pipeline import Pipeline
from penstock.tasks.agreement import (
    ONE_IMAGE,
    Agreement,
    is_loopback,
    list_differences,
    list_remarks,
    make_agreement,
)
from penstock.tasks.clusters import CLUSTERS, Answers, Workers
from penstock.tasks.process_resources import connect, settings
from penstock.tasks.worker_facts import WorkerFacts

_LOCAL: dict[str, Any] = {"threads": ThreadPoolTaskRunner, "processes": ProcessPoolTaskRunner}
_WORKERS = ("distributed", "ray", "concurrent")
"""Packages whose errors mean that a worker failed, not a partition. Importing all of them takes seconds."""

NO_WORKERS_SECONDS, STARTING_SECONDS = 60.0, 900.0
"""How long partitions wait for a worker if the cluster has none. The second: with PENSTOCK_IN_FLIGHT, which is for
clusters that start workers when there is work."""
_COUNT_SECONDS = 5.0
_agreement: ContextVar[Agreement | None] = ContextVar("agreement", default=None)


@contextmanager
def connected_runner(pipeline: Pipeline, pins: Pins) -> Iterator[TaskRunner[Any]]:
    """Give the task runner that the settings name. A connection to Ray ends with the block.

    Raises:
        SettingsError: its package is not installed, it has no workers, or they cannot open the pipeline's databases.
        ClusterUnreachable: there is no such cluster, or one of its workers does not answer.
        WorkersDiffer: a worker could score otherwise than the flow expects, or cannot score at all.
    """
    runner = settings().partition_runner
    if not runner.is_cluster:
        check_databases(runner, pipeline, connect, ())
        yield cast("TaskRunner[Any]", _LOCAL[runner.kind](max_workers=runner.slots))
        return
    with CLUSTERS[runner.kind].connected(runner) as (made, workers):
        _check_workers(runner, workers)
        check_databases(runner, pipeline, connect, workers.elsewhere)
        agreement = make_agreement(str(runner), pipeline, pins)
        _compare_workers(agreement, CLUSTERS[runner.kind].ask_workers(runner, agreement.question))
        token = _agreement.set(agreement)
        try:
            yield made
        finally:
            _agreement.reset(token)


def current_agreement() -> Agreement | None:
    """Return what the workers of this flow run's cluster must have. None without a cluster."""
    return _agreement.get()


def in_flight(fit: MemoryPlan | None = None) -> int:
    """Return how many partitions of the calling flow run may run at once.

    Args:
        fit: The memory plan. Its limit applies if all partitions run in one process.
    """
    runner = settings().partition_runner
    if fit and runner.kind == "threads":
        return fit.in_flight
    if runner.slots or settings().in_flight:
        return runner.slots or settings().in_flight
    context = FlowRunContext.get()
    return max(1, CLUSTERS[runner.kind].slots(context.task_runner if context else None))


def with_workers(check: Callable[[], None]) -> Callable[[], None]:
    """Return a check that also ends a run whose cluster has had no worker for too long: Dask itself waits for ever.

    Raises:
        NoWorkers: it has had none.
    """
    runner, context = settings().partition_runner, FlowRunContext.get()
    if not runner.is_cluster or context is None:
        return check
    longest = STARTING_SECONDS if settings().in_flight else NO_WORKERS_SECONDS
    seen = counted = time.monotonic()

    def check_both() -> None:
        nonlocal seen, counted
        check()
        now = time.monotonic()
        if now - counted < _COUNT_SECONDS:
            return
        counted = now
        try:
            slots = CLUSTERS[runner.kind].slots(context.task_runner)
        except OSError:  # the connection to the scheduler is lost: the partitions end with their own errors
            return
        if slots:
            seen = now
        elif now - seen > longest:
            raise NoWorkers(str(runner), now - seen)

    return check_both


def _check_workers(runner: Runner, workers: Workers) -> None:
    if not workers.slots and not settings().in_flight:
        raise SettingsError(
            f"{runner} has no workers",
            "Start some, or set PENSTOCK_IN_FLIGHT where the cluster starts them when there is work.",
        )
    if settings().memory is not None and workers.most_threads > 1:
        raise SettingsError(
            f"PENSTOCK_MEMORY bounds a process, and one worker of {runner} has {workers.most_threads} threads",
            "Start workers of one thread each, as in `dask worker --nthreads 1 --nworkers 4`.",
        )
    if workers.elsewhere and is_loopback(urlsplit(PREFECT_API_URL.value() or "").hostname or ""):
        get_run_logger().warning(
            "workers on other hosts cannot reach the Prefect server at %s: Prefect will not show their task runs",
            urlsplit(PREFECT_API_URL.value() or "").netloc,
        )


def _compare_workers(agreement: Agreement, answers: Answers) -> None:
    """Refuse workers that differ in what could change rows, and warn of the other differences."""
    differences: list[WorkerDifference] = []
    for worker, answer in answers.items():
        if isinstance(answer, ClusterUnreachable):
            raise answer
        if isinstance(answer, WorkerFacts):
            differences += list_differences(agreement, answer, worker)
            for remark in list_remarks(agreement, answer):
                get_run_logger().warning("worker %s: %s", worker, remark)
        else:
            what = f"the check of the worker failed: {type(answer).__name__}: {str(answer).partition(chr(10))[0]}"
            differences.append(WorkerDifference(worker, what, ONE_IMAGE))
    if differences:
        raise WorkersDiffer(agreement.runner, tuple(differences))


def outcome_of(future: PrefectFuture[Receipt], label: str) -> Receipt | Exception:
    """Return a partition's receipt or error. If its worker died, return a `WorkerLost`."""
    runner = settings().runner
    try:
        return future.result(raise_on_failure=False)
    except ImportError as error:
        return WorkerLost(label, runner, f"it cannot import what the flow can ({error})")
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _WORKERS:
            raise
        return WorkerLost(label, runner, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}".rstrip(" :."))
