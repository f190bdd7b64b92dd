"""A restate whose process died is given up and named with its command, and the lease of a dead run is waited for."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.api.project import Project
from penstock.database.connections import Database, close_engines
from penstock.deployments.doctor.ledger import check_ledger
from penstock.errors import IntervalBusy
from penstock.ledger.claims import claim
from penstock.ledger.dead_runs import abandon_runs_of, find_unfinished
from penstock.ledger.reader import list_runs
from penstock.ledger.tables import runs
from penstock.run.planning import Mode, PlannedInterval
from penstock.settings import load_settings
from tests.conftest import DIALECTS, view_rows
from tests.integration.test_cli import invoke
from tests.outcomes import outcome_of
from tests.shop import SPEC, Place

CHECKOUT = Path(__file__).parents[2]
DAY = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
COMMAND = "penstock run card-risk --restate --start 2026-01-01T00:00:00Z --end 2026-01-02T00:00:00Z"
KILLED_BEFORE_THE_AUDIT = """
import os, signal, sys
from datetime import datetime
from penstock import scoring_steps
from penstock.api.project import Project
scoring_steps.ScoringSteps.audit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
project = Project()
pipeline = project.load_pipeline(sys.argv[1])
start, end = map(datetime.fromisoformat, sys.argv[3:])
[planned] = project.plan(pipeline, sys.argv[2], start, end).intervals
project.score_interval(pipeline, planned)
"""


def die(place: Place, mode: str, lease_seconds: float, monkeypatch: pytest.MonkeyPatch) -> str:
    """Kill a run of the first day before its audit. Return its id."""
    close_engines()
    place.warehouse.engine.dispose()
    monkeypatch.setenv("PENSTOCK_LEASE_SECONDS", str(lease_seconds))
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    arguments = [str(place.spec), mode, *(moment.isoformat() for moment in DAY)]
    code = subprocess.run([sys.executable, "-c", KILLED_BEFORE_THE_AUDIT, *arguments], check=False).returncode
    assert code == -signal.SIGKILL
    [run] = list_runs(place.warehouse, states=("running",))
    return run.run_id


def score(place: Place, mode: Mode = "backfill") -> str:
    """Score the first day; return how that ended."""
    project = Project()
    pipeline = project.load_pipeline(place.spec)
    [planned] = project.plan(pipeline, mode, *DAY).intervals
    return project.score_interval(pipeline, planned).state


def end_leases(warehouse: Database) -> None:
    with warehouse.writing() as connection:
        past = datetime.now(UTC) - timedelta(seconds=1)
        connection.execute(sa.update(runs).where(runs.c.state == "running").values(lease_until=past))


@pytest.mark.parametrize("warehouse", DIALECTS)
def test_a_restate_that_died_is_named_with_its_command_until_it_is_scored_again(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch, warehouse: str
) -> None:
    place = make_place(warehouse=warehouse, spec=SPEC, days=1)
    assert score(place) == "published"
    before = view_rows(place.warehouse)
    dead = die(place, "restate", 3600, monkeypatch)
    end_leases(place.warehouse)
    place.warehouse.engine.dispose()

    ended = invoke("run", "card-risk.yaml", "--end", "2026-01-02")

    assert ended.exit_code == 0
    assert COMMAND in ended.text.replace("\n", " ")
    assert [run.run_id for run in list_runs(place.warehouse, states=("abandoned",))] == [dead]
    assert view_rows(place.warehouse) == before
    [unfinished] = find_unfinished(place.warehouse)
    assert unfinished.command == COMMAND
    place.warehouse.engine.dispose()
    assert COMMAND in invoke("runs").stdout.replace("\n", " ")
    assert [f.remedy for f in check_ledger(place.warehouse, load_settings()) if f.state == "warning"] == [
        f"No due run repeats it. Start it again: `{COMMAND}`."
    ]

    assert score(place, "restate") == "published"

    assert find_unfinished(place.warehouse) == []
    newest = list_runs(place.warehouse)[0]
    assert [run.replaced_by_run_id for run in list_runs(place.warehouse) if run.run_id == dead] == [newest.run_id]
    place.warehouse.engine.dispose()


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("warehouse", DIALECTS)
def test_a_flow_run_with_nothing_to_do_gives_up_a_dead_restate(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch, warehouse: str
) -> None:
    from penstock.flows.score import score as score_flow

    place = make_place(warehouse=warehouse, days=1)
    assert score(place) == "published"
    dead = die(place, "restate", 3600, monkeypatch)
    end_leases(place.warehouse)
    place.warehouse.engine.dispose()

    ended = score_flow(str(place.spec), end="2026-01-02", return_state=True)

    assert outcome_of(ended) == "skipped", ended.message
    assert [run.run_id for run in list_runs(place.warehouse, states=("abandoned",))] == [dead]
    assert [unfinished.command for unfinished in find_unfinished(place.warehouse)] == [COMMAND]
    place.warehouse.engine.dispose()


@pytest.mark.parametrize("warehouse", DIALECTS)
def test_the_doctor_gives_up_a_dead_restate_and_names_it(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch, warehouse: str
) -> None:
    place = make_place(warehouse=warehouse, days=1)
    score(place)
    dead = die(place, "restate", 3600, monkeypatch)
    end_leases(place.warehouse)

    findings = list(check_ledger(place.warehouse, load_settings()))

    assert any(COMMAND in finding.remedy for finding in findings)
    assert [run.run_id for run in list_runs(place.warehouse, states=("abandoned",))] == [dead]
    place.warehouse.engine.dispose()


@pytest.mark.parametrize("warehouse", DIALECTS)
def test_the_lease_of_a_run_that_died_is_waited_for_and_its_interval_taken_over(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch, warehouse: str, caplog: pytest.LogCaptureFixture
) -> None:
    place = make_place(warehouse=warehouse, days=1)
    dead = die(place, "backfill", 6, monkeypatch)

    assert score(place) == "published"

    assert f"s for the lease of run {dead[:8]}" in caplog.text
    assert sorted(run.state for run in list_runs(place.warehouse)) == ["abandoned", "published"]
    place.warehouse.engine.dispose()


def test_the_command_says_that_it_waits_for_the_lease_of_a_run_that_died(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place(days=1)
    dead = die(place, "backfill", 12, monkeypatch)

    result = invoke("run", str(place.spec), "--start", "2026-01-01", "--end", "2026-01-02")

    assert result.exit_code == 0, result.text
    told = f"2026-01-01 → 01-02: run {dead[:8]} holds it, and its process may be dead; waiting up to "
    assert told in " ".join(result.text.split())
    assert [run.state for run in list_runs(place.warehouse)] == ["published", "abandoned"]


@pytest.mark.parametrize("warehouse", ["sqlite", "postgresql"])
def test_a_live_run_of_another_machine_is_left_alone_after_its_next_renewal(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch, warehouse: str
) -> None:
    place = make_place(warehouse=warehouse, days=1)
    die(place, "backfill", 20, monkeypatch)
    own(place.warehouse, "elsewhere:1")
    renewal = threading.Timer(2.0, renew, [place.warehouse, 20.0])
    renewal.start()
    begun = time.monotonic()

    with pytest.raises(IntervalBusy):
        score(place)

    assert 1.5 < time.monotonic() - begun < 10
    renewal.join()
    place.warehouse.engine.dispose()


@pytest.mark.parametrize(("lease", "owner"), [(3600.0, "elsewhere:1"), (50.0, None)], ids=["long", "own process"])
def test_a_lease_that_ends_later_and_one_of_a_process_that_lives_here_are_not_waited_for(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch, lease: float, owner: str | None
) -> None:
    place = make_place(days=1)
    monkeypatch.setenv("PENSTOCK_LEASE_SECONDS", str(lease))
    project = Project()
    pipeline = project.load_pipeline(place.spec)
    [planned] = project.plan(pipeline, "backfill", *DAY).intervals
    assert _claim(project, planned, place)
    if owner:
        own(place.warehouse, owner)
    begun = time.monotonic()

    with pytest.raises(IntervalBusy):
        score(place)

    assert time.monotonic() - begun < 5


def test_the_runs_of_dead_flow_runs_are_given_up_at_once(make_place: Callable[..., Place]) -> None:
    place = make_place(days=1)
    project = Project()
    pipeline = project.load_pipeline(place.spec)
    [planned] = project.plan(pipeline, "backfill", *DAY).intervals
    run_id = _claim(project, planned, place, flow_run_id="the-dead-one")

    assert abandon_runs_of(place.warehouse, ["another"]) == []
    assert abandon_runs_of(place.warehouse, ["the-dead-one"]) == [run_id]

    [run] = list_runs(place.warehouse)
    assert (run.state, run.error) == ("abandoned", "its process died")
    assert [each.reason for each in find_unfinished(place.warehouse)] == ["backfill"]
    assert score(place) == "published"
    assert find_unfinished(place.warehouse) == []


def own(warehouse: Database, owner: str) -> None:
    with warehouse.writing() as connection:
        connection.execute(sa.update(runs).where(runs.c.state == "running").values(lease_owner=owner))


def renew(warehouse: Database, seconds: float) -> None:
    """Renew the lease, as the run's own thread does."""
    with warehouse.writing() as connection:
        until = warehouse.now(connection) + timedelta(seconds=seconds)
        connection.execute(sa.update(runs).where(runs.c.state == "running").values(lease_until=until))


def _claim(project: Project, planned: PlannedInterval, place: Place, flow_run_id: str | None = None) -> str:
    from penstock.ledger.claims import ClaimRequest
    from penstock.run_types import ModelPin

    pipeline = project.load_pipeline(place.spec)
    pin, seconds = ModelPin("card-risk", "1", "d" * 64), project.settings.lease_seconds
    run = claim(
        place.warehouse,
        ClaimRequest(pipeline, planned.interval, pin, planned.reason, seconds, flow_run_id=flow_run_id),
    )
    assert run is not None
    return run.run_id
