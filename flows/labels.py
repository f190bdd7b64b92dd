"""Collect the labels of scored rows, and measure the runs that they belong to. It scores and publishes nothing."""

from datetime import UTC, datetime

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State

from penstock.errors import PenstockError
from penstock.spec.pipeline import Pipeline
from penstock.tasks.asked import read_asked_pipeline
from penstock.tasks.events import end_score
from penstock.tasks.form import PipelineField
from penstock.tasks.heartbeat import end_without_waiting
from penstock.tasks.labels import announce_performance, collect_and_measure_labels
from penstock.tasks.naming import labels_run_name
from penstock.tasks.outcome import end_with, failed, published
from penstock.tasks.status_page import show_status

end_without_waiting()  # here, because Prefect starts a flow run's heartbeat before it calls the flow


@flow(name="labels", flow_run_name=labels_run_name, persist_result=False, validate_parameters=False)
def labels(pipeline: PipelineField) -> State[object]:
    """Collect the labels that have come since the last time, and measure the runs that they belong to.

    Args:
        pipeline: Name in the pipelines folder, or path of a YAML file.
    """
    now, logger = datetime.now(UTC), get_run_logger()
    spec: Pipeline | None = None
    try:
        spec = read_asked_pipeline(pipeline, "labels")
        done = collect_and_measure_labels(spec, now)
        for alert in done.alerts:
            logger.warning("%s", alert.message)
            announce_performance(spec, alert, now)
        show_status(spec)
        return end_with(published(done.describe()))
    except PenstockError as error:
        logger.error("%s", error, exc_info=True)
        return end_score(spec or pipeline, failed(error))
