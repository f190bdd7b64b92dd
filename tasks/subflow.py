"""Start the flow runs of intervals without doing the same work for each of them again."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.context import AsyncClientContext
from prefect.task_runners import TaskRunner
from prefect.utilities.annotations import quote
from prefect.utilities.asyncutils import run_coro_as_sync


def prepare_subflow(flow: Flow[..., State[Any]], task_runner: TaskRunner[Any]) -> Flow[..., State[Any]]:
    """Return a copy of a flow that takes values passed by `whole`, and converts an object to JSON once.

    The flow runs have the same parameters in Prefect's UI. Converting a pipeline takes longer than some tasks.
    """
    prepared = copy(flow)  # `with_options` would describe the parameters again, for a form
    prepared.task_runner = task_runner
    converted: dict[str, tuple[Any, Any]] = {}
    """By parameter: the last value, which stays the same object, and its JSON."""

    def serialize_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
        plain = {name: each.unwrap() if isinstance(each, quote) else each for name, each in parameters.items()}
        for name, value in plain.items():
            if name not in converted or converted[name][0] is not value:
                converted[name] = value, flow.serialize_parameters({name: value})[name]
        return {name: converted[name][1] for name in plain}

    prepared.serialize_parameters = serialize_parameters  # type: ignore[method-assign] # of this copy
    return prepared


@contextmanager
def shared_client() -> Iterator[None]:
    """Let Prefect create the task runs of subflows with one client. It would open a client for each of them."""
    opened: Any = run_coro_as_sync(_open_client())
    try:
        with opened:
            yield
    finally:
        run_coro_as_sync(opened.client.__aexit__(None, None, None))


async def _open_client() -> AsyncClientContext:
    """Open the client in the event loop in which Prefect uses it. It sends nothing."""
    context = AsyncClientContext()
    await context.client.__aenter__()
    return context
