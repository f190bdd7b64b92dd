"""The tasks of the flow of labels."""

from datetime import datetime

from prefect import task

from penstock.labels.alerts import Alert, mark_announced
from penstock.models.measuring import Measured, collect_and_measure
from penstock.spec.pipeline import Pipeline
from penstock.tasks.events import announce_alert
from penstock.tasks.ledger_record import open_ledger
from penstock.tasks.process_resources import connect, connector, registry, settings
from penstock.tasks.retries import RETRIED


@task(name="collect-labels", task_run_name="collect labels", **RETRIED)
def collect_and_measure_labels(pipeline: Pipeline, now: datetime) -> Measured:
    """Collect the labels that have come, and compute the performance of the runs that they may change.

    Raises:
        NoLabels: the pipeline declares none; not retried.
        LedgerLost: the project has had a ledger, and the warehouse has none or another one; not retried.
    """
    open_ledger(pipeline)
    return collect_and_measure(pipeline, settings(), connector(), registry(), now)


@task(name="announce-alert", task_run_name="announce {alert.metric}", **RETRIED)
def announce_performance(pipeline: Pipeline, alert: Alert, now: datetime) -> None:
    """Emit the event of an alert, and keep that it was emitted."""
    announce_alert(pipeline, alert)
    mark_announced(connect(pipeline.destination.connection), pipeline.name, alert, now)
