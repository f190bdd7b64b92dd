"""Artifacts of a run in Prefect's UI: progress bar, run card, plan. An artifact that fails never fails the run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
from prefect import task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException

from penstock.report.card import plan_card, run_card
from penstock.run.planning import Plan
from penstock.run_types import Pins, ScoringRun
from penstock.spec.pipeline import Pipeline
from penstock.tasks.process_resources import connect
from penstock.tasks.retries import ONCE

logger = logging.getLogger(__name__)


@contextmanager
def _logged_errors(what: str) -> Iterator[None]:
    try:
        yield
    except (PrefectException, httpx.HTTPError, OSError) as error:
        logger.warning("could not write %s: %s", what, error)


class Progress:
    """A live progress bar in the UI. It is not written again after an error, so that a run does not wait for it.

    A run of one partition has no bar: it would jump from 0 to 100 %, and cost a small interval two requests.
    """

    def __init__(self, label: str, rows: int, partitions: int) -> None:
        self._label = label
        self._rows = rows
        self._id: UUID | None = None
        if partitions < 2:
            return
        with _logged_errors("the progress artifact"):
            made: Any = create_progress_artifact(progress=0.0, description=self._describe(0))
            self._id = made  # an ID: the type names a coroutine too, which is returned only inside an event loop

    def show(self, done: int) -> None:
        """Move the bar to this number of rows."""
        artifact, self._id = self._id, None
        if artifact is None or not self._rows:
            return
        with _logged_errors("the progress artifact"):
            update_progress_artifact(artifact, min(100.0, 100.0 * done / self._rows), description=self._describe(done))
            self._id = artifact

    def _describe(self, done: int) -> str:
        return f"{self._label}: {done:,} of {self._rows:,} rows"


@task(name="report", task_run_name="report", **ONCE)
def report(run: ScoringRun) -> str:
    """Write the card of a run that has ended as an artifact, and return its markdown."""
    # Relative, since a worker does not know the UI's address. Pages with artifacts are all two levels deep.
    card = run_card(connect(run.pipeline.destination.connection), run.run_id, "../../runs/flow-run/{}".format)
    with _logged_errors("the run card"):
        create_markdown_artifact(card, key=f"run-card-{run.pipeline.name}", description=f"Run card of {run.label}")
    return card


@task(name="show-plan", task_run_name="show plan", **ONCE)
def show_plan(pipeline: Pipeline, plan: Plan, pins: Pins) -> str:
    """Write the plan of a run as an artifact, and return its markdown."""
    card = plan_card(pipeline, plan, pins)
    with _logged_errors("the plan"):
        create_markdown_artifact(card, key=f"plan-{pipeline.name}", description=f"Plan of {pipeline.name}")
    return card
