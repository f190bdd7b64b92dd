"""The tasks that deliver live rows to other systems. An error in one of them never fails a run."""

import logging

from prefect import get_run_logger, task

from penstock.delivery.deliver import Delivered
from penstock.delivery.opening import open_outbox
from penstock.errors import PenstockError, TargetBusy
from penstock.ledger.deliveries import mark_announced
from penstock.ledger.delivery_records import list_failing
from penstock.spec.pipeline import Pipeline
from penstock.tasks.events import announce_delivery
from penstock.tasks.inputs import whole
from penstock.tasks.process_resources import connect, scoring_steps
from penstock.tasks.retries import RETRIED

logger = logging.getLogger(__name__)


@task(name="deliver", task_run_name="deliver {target}", **RETRIED)
def deliver(pipeline: Pipeline, target: str) -> Delivered:
    """Deliver what is live to one target, as far as the target does not have it.

    Raises:
        TargetBusy: another process delivers to it; retried.
        SettingsError: a connection of the target is not set; not retried.
        AddressRefused: its address is not one that rows may be sent to; not retried.
    """
    return scoring_steps(pipeline).deliver(target)


def deliver_live(pipeline: Pipeline) -> None:
    """Deliver to all targets of the pipeline, and tell people once of one that fails. Raises nothing."""
    for each in pipeline.deliver:
        state = deliver(whole(pipeline), each.name, return_state=True)
        found = state.result(raise_on_failure=False)
        if isinstance(found, TargetBusy):
            get_run_logger().info("%s", found)
        elif isinstance(found, BaseException):
            get_run_logger().warning("`%s` is not delivered: %s", each.name, found)
        elif found.intervals or not found.is_complete:
            level = logging.INFO if found.is_complete else logging.WARNING
            get_run_logger().log(level, "%s", found.describe())
    if pipeline.deliver:
        _announce_failing(pipeline)


def _announce_failing(pipeline: Pipeline) -> None:
    """Emit an event about each target that began to fail. An error here fails nothing."""
    database = connect(pipeline.destination.connection)
    try:
        for failing in list_failing(database, pipeline.name):
            if failing.announced_at is None:
                announce_delivery(pipeline, failing)
                mark_announced(database, open_outbox(database, pipeline, failing.target))
    except PenstockError as error:
        logger.warning("could not look for targets that fail: %s", error)
