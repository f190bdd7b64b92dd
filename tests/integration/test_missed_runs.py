"""After downtime one run catches up, and the pile of late scheduled runs behind it ends as Skipped, quickly."""

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Scheduled

from penstock.deployments.dead_runs import list_online_workers
from penstock.deployments.worker.process import WORKER_NAME
from penstock.tasks.outcome import read_outcome
from tests.waiting import wait_until
from tests.works import DAYS, Works, running_works

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
LATE = 6
SKIPPED_SECONDS = 10.0
"""The longest that a run with nothing to do may take on a busy machine; alone it takes a second or two."""
FIRST_DAY = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=DAYS, hours=12)
"""All of the shop's days are over, the last one for half a day, and the next is not over for as long."""
SCHEDULE = 'schedule: {cron: "15 2 1 1 *", timezone: UTC}'


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    with running_works(tmp_path_factory.mktemp("works"), {}, FIRST_DAY) as works:
        yield works


def schedule_late_runs(works: Works, pipeline: str) -> list[UUID]:
    """Make the runs that the schedule would have made while no worker was there."""
    deployment = works.client.read_deployment_by_name(f"score/{pipeline}").id
    now = datetime.now(UTC)
    late = [now - timedelta(hours=LATE - number) for number in range(LATE)]
    runs = [
        works.client.create_flow_run_from_deployment(
            deployment,
            state=Scheduled(scheduled_time=moment),
            tags=["auto-scheduled"],
            idempotency_key=f"scheduled {deployment} {moment:%Y-%m-%d %H:%M}",
        )
        for moment in late
    ]
    return [run.id for run in runs]


def drain(works: Works, runs: list[UUID]) -> list[FlowRun]:
    """Start a worker, wait until every run has ended, and tell how long it took."""
    began = time.monotonic()
    with works.worker():
        wait_until(lambda: WORKER_NAME in list_online_workers(works.client))
        online = time.monotonic() - began
        wait_until(lambda: all(run.end_time for run in works.read_all(runs)))
    took = [(run.end_time - run.start_time).total_seconds() for run in works.read_all(runs)]  # type: ignore[operator]
    told = " ".join(f"{seconds:.1f}" for seconds in took)
    logging.getLogger(__name__).warning(
        "%d late runs: drained %.1f s after the worker's start (online after %.1f s); each took %s s",
        len(runs),
        time.monotonic() - began,
        online,
        told,
    )
    return sorted(works.read_all(runs), key=lambda run: run.start_time)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("name", "catch_up", "published"),
    [("every", "all", DAYS), pytest.param("newest", "latest", 1, marks=pytest.mark.soak)],
)
def test_one_run_catches_up_and_the_pile_behind_it_is_skipped_in_seconds(
    works: Works, name: str, catch_up: str, published: int
) -> None:
    started = {"start: 2026-01-01T00:00:00Z": f"start: {FIRST_DAY:%Y-%m-%dT%H:%M:%SZ}"}
    works.deploy(name, SCHEDULE, **{"grain: 1d": f"grain: 1d, catch_up: {catch_up}"}, **started)
    runs = schedule_late_runs(works, name)

    ended = drain(works, runs)

    assert [read_outcome(run) for run in ended] == ["published"] + ["skipped"] * (LATE - 1)
    assert {run.state_name for run in ended} == {"Completed"}
    assert [run.state for run in works.ledger(name)] == ["published"] * published
    assert max((run.end_time - run.start_time).total_seconds() for run in ended[1:]) < SKIPPED_SECONDS  # type: ignore[operator]
