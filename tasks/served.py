"""The tasks of the flow that scores recorded rows again."""

from datetime import datetime, timedelta

from prefect import task

from penstock.serving.rescored import RescoredRows, rescore
from penstock.spec.pipeline import Pipeline
from penstock.tasks.process_resources import connector, registry, settings
from penstock.tasks.retries import RETRIED

_SPAN = timedelta(days=2)
"""Which rows a run of the flow scores again: a day that it missed comes with the next one."""


@task(name="rescore", task_run_name="score recorded rows again", **RETRIED)
def rescore_recorded_rows(pipeline: Pipeline, now: datetime) -> RescoredRows:
    """Score the newest recorded rows again, by the models that scored them."""
    return rescore(pipeline, settings(), connector(), registry(), now - _SPAN, now)
