"""Backfills on a real server with a real worker: a flow run an interval, resumed, restated, cancelled, held up."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelling

from penstock.database.connections import close_engines
from penstock.deployments.server.local import client_environment
from penstock.tasks.outcome import read_outcome
from tests.shop import train_model
from tests.waiting import SECONDS, wait_until
from tests.works import DAYS, Works, running_works

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
COMMAND = [sys.executable, "-c", "from penstock.cli import main; main()"]
RANGE = {"start": "2026-01-01", "end": "2026-01-04"}


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory, postgres: object) -> Iterator[Works]:
    folder = tmp_path_factory.mktemp("works")
    postgres.psql("create database backfill;")  # type: ignore[attr-defined] # a server from a wheel without types
    urls = {"pg": postgres.get_uri("backfill"), "duck": f"duckdb:///{folder}/duck.db"}  # type: ignore[attr-defined]
    with running_works(folder, urls) as works:
        yield works


@pytest.fixture(scope="module")
def worker(works: Works) -> Iterator[None]:
    with works.worker(limit=3):  # a backfill and two of its intervals
        yield


def scored(works: Works, pipeline: str, connection: str = "warehouse") -> list[str]:
    """Return the starts of the intervals that were published, as often as they were, oldest first."""
    runs = works.ledger(pipeline, connection)
    return sorted(str(run.interval_start)[:10] for run in runs if run.state in ("published", "superseded"))


def told(run: FlowRun) -> tuple[str | None, str]:
    assert run.state is not None
    return run.state.name, run.state.message or ""


def artifacts(works: Works, flow_run: UUID) -> dict[str, str]:
    return {each["type"]: f"{each['description']} {each['data']}" for each in works.artifacts(flow_run)}


def overlap(runs: list[FlowRun]) -> int:
    """Return how many of the flow runs were at work at once, at most."""
    spans = [(run.start_time, run.end_time) for run in runs]
    return max(sum(1 for start, end in spans if start <= moment < end) for moment, _ in spans)  # type: ignore[operator]


DAYS_SCORED = [f"2026-01-0{day}" for day in range(1, DAYS + 1)]


# The first test: no worker has shown itself yet.
def test_a_backfill_without_a_worker_says_so_and_goes_on_when_one_comes(works: Works) -> None:
    name = works.deploy("lonely")
    here = start_python(works, f"from penstock.flows.backfill import backfill; backfill('{name}', end='2026-01-02')")
    try:
        wait_until(lambda: bool(works.children(name)))
        wait_until(lambda: "no worker polls work pool penstock" in latest_progress(works, name))

        with works.worker():
            here.wait(SECONDS)
    finally:
        here.kill()
        here.wait()

    assert scored(works, name) == ["2026-01-01"]
    assert latest_progress(works, name) == "lonely: 1 of 1 interval"


@pytest.mark.usefixtures("worker")
def test_each_interval_is_a_flow_run_and_at_most_so_many_are_in_flight(works: Works) -> None:
    name = works.deploy("wide", warehouse="pg")

    ended = works.backfill(name, parallel=2, **RANGE)

    children = works.children(name)
    assert told(ended) == ("Completed", "3 intervals published; scored with card-risk/1")
    assert ended.name == "wide backfill 2026-01-01 to 01-04"
    assert [child.name for child in children] == [f"wide backfill 2026-01-0{d} to 01-0{d + 1}" for d in range(1, 4)]
    assert overlap(children) == 2
    assert scored(works, name, "pg") == DAYS_SCORED
    shown = artifacts(works, ended.id)
    assert shown["progress"] == "wide: 3 of 3 intervals 100"
    assert f"| 2026-01-03 → 01-04 | Completed | [open](../../runs/flow-run/{children[2].id}) |" in shown["markdown"]


@pytest.mark.usefixtures("worker")
def test_what_is_published_is_left_alone_and_a_restate_scores_it_again_each_time(works: Works) -> None:
    name = works.deploy("again")
    asked = {"start": "2026-01-01", "end": "2026-01-03"}
    works.backfill(name, **asked)

    idle = works.backfill(name, **asked)
    works.backfill(name, **asked, restate=True)
    works.backfill(name, **asked, restate=True)

    assert told(idle) == (
        "Completed",
        "Skipped: nothing to do: 2 intervals are published already; a restate scores them again",
    )
    assert read_outcome(idle) == "skipped"
    assert scored(works, name) == sorted(DAYS_SCORED[:2] * 3)


@pytest.mark.usefixtures("worker")
def test_a_halted_interval_stops_no_other_and_the_next_backfill_scores_only_that(works: Works) -> None:
    name = works.deploy("sick", **{"grain: 1d": "max_intervals: 1, grain: 1d"})
    change(works, "update payments set amount = null where created_at >= '2026-01-02' and created_at < '2026-01-03'")
    first = works.backfill(name, **RANGE)
    change(works, "update payments set amount = 10 where amount is null")

    second = works.backfill(name, **RANGE)

    state, message = told(first)
    assert (state, read_outcome(first)) == ("Failed", "halted")
    assert message.startswith("Halted: 1 of 3 intervals not published:\n- Halted: 2026-01-02 → 01-03: ")
    assert message.endswith("then start the same backfill again: it scores only what is missing.")
    state, message = told(second)
    assert state == "Completed"
    assert message.startswith("1 interval published; scored with card-risk/1, the versions of the unfinished backfill")
    assert scored(works, name) == DAYS_SCORED


@pytest.mark.usefixtures("worker")
def test_a_resumed_backfill_scores_the_rest_with_the_version_of_the_first(works: Works) -> None:
    def versions(variant: str = "live") -> set[str]:
        found = [run for run in works.ledger(name) if run.state == "published" and run.variant.startswith(variant)]
        return {run.model_version for run in found}

    store = works.settings.models_folder
    train_model(store, "moved")
    train_model(store, "beside", alias="challenger")
    beside = "moved@champion\nchallengers: [{model: beside@challenger}]"
    name = works.deploy("moved", **{"card-risk@champion": beside})
    change(works, "update payments set amount = null where created_at >= '2026-01-02' and created_at < '2026-01-03'")
    assert read_outcome(works.backfill(name, **RANGE)) == "halted"
    train_model(store, "moved")  # the alias moves to version 2
    train_model(store, "beside", alias="challenger")
    change(works, "update payments set amount = 10 where amount is null")

    resumed = works.backfill(name, **RANGE)

    assert "scored with moved/1 and the challenger beside/1, the versions of the unfinished" in told(resumed)[1]
    assert versions() == versions("shadow:") == {"1"}
    assert len([run for run in works.ledger(name) if run.variant == "shadow:beside/1"]) == 4  # one was halted first
    restated = works.backfill(name, restate=True, **RANGE)
    scored_with = "scored with moved/2 and the challenger beside/2"
    assert told(restated) == ("Completed", f"3 intervals published; {scored_with}")
    assert versions() == versions("shadow:beside/2") == {"2"}
    assert "scored with moved/2" in artifacts(works, restated.id)["markdown"]


@pytest.mark.usefixtures("worker")
def test_a_killed_backfill_started_again_joins_what_is_under_way(works: Works) -> None:
    name = works.deploy("killed")
    first = works.trigger("backfill/any_pipeline", pipeline=name, parallel=2, **RANGE)
    wait_until(lambda: any(child.state_type is StateType.RUNNING for child in works.children(name)))
    os.kill(int(str(works.read(first).infrastructure_pid)), signal.SIGKILL)
    under_way = {child.id for child in works.children(name) if child.end_time is None}

    second = works.wait(works.trigger("backfill/any_pipeline", pipeline=name, parallel=2, **RANGE))

    assert told(second)[0] == "Completed"
    assert under_way
    assert under_way <= {child.id for child in works.children(name)}
    ends = sorted((child.name, *told(child)) for child in works.children(name))
    assert len(ends) == DAYS, ends
    assert scored(works, name) == DAYS_SCORED


@pytest.mark.usefixtures("worker")
def test_cancelling_cancels_what_has_not_begun_and_lets_the_rest_end(works: Works) -> None:
    name = works.deploy("stopped")
    begun = works.trigger("backfill/any_pipeline", pipeline=name, parallel=8, **RANGE)
    wait_until(lambda: works.children(name))  # the backfill itself has written its versions by then
    with held(works):  # so that what is under way cannot end and make room for what waits
        wait_until(lambda: any(child.state_type is StateType.RUNNING for child in works.children(name)))

        works.client.set_flow_run_state(begun, Cancelling())
        ended = works.wait(begun)

    wait_until(lambda: all(child.end_time for child in works.children(name)))
    states = [child.state_type for child in works.children(name)]
    assert ended.state_type is StateType.CANCELLED
    assert set(states) == {StateType.COMPLETED, StateType.CANCELLED}
    assert len(scored(works, name)) == states.count(StateType.COMPLETED)


@pytest.mark.usefixtures("worker")
def test_duckdb_is_backfilled_one_interval_at_a_time(works: Works) -> None:
    name = works.deploy("duck", warehouse="duck")

    ended = works.backfill(name, parallel=3, **RANGE)

    assert told(ended) == ("Completed", "3 intervals published; scored with card-risk/1")
    assert overlap(works.children(name)) == 1
    assert scored(works, name, "duck") == DAYS_SCORED


@pytest.mark.usefixtures("worker")
def test_the_command_shows_where_it_runs_and_ends_with_its_outcome(works: Works) -> None:
    name = works.deploy("typed")

    done = penstock(works, "backfill", name, "--start", "2026-01-01", "--end", "2026-01-02", "--json")
    wrong = penstock(works, "backfill", name, "--restate")

    told_end = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert (told_end["state"], told_end["message"]) == ("Completed", "1 interval published; scored with card-risk/1")
    assert f"/runs/flow-run/{told_end['flow_run_id']}" in told_end["url"]
    assert wrong.returncode == 2
    assert "a restate needs a range" in wrong.stderr
    assert told_end["outcome"] == "published"


@pytest.mark.usefixtures("worker")
def test_the_command_ends_with_3_after_a_halt_and_refuses_an_empty_range(works: Works) -> None:
    name = works.deploy("typed-halt")
    change(works, "update payments set amount = null where created_at >= '2026-01-02' and created_at < '2026-01-03'")

    halted = penstock(works, "backfill", name, "--start", "2026-01-02", "--end", "2026-01-03")
    change(works, "update payments set amount = 10 where amount is null")
    empty = penstock(works, "backfill", name, "--start", "2026-01-03", "--end", "2026-01-02")
    future = penstock(works, "backfill", name, "--start", "2099-01-01", "--end", "2099-01-02")

    assert halted.returncode == 3, halted.stderr
    assert "Halted: 1 of 1 interval not published:" in halted.stderr
    assert empty.returncode == 2
    assert "the range is empty" in empty.stderr
    assert future.returncode == 0
    assert "Skipped: nothing to do: no interval of the range is over yet" in future.stdout


@pytest.mark.usefixtures("worker")
def test_interrupting_the_command_cancels_the_backfill(works: Works) -> None:
    name = works.deploy("interrupted")
    process = start_penstock(works, "backfill", name, "--start", "2026-01-01", "--end", "2026-01-04")
    wait_until(lambda: bool(works.children(name)))

    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=SECONDS)

    assert process.returncode == 1
    assert "Cancelled: intervals that had not begun are cancelled; running ones finish" in output
    wait_until(lambda: all(child.end_time for child in works.children(name)))
    assert len(works.children(name)) < DAYS


@contextmanager
def held(works: Works) -> Iterator[None]:
    """Keep every run that wants to write to the warehouse waiting."""
    with works.open("warehouse").writing():
        yield
    close_engines()


def latest_progress(works: Works, name: str) -> str:
    told = [str(each["description"] or "") for each in works.artifacts()]
    return next((each for each in told if each.startswith(f"{name}:")), "")


def change(works: Works, statement: str) -> None:
    with works.open("shop").writing() as connection:
        connection.execute(sa.text(statement))


def penstock(works: Works, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=works.folder, capture_output=True, text=True, check=False)


def start_penstock(works: Works, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments], cwd=works.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def start_python(works: Works, code: str) -> subprocess.Popen[bytes]:
    output = Path(works.folder / "here.log").open("wb")  # noqa: SIM115 # the process keeps it
    with output:
        return subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=works.folder,
            env=os.environ | client_environment(works.api_url),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
