"""The tasks of the flow that scores recorded rows again."""

from datetime import datetime, timedelta

from prefect import task

from penstock.serving.judged_grains import JudgedGrain
from penstock.serving.rescored import RescoredRows, judge_ended_grains, rescore
from penstock.spec.pipeline import Pipeline
from penstock.tasks.process_resources import connector, registry, settings
from penstock.tasks.retries import RETRIED

_SPAN = timedelta(days=2)
"""Which rows a run of the flow scores again: a day that it missed comes with the next one."""


@task(name="rescore", task_run_name="score recorded rows again", **RETRIED)
def rescore_recorded_rows(pipeline: Pipeline, now: datetime) -> RescoredRows:
    """Score the newest recorded rows again, by the models that scored them."""
    return rescore(pipeline, settings(), connector(), registry(), now - _SPAN, now)


@task(name="judge-recorded", task_run_name="judge recorded rows", **RETRIED)
def judge_recorded_grains(pipeline: Pipeline, now: datetime) -> list[JudgedGrain]:
    """Judge the recorded rows of the intervals that have ended, and store what was found."""
    return judge_ended_grains(pipeline, settings(), connector(), registry(), now - _SPAN, now)
