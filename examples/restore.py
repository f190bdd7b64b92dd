"""Whether pipelines kept to the compressed hour: what Prefect's run history and the ledger tell, held to each other."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from penstock import Project, RunRecord
from penstock.examples.schedule_steps import Beat

ENOUGH = 200


@dataclass(frozen=True)
class Ran:
    """One flow run of a deployment in Prefect's history, with the runs of intervals below it."""

    run: FlowRun
    intervals: tuple[FlowRun, ...]


@dataclass(frozen=True)
class Kept:
    """How one pipeline kept to the hour."""

    pipeline: str
    planned: int
    completed: int
    """Planned runs that have ended well, by Prefect's history."""
    published: int
    """Intervals that are live, by the ledger."""
    rows: int
    """That were scored in them."""
    latest: timedelta
    """From the planned start of a run to its real one, at most."""
    wrong: tuple[str, ...] = field(default=())
    """What is missing, twice, or otherwise than planned, in words."""


def is_planned(api_url: str, beats: Sequence[Beat], begin: datetime) -> bool:
    """Whether the server has planned every run of the hour."""
    with _client_of(api_url) as client:
        return all(
            {run.expected_start_time for run in _runs_of(client, beat.pipeline)} == set(beat.moments(begin))
            for beat in beats
        )


def is_over(api_url: str, beats: Sequence[Beat]) -> bool:
    """Whether every run that was planned has ended, well or not."""
    with _client_of(api_url) as client:
        runs = [run for beat in beats for run in _runs_of(client, beat.pipeline)]
    return all(run.state is not None and run.state.is_final() for run in runs)


def read_history(api_url: str, beats: Sequence[Beat]) -> Mapping[str, tuple[Ran, ...]]:
    """Read all flow runs of each pipeline's deployment, and the runs of intervals below them."""
    with _client_of(api_url) as client:
        return {
            beat.pipeline: tuple(Ran(run, _below(client, run)) for run in _runs_of(client, beat.pipeline))
            for beat in beats
        }


def judge(project: Project, beat: Beat, begin: datetime, history: Sequence[Ran]) -> Kept:
    """Hold what was planned, Prefect's history and the ledger to each other."""
    ledger = project.list_runs(project.load_pipeline(beat.pipeline), limit=ENOUGH)
    planned = beat.moments(begin)
    good = [each.run for each in history if each.run.state_name == "Completed"]
    wrong = [*_missing(planned, history), *_unpublished(beat, ledger), *_unlike(history, ledger)]
    live = [run for run in ledger if run.state == "published"]
    return Kept(
        beat.pipeline,
        len(planned),
        sum(run.expected_start_time in planned for run in good),
        len(live),
        sum(run.rows_scored or 0 for run in live),
        max((_lateness(run) for run in good), default=timedelta()),
        tuple(f"{beat.pipeline}: {problem}" for problem in wrong),
    )


def _lateness(run: FlowRun) -> timedelta:
    begun, planned = run.start_time, run.expected_start_time
    return begun - planned if begun and planned else timedelta()


def _missing(planned: Sequence[datetime], history: Sequence[Ran]) -> list[str]:
    """Each planned moment has one run that completed, and there is no other run."""
    there: Counter[datetime | None] = Counter(each.run.expected_start_time for each in history)
    counted = [f"{there[moment]} runs at {moment:%H:%M:%S}, not one" for moment in planned if there[moment] != 1]
    unplanned = [f"a run at {moment:%H:%M:%S}, unplanned" for moment in there if moment not in planned and moment]
    bad = [
        f"the run of {each.run.expected_start_time:%H:%M:%S} is {each.run.state_name}: "
        f"{each.run.state.message if each.run.state else ''}"
        for each in history
        if each.run.state_name != "Completed"
    ]
    return [*counted, *unplanned, *bad]


def _unpublished(beat: Beat, ledger: Sequence[RunRecord]) -> list[str]:
    """Each interval has one run in the ledger, which published it, and there is no other run."""
    tries = Counter(run.interval_key for run in ledger)
    live = {run.interval_key for run in ledger if run.state == "published"}
    wanted = {interval.key: interval.label for interval in beat.intervals}
    unpublished = [f"{label} is not published" for key, label in wanted.items() if key not in live]
    again = [f"{wanted.get(key, key)} was tried {times} times" for key, times in tries.items() if times != 1]
    strange = [f"{key} was scored, and was not due" for key in tries if key not in wanted]
    return [*unpublished, *again, *strange]


def _unlike(history: Sequence[Ran], ledger: Sequence[RunRecord]) -> list[str]:
    """Each run of the history has one interval below it, and it is that of which the ledger names it."""
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
    only = DeploymentFilter(name=DeploymentFilterName(any_=[pipeline]))
    return client.read_flow_runs(deployment_filter=only, limit=ENOUGH)


def _below(client: SyncPrefectClient, run: FlowRun) -> tuple[FlowRun, ...]:
    parent = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
    return tuple(client.read_flow_runs(flow_run_filter=parent, limit=ENOUGH))
