"""A partition that kills its process, as a crafted model or a bug in native code does: no handler runs."""

import signal
from collections.abc import Callable

import pytest

from tests.faults.conftest import Tell
from tests.faults.harness.child import Fault
from tests.faults.harness.scene import Scene

pytestmark = [pytest.mark.usefixtures("prefect_api"), pytest.mark.timeout(600)]
POISON = Fault("crash", name="before prediction")


@pytest.mark.soak
def test_each_run_that_dies_of_a_partition_stands_in_the_ledger_and_the_next_after_the_mend_heals(
    scenes: Callable[[str], Scene], tell: Tell
) -> None:
    trial = scenes("sqlite").trial()
    for _ in range(3):
        assert trial.run(POISON, "flow").exit_code == -signal.SIGSEGV
        trial.lapse()
    states = [run.state for run in trial.ledger()]
    assert trial.run(how="flow").state == "Completed"

    assert states == ["abandoned", "abandoned", "running"]
    assert [run.state for run in trial.ledger()] == ["abandoned"] * 3 + ["published"]
    trial.check_healed()
    told = "each try is a run in the ledger; healed once the cause is gone"
    tell("SIGSEGV in the prediction, three runs in turn", "sqlite", told)


@pytest.mark.soak
def test_an_interval_that_kills_its_process_holds_up_no_range_that_somebody_asks_for(
    make_scene: Callable[..., Scene], tell: Tell
) -> None:
    trial = make_scene("sqlite", days=2).trial()
    assert trial.run(POISON, "flow").exit_code == -signal.SIGSEGV  # the first day's; the second is not reached
    assert len(trial.ledger()) == 1

    around = trial.run(how="flow", start="2026-01-02", end="2026-01-03")
    trial.lapse()
    last = trial.run(how="flow")

    assert around.state == last.state == "Completed"
    trial.check_healed()
    told = "later intervals wait; a range without it is scored"
    tell("SIGSEGV in the prediction of the oldest interval", "sqlite", told)
