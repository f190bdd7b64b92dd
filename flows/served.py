"""Score recorded rows of requests again, compare them with what was served, and judge those of intervals that ended."""

from datetime import UTC, datetime

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State

from penstock.errors import PenstockError
from penstock.spec.pipeline import Pipeline
from penstock.tasks.artifacts import show_rescored
from penstock.tasks.asked import read_asked_pipeline
from penstock.tasks.events import end_score
from penstock.tasks.form import PipelineField
from penstock.tasks.heartbeat import end_without_waiting
from penstock.tasks.naming import served_run_name
from penstock.tasks.outcome import end_with, failed, published
from penstock.tasks.served import judge_recorded_grains, rescore_recorded_rows

end_without_waiting()  # here, because Prefect starts a flow run's heartbeat before it calls the flow


@flow(name="served", flow_run_name=served_run_name, persist_result=False, validate_parameters=False)
def served(pipeline: PipelineField) -> State[object]:
    """Score the rows again that were recorded within two days, and compare them with what was served.

    Recorded rows of intervals that have ended are judged as the audit of a run judges its rows.

    Args:
        pipeline: Name in the pipelines folder, or path of a YAML file.
    """
    now, logger = datetime.now(UTC), get_run_logger()
    spec: Pipeline | None = None
    try:
        spec = read_asked_pipeline(pipeline, "served")
        found = rescore_recorded_rows(spec, now)
        judged = [each.text for each in judge_recorded_grains(spec, now)]
        for line in (*found.describe(), *judged):
            logger.info("%s", line)
        show_rescored(spec, found, judged)
        found.refuse_difference(spec.name)
        return end_with(published("; ".join(found.describe())))
    except PenstockError as error:
        logger.error("%s", error, exc_info=True)
        return end_score(spec or pipeline, failed(error))
