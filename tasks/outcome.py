"""How a flow run ended, as data. Exit codes, backfills and messages decide by it.

Prefect's UI lists the runs of a deployment by the names of their states, and only by Prefect's own names. So a halt is
`Failed`, a skip and a plan are `Completed`, and the message opens with the word. In one process the outcome is the
state's data: an error or a `Done`. For other processes it is a label of the flow run.
"""

import logging
from dataclasses import dataclass
from typing import Any, Literal

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from penstock.errors import Halted

FlowOutcome = Literal["published", "halted", "failed", "cancelled", "skipped", "planned"]

LABEL = "penstock.outcome"
"""The flow run's label that has its outcome."""
_OLD_NAMES: dict[str, FlowOutcome] = {"Halted": "halted", "Skipped": "skipped", "Planned": "planned"}
"""Names of states that flow runs ended in until 0.2."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Done:
    """The outcome of a flow run that did not fail."""

    outcome: FlowOutcome
    what: str
    """What it did, or why it did nothing."""


def published(message: str) -> State[Any]:
    """Return the state of a flow run that did what it was to do."""
    return Completed(message=message, data=Done("published", message))


def skipped(why: str) -> State[Any]:
    """Return the state of a flow run that had nothing to do, or left it to another run."""
    return Completed(message=f"Skipped: {why}", data=Done("skipped", why))


def planned(what: str) -> State[Any]:
    """Return the state of a dry run."""
    return Completed(message=f"Planned: {what}", data=Done("planned", what))


def halted(why: str, error: Halted) -> State[Any]:
    """Return the state of a flow run whose intervals were refused by gates, and by nothing else."""
    return Failed(message=f"Halted: {why}", data=error)


def failed(error: BaseException, message: str = "") -> State[Any]:
    """Return the state of a flow run that an error ended."""
    return Failed(message=message or str(error), data=error)


def describe_halt(error: Halted) -> str:
    """Say which interval was halted, and why."""
    return f"{error.interval}: {error.describe_reasons()}"


def find_error(state: State[Any]) -> BaseException | None:
    """Return the error that a state of this process has as its data."""
    data = _find_data(state)
    return data if isinstance(data, BaseException) else None


def find_outcome(state: State[Any]) -> FlowOutcome:
    """Return how a flow run of this process ended."""
    if state.is_completed():
        data = _find_data(state)
        return data.outcome if isinstance(data, Done) else "published"
    if state.is_cancelled():
        return "cancelled"
    return "halted" if isinstance(find_error(state), Halted) else "failed"


def describe_outcome(state: State[Any]) -> str:
    """Say why a flow run of this process ended as it did, without the word that its message opens with."""
    data = _find_data(state)
    if isinstance(data, Done):
        return data.what
    return data.describe_reasons() if isinstance(data, Halted) else state.message or state.name or ""


def _find_data(state: State[Any]) -> Any:
    return getattr(state.data, "result", state.data)  # Prefect wraps the data of a state that a flow returned


def record_outcome(outcome: FlowOutcome) -> None:
    """Label this flow run with its outcome, for other processes. Without the label a halt counts as a failure."""
    if flow_run.id is None:  # the flow's function was called outside Prefect
        return
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(flow_run.id, {LABEL: outcome})
    except (PrefectException, httpx.HTTPError, OSError) as error:
        logger.warning("could not record the outcome of this flow run: %s", error)


def end_with(state: State[Any]) -> State[Any]:
    """Record the outcome of a final state, and return the state."""
    record_outcome(find_outcome(state))
    return state


def read_outcome(run: FlowRun) -> FlowOutcome:
    """Return how a flow run of any process ended.

    The state's type goes first: a flow run that was retried may still have the label of its earlier try.
    """
    state = run.state
    if state is None or state.is_cancelled():
        return "cancelled"
    word = _OLD_NAMES.get(state.name or "") or run.labels.get(LABEL)
    if state.is_completed():
        return "skipped" if word == "skipped" else "planned" if word == "planned" else "published"
    return "halted" if state.is_failed() and word == "halted" else "failed"
