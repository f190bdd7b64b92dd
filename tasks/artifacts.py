"""Artifacts of a run in Prefect's UI: progress bar, run card, plan. An artifact that fails never fails the run."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from prefect import task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException

from penstock.errors import TransientError
from penstock.ledger.reader import RunRecord, list_own_runs
from penstock.ledger.writer import this_process
from penstock.report.card import plan_card, run_card
from penstock.report.summary import IntervalEnd, run_summary
from penstock.run.planning import Plan, PlannedInterval
from penstock.run_types import Pins, ScoringRun
from penstock.spec.pipeline import Pipeline
from penstock.tasks.outcome import FlowOutcome, describe_outcome, find_outcome
from penstock.tasks.process_resources import connect, settings
from penstock.tasks.retries import ONCE
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.serving.rescored import RescoredRows

logger = logging.getLogger(__name__)

Ended = tuple[PlannedInterval, State[Any]]
CLOCKS_APART = timedelta(hours=1)
"""More than this machine's clock and the warehouse's are apart. The flow run tells runs of other calls apart."""
PAGE = 200
"""Prefect's server returns at most so many objects for a request."""


@contextmanager
def _logged_errors(what: str) -> Iterator[None]:
    try:
        yield
    except (PrefectException, httpx.HTTPError, OSError) as error:
        logger.warning("could not write %s: %s", what, error)


def link_to_pages(words: str, path: str) -> str:
    """Return a paragraph of markdown with a link to a page of the web application. Empty where there is none."""
    address = settings().web_url
    return f"\n\n[{words}]({address}{path})" if address else ""


def _key(kind: str, pipeline: Pipeline) -> str:
    """Return the key of a pipeline's artifacts of one kind: of letters, digits and dashes. A sandbox has its own."""
    return f"{kind}-{pipeline.label}".replace(" ", "-").replace(":", "-")


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
        return f"{self._label}: {done:,} of {plural(self._rows, 'row')}"


@task(name="report", task_run_name="report", **ONCE)
def report(run: ScoringRun) -> str:
    """Write the card of a run that has ended as an artifact, and return its markdown."""
    # Relative, since a worker does not know the UI's address. Pages with artifacts are all two levels deep.
    card = run_card(connect(run.pipeline.destination.connection), run.run_id, "../../runs/flow-run/{}".format)
    card += link_to_pages("This run on Penstock's pages", f"/runs/{run.run_id}")
    with _logged_errors("the run card"):
        create_markdown_artifact(card, key=_key("run-card", run.pipeline), description=f"Run card of {run.label}")
    return card


@task(name="show-plan", task_run_name="show plan", **ONCE)
def show_plan(pipeline: Pipeline, plan: Plan, pins: Pins) -> str:
    """Write the plan of a run as an artifact, and return its markdown."""
    card = plan_card(pipeline, plan, pins)
    with _logged_errors("the plan"):
        create_markdown_artifact(card, key=_key("plan", pipeline), description=f"Plan of {pipeline.label}")
    return card


@task(name="show-rescored", task_run_name="show what was found", **ONCE)
def show_rescored(pipeline: Pipeline, found: "RescoredRows", judged: Sequence[str]) -> None:
    """Write what was found in recorded rows as an artifact."""
    with _logged_errors("what was found"):
        card = "\n".join(f"- {line}" for line in (*found.describe(), *found.describe_examples(), *judged))
        create_markdown_artifact(card, key=_key("served", pipeline), description=f"Served by {pipeline.label}")


@dataclass(frozen=True)
class EndedRun:
    """How the flow run of one interval ended. Prefect would replace a state that a task is given by its result."""

    label: str
    flow_run_id: str
    outcome: FlowOutcome
    why: str


def describe_ended(ended: Sequence[Ended]) -> list[EndedRun]:
    """Return what a summary needs of the intervals' states."""
    return [
        EndedRun(planned.label, str(state.state_details.flow_run_id), find_outcome(state), describe_outcome(state))
        for planned, state in ended
    ]


@task(name="show-summary", task_run_name="show summary", **ONCE)
def show_summary(pipeline: Pipeline, notes: Sequence[str], ended: Sequence[EndedRun], since: datetime) -> str:
    """Write how each interval of this flow run ended as an artifact, and return its markdown.

    Args:
        notes: what people should know about the plan.
        since: the start of this flow run, by this machine's clock.
    """
    records = _read_records(pipeline, since)
    cards: dict[str, str] = {}
    with _logged_errors("the links to the run cards"):
        cards = _read_cards(_key("run-card", pipeline), [run.flow_run_id for run in ended])
    ends = [_describe_end(run, records.get(run.flow_run_id), cards.get(run.flow_run_id)) for run in ended]
    summary = run_summary(pipeline.label, ends, notes)
    with _logged_errors("the summary"):
        create_markdown_artifact(summary, key=_key("summary", pipeline), description=f"Summary of {pipeline.label}")
    return summary


def _describe_end(run: EndedRun, record: RunRecord | None, card: str | None) -> IntervalEnd:
    good = run.outcome == "published"
    return IntervalEnd(
        run.label,
        record.state if good and record else run.outcome,
        "" if good and (record is None or record.state == "published") else run.why,
        record.rows_scored if record else None,
        record.rows_quarantined if record else None,
        f"../../artifacts/artifact/{card}" if card else f"../../runs/flow-run/{run.flow_run_id}",
    )


def _read_records(pipeline: Pipeline, since: datetime) -> dict[str, RunRecord]:
    """Return the runs of this process by their flow run. Empty if the warehouse does not answer."""
    database = connect(pipeline.destination.connection)
    try:
        found = list_own_runs(database, pipeline.name, this_process(), since - CLOCKS_APART)
    except TransientError as error:
        logger.warning("could not read the runs for the summary: %s", error)
        return {}
    return {run.flow_run_id: run for run in found if run.flow_run_id}


def _read_cards(key: str, flow_run_ids: Sequence[str]) -> dict[str, str]:
    """Return the ids of the run cards by their flow run."""
    found: dict[str, str] = {}
    with get_client(sync_client=True) as client:
        for first in range(0, len(flow_run_ids), PAGE):
            wanted = {"key": {"any_": [key]}, "flow_run_id": {"any_": flow_run_ids[first : first + PAGE]}}
            # The client's own method sends null for omitted filters, which the server refuses.
            answer = client.request("POST", "/artifacts/filter", json={"artifacts": wanted, "limit": PAGE})
            found |= {each["flow_run_id"]: each["id"] for each in answer.json()}
    return found
