"""Runs that come at once, for one interval or for several: one of them publishes an interval, the others leave it."""

from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from tests.faults.conftest import Tell
from tests.faults.harness.child import Fault
from tests.faults.harness.running import Ending
from tests.faults.harness.scene import Scene, Trial

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api")]
soak = pytest.mark.soak


def run_at_once(trial: Trial, orders: Sequence[dict[str, str]]) -> list[Ending]:
    """Start runs of the flow, hold each before its first statement until all are there, then let all go."""
    runs = [trial.start(Fault("wait", 1), "flow", **order) for order in orders]
    for run in runs:
        run.wait_until_reached()
    for run in runs:
        run.go_on()
    return [run.wait() for run in runs]


@pytest.mark.parametrize(
    ("dialect", "count"),
    [
        ("sqlite", 2),
        pytest.param("postgresql", 2, marks=soak),
        pytest.param("sqlite", 10, marks=soak),
        pytest.param("postgresql", 10, marks=soak),
    ],
)
def test_of_runs_of_one_interval_at_once_one_publishes_and_the_others_are_skipped(
    scenes: Callable[[str], Scene], dialect: str, count: int, tell: Tell
) -> None:
    trial = scenes(dialect).trial(PREFECT_CLIENT_MAX_RETRIES="10")  # ten at once are much for the server's own SQLite

    endings = run_at_once(trial, [{}] * count)

    assert Counter(ending.state for ending in endings) == {"Completed": 1, "Skipped": count - 1}, endings
    assert [run.state for run in trial.ledger()] == ["published"]
    trial.check_healed()
    tell(f"{count} runs of one interval at once, empty warehouse", dialect, f"1 published, {count - 1} skipped")


@pytest.mark.soak
def test_a_run_that_finds_the_duckdb_file_taken_says_by_whom_and_writes_nothing(
    scenes: Callable[[str], Scene], tell: Tell
) -> None:
    trial = scenes("duckdb").trial()
    holder = trial.start(Fault("wait", name="before UPDATE penstock_destinations"), "flow")
    holder.wait_until_reached()

    other = trial.run(how="flow")
    holder.go_on()

    assert holder.wait().state == "Completed"
    assert other.exit_code != 0 or other.state in ("Failed", "Crashed"), other
    assert f"PID {holder.pid}" in other.message + other.output
    trial.check_healed()
    tell("another process has the file", "duckdb", "fails and names the process; that process publishes")


@pytest.mark.soak
@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_runs_of_different_intervals_of_one_pipeline_do_not_disturb_each_other(
    make_scene: Callable[..., Scene], dialect: str, tell: Tell
) -> None:
    trial = make_scene(dialect, days=3).trial()
    days = [{"start": f"2026-01-0{day}", "end": f"2026-01-0{day + 1}"} for day in (1, 2, 3)]

    endings = run_at_once(trial, days)

    assert [ending.state for ending in endings] == ["Completed"] * 3, endings
    trial.check_healed()
    tell("3 intervals of one pipeline at once", dialect, "3 published")
