"""Retry is decided by type: a `TransientError` may succeed later, everything else fails at once."""

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.tasks import exponential_backoff

from penstock.errors import FilesChanged, SnapshotLost, SourceChanged, TransientError, VersionGone


def if_transient(_task: Any, _task_run: Any, state: Any) -> bool:
    """Whether Prefect should retry a failed task run."""
    return isinstance(state.result(raise_on_failure=False), TransientError)


def must_read_again(state: State[Any]) -> bool:
    """Whether an interval's run failed only because its source did not stay as it was planned."""
    moved = SnapshotLost | FilesChanged | SourceChanged | VersionGone
    return state.is_failed() and isinstance(state.result(raise_on_failure=False), moved)


RETRIED: dict[str, Any] = {
    "retries": 4,
    "retry_delay_seconds": exponential_backoff(1),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": if_transient,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
"""For a task that talks to a database, a file system or an object store, the model store included."""

ONCE: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
"""For a task whose failure is deterministic."""
