"""Kill a promotion around each of its writes, and let two processes promote at once: the alias moves once."""

from collections.abc import Callable

import pytest

from penstock.ledger.promotions import list_promotions
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS
from tests.faults.conftest import Tell
from tests.faults.harness.child import Fault
from tests.faults.harness.scene import Scene, Trial

pytestmark = pytest.mark.slow

PROMOTION = "promotion: {require: {intervals: 1}}"


@pytest.fixture
def make_scored(make_scene: Callable[..., Scene]) -> Callable[[str], Trial]:
    """Make a scene whose day is scored by the champion and by a challenger that meets the requirements."""

    def make(dialect: str) -> Trial:
        scene = make_scene(dialect)
        scene.add_challenger(PROMOTION)
        trial = scene.trial()
        assert "challenger published" in trial.run().message
        return trial

    return make


def moves_of(trial: Trial) -> list[str]:
    """Return the evidence of each move of the champion by a promotion."""
    history = trial.scene.registry.alias_history("card-risk")
    return [move.evidence for move in history if move.alias == "champion" and move.evidence]


@pytest.mark.parametrize(
    "dialect", [pytest.param(name, marks=[] if name == "sqlite" else [pytest.mark.soak]) for name in DIALECTS]
)
def test_a_promotion_killed_around_a_write_moves_the_alias_once(
    make_scored: Callable[[str], Trial], dialect: str, tell: Tell
) -> None:
    trial = make_scored(dialect)
    undisturbed = trial.run(how="promote")
    assert undisturbed.state == "settle", undisturbed
    written = ("before COMMIT", "after COMMIT", "before WRITE aliases", "after WRITE aliases")
    points = [n for n, name in enumerate(undisturbed.boundaries, 1) if name.startswith(written)]
    assert len(points) == 8  # around the question, the approval, the move and its record

    for point in points:
        trial.scene.registry.promote("card-risk", "1", "champion", by="the test")
        before = len(moves_of(trial))
        killed = trial.run(Fault("kill", point), "promote")
        assert killed.exit_code < 0, undisturbed.boundaries[point - 1]
        assert len(moves_of(trial)) <= before + 1
        healed = trial.run(how="promote")
        newest = list_promotions(trial.warehouse, "card-risk")[0]
        assert (healed.exit_code, newest.state) == (0, "moved"), (undisturbed.boundaries[point - 1], healed)
        assert len(moves_of(trial)) == before + 1, undisturbed.boundaries[point - 1]
        assert moves_of(trial)[-1] == newest.digest
        assert trial.scene.registry.aliases("card-risk")["champion"] == "2"
        assert verify_ledger(trial.warehouse) == ()
    tell("kill -9 around a write of a promotion", dialect, f"{len(points)} of {len(points)} moved the alias once")


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "duckdb"])
def test_of_two_processes_at_once_one_moves_the_alias(make_scored: Callable[[str], Trial], dialect: str) -> None:
    """One process waits before it moves the alias; the other finds the approval, and moves it."""
    trial = make_scored(dialect)
    first = trial.start(Fault("wait", name="before WRITE aliases"), "promote")
    first.wait_until_reached()
    second = trial.start(how="promote")
    first.go_on()

    ended = {first.wait().state, second.wait().state}

    assert ended <= {"settle", "nothing"}
    assert len(moves_of(trial)) == 1
    assert [record.state for record in list_promotions(trial.warehouse, "card-risk")] == ["moved"]
    assert verify_ledger(trial.warehouse) == ()
