"""The tasks that deliver live rows to other systems. An error in one of them never fails a run."""

import logging
from typing import Any

from prefect import get_run_logger, task

from penstock.delivery.deliver import Delivered
from penstock.delivery.opening import open_outbox
from penstock.errors import PenstockError, TargetBusy
from penstock.ledger.delivery_records import list_failing
from penstock.ledger.delivery_targets import mark_announced
from penstock.spec.pipeline import Pipeline
from penstock.tasks.events import announce_delivery
from penstock.tasks.inputs import whole
from penstock.tasks.process_resources import connect, scoring_steps
from penstock.tasks.retries import RETRIED, if_transient

logger = logging.getLogger(__name__)


def _if_it_may_help(task: Any, task_run: Any, state: Any) -> bool:
    """Whether to deliver again soon. Another process that delivers to the target delivers what is live by now."""
    busy = isinstance(state.result(raise_on_failure=False), TargetBusy)
    return not busy and if_transient(task, task_run, state)


@task(name="deliver", task_run_name="deliver {target}", **RETRIED | {"retry_condition_fn": _if_it_may_help})
def deliver(pipeline: Pipeline, target: str) -> Delivered:
    """Deliver what is live to one target, as far as the target does not have it.

    Raises:
        TargetBusy: another process delivers to it; not retried.
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
        outboxes = {each.name: open_outbox(database, pipeline, each.name) for each in pipeline.deliver}
        for failing in list_failing(database, pipeline.name):
            outbox = outboxes.get(failing.target)
            if outbox is not None and failing.destination == outbox.destination and failing.announced_at is None:
                announce_delivery(pipeline, failing)
                mark_announced(database, outbox)
    except PenstockError as error:
        logger.warning("could not look for targets that fail: %s", error)
