"""Compare the planned runs of the compressed hour with Prefect's run history and the ledger."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from penstock import Project, RunRecord
from penstock.examples.scenario import list_live
from penstock.examples.schedule_steps import HourSchedule
from penstock.tasks.outcome import read_outcome

ENOUGH = 200
SCORE = "score"
"""The flow of the runs. Labels are collected by another one, whose deployment has the pipeline's name too."""


@dataclass(frozen=True)
class DeploymentRun:
    """One flow run of a deployment in Prefect's history, with the runs of intervals below it."""

    run: FlowRun
    intervals: tuple[FlowRun, ...]


@dataclass(frozen=True)
class HourResult:
    """What became of one pipeline's runs in the hour."""

    pipeline: str
    planned: int
    completed: int
    """Planned runs that completed, by Prefect's history."""
    published: int
    """Published intervals, by the ledger."""
    rows: int
    """Rows scored in these intervals."""
    latest: timedelta
    """The longest time from a run's planned start to its real start."""
    wrong: tuple[str, ...] = field(default=())
    """What is missing, doubled or different from the plan, as text."""


def is_planned(api_url: str, schedules: Sequence[HourSchedule], begin: datetime) -> bool:
    """Return whether the server has planned every run of the hour."""
    with _client_of(api_url) as client:
        return all(
            {run.expected_start_time for run in _runs_of(client, schedule.pipeline)} == set(schedule.moments(begin))
            for schedule in schedules
        )


def is_over(api_url: str, schedules: Sequence[HourSchedule]) -> bool:
    """Return whether every planned run has ended, in whichever state."""
    with _client_of(api_url) as client:
        runs = [run for schedule in schedules for run in _runs_of(client, schedule.pipeline)]
    return all(run.state is not None and run.state.is_final() for run in runs)


def read_history(api_url: str, schedules: Sequence[HourSchedule]) -> Mapping[str, tuple[DeploymentRun, ...]]:
    """Read all flow runs of each pipeline's deployment, and the runs of intervals below them."""
    with _client_of(api_url) as client:
        return {
            schedule.pipeline: tuple(
                DeploymentRun(run, _below(client, run)) for run in _runs_of(client, schedule.pipeline)
            )
            for schedule in schedules
        }


def judge(project: Project, schedule: HourSchedule, begin: datetime, history: Sequence[DeploymentRun]) -> HourResult:
    """Compare the plan, Prefect's history and the ledger."""
    ledger = list_live(project, project.load_pipeline(schedule.pipeline))
    planned = schedule.moments(begin)
    good = [each.run for each in history if read_outcome(each.run) == "published"]
    wrong = [*_missing(planned, history), *_unpublished(schedule, ledger), *_unlike(history, ledger)]
    live = [run for run in ledger if run.state == "published"]
    return HourResult(
        schedule.pipeline,
        len(planned),
        sum(run.expected_start_time in planned for run in good),
        len(live),
        sum(run.rows_scored or 0 for run in live),
        max((_lateness(run) for run in good), default=timedelta()),
        tuple(f"{schedule.pipeline}: {problem}" for problem in wrong),
    )


def _lateness(run: FlowRun) -> timedelta:
    begun, planned = run.start_time, run.expected_start_time
    return begun - planned if begun and planned else timedelta()


def _missing(planned: Sequence[datetime], history: Sequence[DeploymentRun]) -> list[str]:
    """List planned moments without exactly one completed run, and runs that were not planned."""
    there: Counter[datetime | None] = Counter(each.run.expected_start_time for each in history)
    counted = [f"{there[moment]} runs at {moment:%H:%M:%S}, not one" for moment in planned if there[moment] != 1]
    unplanned = [f"a run at {moment:%H:%M:%S}, unplanned" for moment in there if moment not in planned and moment]
    bad = [
        f"the run of {each.run.expected_start_time:%H:%M:%S} is {read_outcome(each.run)}: "
        f"{each.run.state.message if each.run.state else ''}"
        for each in history
        if read_outcome(each.run) != "published"
    ]
    return [*counted, *unplanned, *bad]


def _unpublished(schedule: HourSchedule, ledger: Sequence[RunRecord]) -> list[str]:
    """List intervals without exactly one run that published them, and runs of other intervals."""
    tries = Counter(run.interval_key for run in ledger)
    live = {run.interval_key for run in ledger if run.state == "published"}
    wanted = {interval.key: interval.label for interval in schedule.intervals}
    unpublished = [f"{label} is not published" for key, label in wanted.items() if key not in live]
    again = [f"{wanted.get(key, key)} was tried {times} times" for key, times in tries.items() if times != 1]
    strange = [f"{key} was scored, and was not due" for key in tries if key not in wanted]
    return [*unpublished, *again, *strange]


def _unlike(history: Sequence[DeploymentRun], ledger: Sequence[RunRecord]) -> list[str]:
    """List flow runs without exactly one interval run, and runs that Prefect and the ledger do not both know."""
    by_run = {run.flow_run_id: run for run in ledger}
    crowded = [
        f"{len(each.intervals)} intervals below the run of {each.run.expected_start_time:%H:%M:%S}, not one"
        for each in history
        if len(each.intervals) != 1
    ]
    below = [run for each in history for run in each.intervals]
    unknown = [f"the ledger does not know {run.name} ({run.id})" for run in below if str(run.id) not in by_run]
    unwell = [f"{run.name} is {run.state_name}" for run in below if run.state_name != "Completed"]
    unseen = by_run.keys() - {str(run.id) for run in below}
    return [*crowded, *unknown, *unwell, *(f"the history lacks {by_run[run].run_id}" for run in unseen)]


@contextmanager
def _client_of(api_url: str) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        yield client


def _runs_of(client: SyncPrefectClient, pipeline: str) -> list[FlowRun]:
    only, scoring = (
        DeploymentFilter(name=DeploymentFilterName(any_=[pipeline])),
        FlowFilter(name=FlowFilterName(any_=[SCORE])),
    )
    return client.read_flow_runs(flow_filter=scoring, deployment_filter=only, limit=ENOUGH)


def _below(client: SyncPrefectClient, run: FlowRun) -> tuple[FlowRun, ...]:
    parent = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
    return tuple(client.read_flow_runs(flow_run_filter=parent, limit=ENOUGH))
