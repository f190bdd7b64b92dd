"""The heartbeat of an interval's flow run. It shows Prefect that the process of a long run is alive.

A flow run waits at its end for the thread of Prefect's own heartbeat, which wakes up once a second. That takes half a
second for each interval. So only the outer flow run has Prefect's; those inside it have this one, which ends at once.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context

from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, get_current_settings, temporary_settings

_seconds: ContextVar[int | None] = ContextVar("penstock_heartbeat_seconds", default=None)


@contextmanager
def without_prefects() -> Iterator[None]:
    """Turn Prefect's heartbeat off for flows that have their own."""
    token = _seconds.set(get_current_settings().flows.heartbeat_frequency)
    try:
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield
    finally:
        _seconds.reset(token)


@contextmanager
def heartbeat() -> Iterator[None]:
    """Emit Prefect's heartbeat event at the interval of its settings, while a flow run works."""
    seconds = _seconds.get()
    if seconds is None:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=copy_context().run, args=(_beat, seconds, over), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _beat(seconds: int, over: threading.Event) -> None:
    resource = {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}", "prefect.resource.name": flow_run.name or ""}
    tags = [{"prefect.resource.id": f"prefect.tag.{t}", "prefect.resource.role": "tag"} for t in flow_run.tags]
    while True:
        emit_event("prefect.flow-run.heartbeat", resource, related=tags)
        if over.wait(seconds):
            return
