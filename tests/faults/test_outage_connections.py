"""Connections that break in mid-run: the run heals it by its retries, or the next one does; nothing twice or lost."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.database.connections import close_engines
from tests.faults.conftest import Tell
from tests.faults.harness.child import Fault
from tests.faults.harness.scene import Scene

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api"), pytest.mark.timeout(900)]
soak = pytest.mark.soak


@pytest.mark.parametrize(
    "boundary",
    [
        "after ADBC COPY card_risk_scores__history",
        pytest.param("before ADBC COMMIT", marks=soak),
        pytest.param("before ADBC fetch", marks=soak),
        pytest.param("after UPDATE penstock_intervals", marks=soak),
    ],
)
def test_a_run_whose_sessions_postgres_ends_goes_on_by_itself(
    scenes: Callable[[str], Scene], postgres: Any, boundary: str, tell: Tell
) -> None:
    trial = scenes("postgresql").trial()
    running = trial.start(Fault("wait", name=boundary), "flow")
    running.wait_until_reached()

    postgres.psql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'penstock';")
    running.go_on()
    ending = running.wait()

    assert ending.state == "Completed", ending
    trial.check_healed()
    tell(f"sessions ended {boundary}", "postgresql", "healed by its own retries")


@pytest.mark.soak
def test_a_lost_answer_to_any_commit_loses_nothing_and_doubles_nothing(
    scenes: Callable[[str], Scene], tell: Tell
) -> None:
    scene = scenes("postgresql")
    boundaries = scene.trial().run(how="flow").boundaries
    commits = [n for n, name in enumerate(boundaries, 1) if name in ("after COMMIT", "after ADBC COMMIT")]
    alone = 0
    for number in commits:
        trial = scene.trial()
        ending = trial.run(Fault("lose", number), "flow")
        alone += ending.state == "Completed"
        if ending.state != "Completed":
            trial.lapse()
            assert trial.run(how="flow").state == "Completed"
        trial.check_healed()
    outcome = f"{alone} of {len(commits)} healed by their own retries, the others by the next run"
    tell("lost answer to COMMIT, each in turn", "postgresql", outcome)


def test_a_lost_answer_to_the_commit_of_the_reasons_is_healed_by_the_retry_of_the_step(
    tmp_path: Path, empty_database: Callable[..., str], tell: Tell
) -> None:
    scene = Scene(tmp_path, "postgresql", empty_database)
    scene.write_spec(15, "reasons: {when: score > 0, budget: {rows: 20}}")
    trial = scene.trial()
    boundaries = trial.run(how="flow").boundaries
    replaced = boundaries.index("after ADBC DELETE card_risk_scores__reasons")
    number = boundaries.index("after ADBC COMMIT", replaced) + 1
    trial = scene.trial()

    ending = trial.run(Fault("lose", number), "flow")

    assert ending.state == "Completed", ending
    [run] = trial.ledger()
    assert (run.state, run.rows_explained) == ("published", 20)
    trial.check_healed()
    tell("lost answer to the COMMIT of the reasons", "postgresql", "healed by the step's own retry")


@pytest.mark.soak
def test_a_run_waits_for_a_sqlite_file_that_another_holds_locked(scenes: Callable[[str], Scene], tell: Tell) -> None:
    trial = scenes("sqlite").trial()
    running = trial.start(Fault("wait", name="before INSERT penstock_runs"), "flow")
    running.wait_until_reached()
    running.go_on()
    with trial.warehouse.writing() as connection:  # waits for the claim, then keeps the run from its next write
        connection.execute(sa.text("select 1"))
        time.sleep(5)
    close_engines()

    assert running.wait().state == "Completed"
    trial.check_healed()
    tell("database is locked for 5 s", "sqlite", "waits, then publishes")
