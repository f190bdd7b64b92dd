"""What the pages ask of a Prefect server, and tell it. Every page works without one."""

import logging
from collections.abc import Sequence

import httpx

from penstock.database.connections import Database
from penstock.ledger.promotions import PromotionRecord
from penstock.ledger.reader import RunRecord
from penstock.report.needs import ScheduleState
from penstock.spec.pipeline import Pipeline

logger = logging.getLogger(__name__)


def read_states(api_url: str | None, pipelines: Sequence[Pipeline]) -> dict[str, ScheduleState]:
    """Return the schedules that the server knows, by pipeline. Empty if there is no server, or none answers."""
    scheduled = {pipeline.name for pipeline in pipelines if pipeline.schedule}
    if api_url is None or not scheduled:
        return {}
    from prefect.exceptions import PrefectException

    from penstock.deployments.up import client_of
    from penstock.tasks.deployed import read_schedule_states

    try:
        with client_of(api_url) as client:
            return read_schedule_states(client, scheduled)
    except (PrefectException, httpx.HTTPError) as error:
        logger.warning("Prefect's schedules cannot be read: %s", error)
        return {}


def announce(api_url: str | None, database: Database, run: RunRecord, message: str) -> None:
    """Send the event of an accepted run. The run is published without it too."""
    if api_url is None:
        return
    from prefect.exceptions import PrefectException

    from penstock.deployments.up import client_of
    from penstock.tasks.events import announce_accepted

    try:
        with client_of(api_url) as client:
            announce_accepted(client, run, database.name, message)
    except (PrefectException, httpx.HTTPError) as error:
        logger.warning("the event penstock.run.published of run %s was not sent: %s", run.run_id, error)


def end_form(api_url: str | None, record: PromotionRecord, message: str) -> None:
    """End the flow run that still shows a form for a question which has been answered here."""
    if api_url is None or not record.flow_run_id:
        return
    from uuid import UUID

    from prefect.client.schemas.objects import State
    from prefect.exceptions import PrefectException
    from prefect.states import Cancelled

    from penstock.deployments.up import client_of
    from penstock.tasks.promotion import is_suspended

    try:
        with client_of(api_url) as client:
            if is_suspended(client, record.flow_run_id):
                ended: State[object] = Cancelled(message=message)
                client.set_flow_run_state(UUID(record.flow_run_id), ended)
    except (PrefectException, httpx.HTTPError) as error:
        logger.warning("the form of %s was not ended: %s", record.label, error)
