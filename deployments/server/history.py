"""Wait for a Prefect server to record a flow run that ended in this process."""

import logging
import time
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

logger = logging.getLogger(__name__)

STABLE_SECONDS = 0.6


def wait_for_history(api_url: str, flow_run_id: str, timeout: float = 15.0) -> bool:
    """Wait until the server has recorded every task run of a flow run that ended in this process.

    Send the client's pending events and logs. Then poll until all task runs of the flow run and its subflows are in a
    terminal state and their number no longer changes. Call this outside of any event loop.

    Returns:
        False if `timeout` seconds were not enough or the server does not answer.
    """
    import httpx  # here, not above: Prefect reads its settings on import
    from prefect.client.orchestration import get_client
    from prefect.events.worker import EventsWorker
    from prefect.settings import PREFECT_API_URL, temporary_settings

    deadline = time.monotonic() + timeout
    EventsWorker.drain_all(timeout=timeout, at_exit=False)
    seen, since = -1, time.monotonic()
    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            try:
                finished = _count_if_finished(client, UUID(flow_run_id))
            except httpx.HTTPError as error:
                logger.debug("the Prefect server at %s does not answer: %s", api_url, error)
                finished = None
            if finished is None or finished != seen:
                seen, since = -1 if finished is None else finished, time.monotonic()
            elif time.monotonic() - since >= STABLE_SECONDS:
                return True
            time.sleep(0.1)
    return False


def _count_if_finished(client: "SyncPrefectClient", flow_run_id: UUID) -> int | None:
    """Count the task runs of a flow run and its subflows. None while one of them is not terminal."""
    from prefect.client.schemas.objects import TERMINAL_STATES

    family = _family(client, flow_run_id)
    of_family = {"flow_runs": {"id": {"any_": family}}}
    of_terminal = {"task_runs": {"state": {"type": {"any_": sorted(state.value for state in TERMINAL_STATES)}}}}
    terminal: int = client.request("POST", "/task_runs/count", json=of_family | of_terminal).json()
    total: int = client.request("POST", "/task_runs/count", json=of_family).json()
    return total if terminal == total else None


def _family(client: "SyncPrefectClient", flow_run_id: UUID) -> list[str]:
    """Return the ids of a flow run and of all flow runs below it."""
    family, generation = [str(flow_run_id)], [str(flow_run_id)]
    while generation:
        body = {"flow_runs": {"parent_flow_run_id": {"any_": generation}}, "limit": 200}
        page = [run["id"] for run in client.request("POST", "/flow_runs/filter", json=body).json()]
        family += page
        generation = page
    return family
