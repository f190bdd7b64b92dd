"""Retry is decided by type: a `TransientError` may succeed later, everything else fails at once."""

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from penstock.errors import DatabaseLocked, FilesChanged, SnapshotLost, SourceChanged, TransientError, VersionGone
from penstock.tasks.process_resources import connect

TRIES = 5
"""Of a task that fails with a transient error, 15 seconds in all."""
TRIES_OF_A_FILE = 12
"""Of one whose file another process has open, 71 seconds in all: a run has a DuckDB file for its whole time."""


def is_transient(_task: Any, _task_run: Any, state: Any) -> bool:
    """Whether a task run failed with an error that may go away."""
    return isinstance(state.result(raise_on_failure=False), TransientError)


def if_transient(task: Any, task_run: Any, state: Any) -> bool:
    """Whether Prefect should retry a failed task run."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, DatabaseLocked) and connect(error.connection).sql.one_process:
        return bool(task_run.run_count < TRIES_OF_A_FILE)
    return is_transient(task, task_run, state) and task_run.run_count < TRIES


def must_read_again(state: State[Any]) -> bool:
    """Whether an interval's run failed only because its source did not stay as it was planned."""
    moved = SnapshotLost | FilesChanged | SourceChanged | VersionGone
    return state.is_failed() and isinstance(state.result(raise_on_failure=False), moved)


RETRIED: dict[str, Any] = {
    "retries": TRIES_OF_A_FILE - 1,
    "retry_delay_seconds": [1, 2, 4, 8],  # and 8 from then on
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": if_transient,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
"""For a task that talks to a database, a file system or an object store, the model store included."""

RETRIED_LONGER: dict[str, Any] = RETRIED | {
    "retries": 8,
    "retry_delay_seconds": [2**number for number in range(8)],
    "retry_condition_fn": is_transient,
}
"""For publishing, 255 seconds in all: without it the whole interval is scored again."""

ONCE: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
"""For a task whose failure is deterministic."""
