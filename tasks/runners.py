"""What runs the partitions, from the setting `PENSTOCK_RUNNER`."""

from typing import Any

from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from tasks.places import settings


def task_runner() -> TaskRunner[Any]:
    """Return the task runner that the settings name."""
    kind, workers = _runner()
    return (
        ThreadPoolTaskRunner(max_workers=8 * workers)
        if kind == "threads"
        else ProcessPoolTaskRunner(max_workers=workers)
    )


def in_flight() -> int:
    """Return how many partitions may be under way at once."""
    return _runner()[1]


def _runner() -> tuple[str, int]:
    kind, _, workers = settings().runner.partition(":")
    return kind, int(workers)
