"""What runs the partitions, from the setting `PENSTOCK_RUNNER`."""

from typing import Any, cast

from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from penstock.memory import Fit
from tasks.places import settings


def task_runner() -> TaskRunner[Any]:
    """Return the task runner that the settings name."""
    kind, workers = _runner()
    runners: dict[str, type[TaskRunner[Any]]] = {"threads": ThreadPoolTaskRunner, "processes": ProcessPoolTaskRunner}
    made: Any = runners[kind]
    return cast("TaskRunner[Any]", made(max_workers=workers))


def in_flight(fit: Fit | None = None) -> int:
    """Return how many partitions may be under way at once; `fit` says how many of them one process may have."""
    return fit.in_flight if fit and _runner()[0] == "threads" else _runner()[1]


def _runner() -> tuple[str, int]:
    kind, _, workers = settings().runner.partition(":")
    return kind, int(workers)
