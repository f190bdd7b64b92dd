"""Read the log lines of an interval's flow run from Prefect: its own, its tasks' and those of the run around it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.sorting import LogSort
from prefect.exceptions import ObjectNotFound

from penstock.deployments.deploy.deploy_pipelines import client_of

PAGE = 200


@dataclass(frozen=True)
class LogLine:
    """One line of a log."""

    time: datetime
    level: int
    """As in Python: 20 is INFO, 30 WARNING, 40 ERROR."""
    logger: str
    message: str


def read_logs(api_url: str, flow_run_id: str, most: int) -> tuple[list[LogLine], bool]:
    """Return the oldest log lines of a flow run and of the run around it, and whether there are more than `most`.

    Empty if Prefect does not know the flow run.

    Raises:
        SettingsError: the server does not answer or refuses.
    """
    with client_of(api_url) as client:
        try:
            ids = _find_family(client, UUID(flow_run_id))
        except (ObjectNotFound, ValueError):
            return [], False
        lines: list[LogLine] = []
        for line in _page(client, ids):
            if len(lines) == most:
                return lines, True
            lines.append(line)
    return lines, False


def _find_family(client: SyncPrefectClient, flow_run_id: UUID) -> list[UUID]:
    """Return the flow run, and the one that called it."""
    run = client.read_flow_run(flow_run_id)
    if run.parent_task_run_id is None:
        return [run.id]
    try:
        parent = client.read_task_run(run.parent_task_run_id).flow_run_id
    except ObjectNotFound:
        parent = None
    return [run.id, *([parent] if parent else [])]


def _page(client: SyncPrefectClient, ids: list[UUID]) -> Iterator[LogLine]:
    only, offset = LogFilter(flow_run_id=LogFilterFlowRunId(any_=ids)), 0
    while page := client.read_logs(only, limit=PAGE, offset=offset, sort=LogSort.TIMESTAMP_ASC):
        for log in page:
            yield LogLine(log.timestamp, log.level, log.name, log.message)
        offset += len(page)
