"""Runs that are told to stop, or stopped beyond their lease: the ledger says so, and readers see one run's rows."""

import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tests.faults.conftest import Tell
from tests.faults.harness.child import Fault
from tests.faults.harness.scene import Scene, Trial

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api")]
soak = pytest.mark.soak


def find_boundary_before(boundaries: list[str], name: str) -> int:
    """Return the number of the last boundary before something, outside the transaction that it begins."""
    number = max(n for n, boundary in enumerate(boundaries, 1) if boundary == f"before {name}")
    begins = boundaries[number - 3] == "before BEGIN IMMEDIATE"  # SQLite takes its lock with a statement
    return number - 2 if begins else number


def sleep_past_lease(trial: Trial) -> None:
    [run] = trial.ledger()
    time.sleep(max(0.0, (run.lease_until - datetime.now(UTC)).total_seconds()) + 0.3)


def check_given_back(trial: Trial, ending: object) -> None:
    """Check that the ledger shows a cancelled run, and that the next run scores its interval."""
    [run] = trial.ledger()
    assert run.state == "failed", ending
    assert run.error is not None
    assert run.error.startswith("cancelled")
    assert trial.run(how="flow").state == "Completed"
    trial.check_healed()


@pytest.mark.parametrize(
    "dialect", ["sqlite", pytest.param("postgresql", marks=soak), pytest.param("duckdb", marks=soak)]
)
@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM), pytest.param(signal.SIGINT, marks=soak)])
def test_a_run_that_is_told_to_stop_gives_its_interval_back_at_once(
    scenes: Callable[[str], Scene], dialect: str, number: signal.Signals, tell: Tell
) -> None:
    trial = scenes(dialect).trial(PENSTOCK_LEASE_SECONDS="3600")
    verb = "ADBC COPY" if dialect == "postgresql" else "INSERT"
    running = trial.start(Fault("wait", name=f"before {verb} card_risk_scores__history"), "flow")
    running.wait_until_reached()
    running.signal(number)
    time.sleep(0.5)
    running.go_on()
    ending = running.wait()

    check_given_back(trial, ending)
    tell(f"{number.name} in mid-load", dialect, "failed: cancelled, at once; healed by the next run")


@pytest.mark.parametrize(
    "dialect", ["sqlite", pytest.param("postgresql", marks=soak), pytest.param("duckdb", marks=soak)]
)
def test_a_run_that_is_told_to_stop_just_after_its_claim_gives_its_interval_back(
    scenes: Callable[[str], Scene], dialect: str, tell: Tell
) -> None:
    scene = scenes(dialect)
    boundaries = scene.trial().run(how="flow").boundaries
    claim = boundaries.index("before INSERT penstock_runs")
    commit = boundaries.index("after COMMIT", claim) + 1
    trial = scene.trial(PENSTOCK_LEASE_SECONDS="3600")
    running = trial.start(Fault("wait", commit), "flow")
    running.wait_until_reached()
    running.signal(signal.SIGTERM)
    ending = running.wait()

    check_given_back(trial, ending)
    tell("SIGTERM just after the claim", dialect, "failed: cancelled, at once; healed by the next run")


@pytest.mark.parametrize("dialect", ["sqlite", pytest.param("postgresql", marks=soak)])
def test_a_run_stopped_beyond_its_lease_publishes_nothing_when_it_goes_on(
    scenes: Callable[[str], Scene], dialect: str, tell: Tell
) -> None:
    scene = scenes(dialect)
    number = find_boundary_before(scene.trial().run(how="flow").boundaries, "UPDATE penstock_destinations")
    trial = scene.trial(PENSTOCK_LEASE_SECONDS="2")
    zombie = trial.start(Fault("stop", number), "flow")
    zombie.wait_until_stopped()
    sleep_past_lease(trial)

    successor = trial.run(how="flow")
    zombie.signal(signal.SIGCONT)
    ending = zombie.wait()

    assert successor.state == "Completed", successor
    assert ending.state == "Failed"
    assert "lost its interval" in ending.message
    assert [run.state for run in trial.ledger()] == ["abandoned", "published"]
    trial.check_healed()
    tell(
        "SIGSTOP beyond the lease before publish",
        dialect,
        "the rows of the run that took over stay; the stopped run ends TakenOver",
    )
