"""The heartbeat of an interval's flow run, by which Prefect tells a run that is long from one whose process is gone.

Prefect's own looks up once a second, and a flow run waits for that at its end: half a second for each interval of a
backlog. The outer flow run keeps Prefect's; those inside it have this one, which ends at once.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import wraps
from typing import ParamSpec, TypeVar

from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, get_current_settings, temporary_settings

P = ParamSpec("P")
R = TypeVar("R")

_seconds: ContextVar[int | None] = ContextVar("penstock_heartbeat_seconds", default=None)


@contextmanager
def without_prefects() -> Iterator[None]:
    """Call subflows that bring a heartbeat of their own."""
    token = _seconds.set(get_current_settings().flows.heartbeat_frequency)
    try:
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield
    finally:
        _seconds.reset(token)


def with_heartbeat(call: Callable[P, R]) -> Callable[P, R]:
    """Beat while a flow's function runs. Not `@heartbeat()`: the flow travels to other processes with its function."""

    @wraps(call)
    def beating(*args: P.args, **kwargs: P.kwargs) -> R:
        with heartbeat():
            return call(*args, **kwargs)

    return beating


@contextmanager
def heartbeat() -> Iterator[None]:
    """Emit what Prefect would, as often as its settings say, until the flow run is over."""
    seconds = _seconds.get()
    if seconds is None:
        yield
        return
    over = threading.Event()
    resource = {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}", "prefect.resource.name": flow_run.name or ""}
    tags = [{"prefect.resource.id": f"prefect.tag.{t}", "prefect.resource.role": "tag"} for t in flow_run.tags]

    def beat() -> None:
        while True:
            emit_event("prefect.flow-run.heartbeat", resource, related=tags)
            if over.wait(seconds):
                return

    thread = threading.Thread(target=copy_context().run, args=(beat,), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
