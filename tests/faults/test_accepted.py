"""Kill the acceptance of a halted run before each of its statements, and let two processes accept one run at once."""

from collections.abc import Callable

import pytest

from penstock.ledger.pointer_moves import moves_of
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS
from tests.faults.conftest import Tell
from tests.faults.harness.child import Fault
from tests.faults.harness.scene import Scene, Trial

pytestmark = pytest.mark.slow
soak = pytest.mark.soak


@pytest.fixture
def make_halted(make_scene: Callable[..., Scene]) -> Callable[[str], Callable[[], tuple[Trial, str]]]:
    """Make a scene whose day the audit halts; a call gives a trial with the halted run, and the run's ID."""

    def make(dialect: str) -> Callable[[], tuple[Trial, str]]:
        scene = make_scene(dialect)
        scene.spec.write_text(scene.spec.read_text().replace("max_value: 0.9999", "max_value: 0.0002"))

        def halt() -> tuple[Trial, str]:
            trial = scene.trial()
            trial.run()
            [run] = trial.ledger()
            assert run.state == "halted", run
            return trial, run.run_id

        return halt

    return make


@pytest.mark.timeout(900)
@pytest.mark.parametrize("dialect", [pytest.param(name, marks=[soak] if name != "sqlite" else []) for name in DIALECTS])
def test_an_acceptance_killed_before_any_statement_changes_nothing(
    make_halted: Callable[[str], Callable[[], tuple[Trial, str]]], dialect: str, tell: Tell
) -> None:
    halt = make_halted(dialect)
    undisturbed, run_id = halt()
    boundaries = undisturbed.run(how="accept", run_id=run_id).boundaries
    expected = undisturbed.found()
    assert len(expected.rows) > 10
    points = [number for number, name in enumerate(boundaries, 1) if name.startswith("before ")]
    assert "before UPDATE penstock_runs" in boundaries

    trial, run_id = halt()
    for point in points:
        ending = trial.run(Fault("kill", point), "accept", run_id=run_id)
        assert ending.exit_code < 0, boundaries[point - 1]
        assert [run.state for run in trial.ledger()] == ["halted"], boundaries[point - 1]
        assert trial.found().rows == []
        assert verify_ledger(trial.warehouse) == ()
    assert trial.run(how="accept", run_id=run_id).state == "accepted"
    assert trial.found() == expected
    assert verify_ledger(trial.warehouse) == ()
    tell("kill -9 before a statement of an acceptance", dialect, f"{len(points)} of {len(points)} changed nothing")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_acceptance_killed_after_its_commit_is_done(
    make_halted: Callable[[str], Callable[[], tuple[Trial, str]]], dialect: str
) -> None:
    trial, run_id = make_halted(dialect)()
    trial.run(Fault("kill", name="after COMMIT"), "accept", run_id=run_id)

    again = trial.run(how="accept", run_id=run_id)

    assert again.state == "AcceptRefused"
    assert "accepted it already" in again.message
    assert [run.state for run in trial.ledger()] == ["published"]
    assert len(moves_of(trial.warehouse, run_id)) == 1
    assert verify_ledger(trial.warehouse) == ()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("rival", ["accept", "steps"])
def test_of_two_processes_at_once_one_gets_the_interval(
    make_halted: Callable[[str], Callable[[], tuple[Trial, str]]], dialect: str, rival: str
) -> None:
    """One process accepts and waits under its locks; the other accepts the same run, or scores the interval again."""
    trial, run_id = make_halted(dialect)()
    first = trial.start(Fault("wait", name="before COMMIT"), "accept", run_id=run_id)
    first.wait_until_reached()
    second = trial.start(None, rival, run_id=run_id) if rival == "accept" else trial.start()  # type: ignore[arg-type]
    first.go_on()

    ended, other = first.wait(), second.wait()

    assert ended.state == "accepted", ended
    assert other.state in ("AcceptRefused", "DatabaseLocked", "DatabaseUnavailable", "steps", "")
    assert "publish;" not in other.message
    assert [run.state for run in trial.ledger()] == ["published"]
    assert len(moves_of(trial.warehouse, run_id)) == 1
    assert verify_ledger(trial.warehouse) == ()
