"""Start a backfill on a Prefect server, watch it, and cancel it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from penstock.errors import SettingsError
from penstock.interval import iso

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun
    from rich.console import Console

DEPLOYMENT = "backfill/any_pipeline"
POLL_SECONDS = 1.0
UNATTENDED_SECONDS = 10.0
CANCEL_SECONDS = 60.0


def start_backfill(
    api_url: str, pipeline: str, start: datetime | None, end: datetime | None, parallel: int, restate: bool
) -> str:
    """Schedule a flow run of the backfill for now. Return its id.

    Raises:
        SettingsError: the server does not answer, or nothing was deployed there.
    """
    from prefect.exceptions import ObjectNotFound

    parameters: dict[str, Any] = {"pipeline": pipeline, "parallel": parallel, "restate": restate}
    parameters |= {name: iso(moment) for name, moment in (("start", start), ("end", end)) if moment}
    with _client_of(api_url) as client:
        try:
            deployment = client.read_deployment_by_name(DEPLOYMENT)
        except ObjectNotFound:
            raise SettingsError(
                f"the Prefect server at {api_url} has no deployment `{DEPLOYMENT}`", "Run `penstock deploy`."
            ) from None
        return str(client.create_flow_run_from_deployment(deployment.id, parameters=parameters).id)


def watch_backfill(api_url: str, flow_run_id: str, console: "Console") -> tuple[str, str, str]:
    """Show the progress until the backfill has ended. Return its state, its outcome and its message."""
    begun, shown = time.monotonic(), ""
    with _client_of(api_url) as client, console.status("waiting for a worker") as status:
        while True:
            flow_run = client.read_flow_run(UUID(flow_run_id))
            if flow_run.state is not None and flow_run.state.is_final():
                return _ending(flow_run)
            now = _read_progress(client, flow_run) or _find_obstacle(client, flow_run, time.monotonic() - begun)
            if now and now != shown:
                shown = now
                status.update(shown)
                if not console.is_terminal:
                    console.print(shown, markup=False, soft_wrap=True)
            time.sleep(POLL_SECONDS)


def cancel_backfill(api_url: str, flow_run_id: str) -> tuple[str, str, str]:
    """Ask Prefect to cancel the backfill, and wait at most a minute. Return its state, outcome and message."""
    from prefect.client.schemas.objects import State
    from prefect.states import Cancelling

    wanted: State[object] = Cancelling(message="cancelled by the command that started it")
    with _client_of(api_url) as client:
        client.set_flow_run_state(UUID(flow_run_id), wanted)
        deadline = time.monotonic() + CANCEL_SECONDS
        while True:
            flow_run = client.read_flow_run(UUID(flow_run_id))
            final = flow_run.state is not None and flow_run.state.is_final()
            if final or time.monotonic() > deadline:
                return _ending(flow_run)
            time.sleep(POLL_SECONDS)


@contextmanager
def _client_of(api_url: str) -> "Iterator[SyncPrefectClient]":
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    try:
        with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
            yield client
    except httpx.HTTPError as error:
        raise SettingsError(
            f"the Prefect server at {api_url} failed to answer: {error or type(error).__name__}",
            "A started backfill goes on without this command. Look at it in the UI.",
        ) from error


def _ending(flow_run: "FlowRun") -> tuple[str, str, str]:
    from penstock.tasks.outcome import read_outcome

    state = flow_run.state
    if state is None:
        return "Unknown", "failed", "Prefect reports no state"
    if state.is_cancelled() or state.type.value == "CANCELLING":
        message = "intervals that had not begun are cancelled; running ones finish"
        return state.name or "Cancelled", "cancelled", message
    name = state.name or state.type.value.title()
    return name, read_outcome(flow_run), state.message or "see the flow run for details"


def _read_progress(client: "SyncPrefectClient", flow_run: "FlowRun") -> str:
    """Return the text of the flow run's progress bar."""
    # The client's own method sends null for omitted filters, which the server refuses.
    wanted = {"flow_run_id": {"any_": [str(flow_run.id)]}, "type": {"any_": ["progress"]}}
    body = {"artifacts": wanted, "sort": "CREATED_DESC", "limit": 1}
    found = client.request("POST", "/artifacts/filter", json=body).json()
    return str(found[0]["description"] or "") if found else ""


def _find_obstacle(client: "SyncPrefectClient", flow_run: "FlowRun", seconds: float) -> str:
    """Say why the backfill does not begin, after it has waited some seconds."""
    from penstock.tasks.fan_out import has_worker

    pool = flow_run.work_pool_name or ""
    waiting = flow_run.state is not None and flow_run.state.is_scheduled()
    if not waiting or seconds < UNATTENDED_SECONDS or has_worker(client, pool):
        return ""
    return f"no worker polls work pool {pool}; start one with `penstock up`"
