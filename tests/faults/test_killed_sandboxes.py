"""Kill a run of a sandbox, and its end, before each statement: production stays, and the next try completes it."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS
from tests.faults.conftest import Tell
from tests.faults.harness.child import SANDBOX, Fault, How
from tests.faults.harness.scene import Found, Scene, Trial

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

VIEW = f"card_risk_scores__sandbox_{SANDBOX}"
APART = 40
"""Every so many boundaries are tried without `soak`."""
soak = pytest.mark.soak
EACH = [pytest.param(name, marks=[] if name == "sqlite" else [soak]) for name in DIALECTS]


def points(trial: Trial, how: How) -> list[int]:
    boundaries = trial.run(how=how).boundaries
    return [number for number, name in enumerate(boundaries, 1) if name.startswith("before ")]


def rows_of(trial: Trial, table: str) -> set[tuple[int, float]] | None:
    """Return keys and scores of a view. None without it."""
    with trial.warehouse.reading() as connection:
        if not sa.inspect(connection).has_table(table):
            return None
        return set(connection.execute(sa.text(f"select payment_id, score from {table}")).tuples())


def check_production(trial: Trial, before: Found) -> None:
    assert trial.found() == before
    assert verify_ledger(trial.warehouse) == ()


@pytest.mark.parametrize("share", [pytest.param(n, marks=[soak] if n else []) for n in range(APART)])
@pytest.mark.parametrize("dialect", EACH)
def test_a_sandbox_killed_before_any_statement_is_healed_by_its_next_run(
    scenes: Callable[[str], Scene], dialect: str, share: int, tell: Tell
) -> None:
    scene = scenes(dialect)
    trial = scene.trial()
    trial.run()
    before = trial.found()
    kills = points(trial, "sandbox")[share::APART]
    trial.run(how="end sandbox")
    for point in kills:
        trial.run(Fault("kill", point), "sandbox")
        check_production(trial, before)
        trial.lapse()
        ending = trial.run(how="sandbox")
        assert ending.exit_code == 0, ending.output
        assert rows_of(trial, VIEW) == rows_of(trial, "card_risk_scores")
        check_production(trial, before)
        trial.run(how="end sandbox")
    tell(f"kill -9 of a sandbox before a statement, share {share}", dialect, f"{len(kills)} of {len(kills)} healed")


@pytest.mark.parametrize("dialect", EACH)
def test_the_end_of_a_sandbox_killed_before_any_statement_is_completed_by_the_next(
    scenes: Callable[[str], Scene], dialect: str, tell: Tell
) -> None:
    scene = scenes(dialect)
    trial = scene.trial()
    trial.run()
    before = trial.found()
    trial.run(how="sandbox")
    kills = points(trial, "end sandbox")[::8]
    for point in kills:
        trial.run(how="sandbox")
        trial.run(Fault("kill", point), "end sandbox")
        check_production(trial, before)
        ending = trial.run(how="end sandbox")
        assert ending.exit_code == 0, ending.output
        assert rows_of(trial, VIEW) is rows_of(trial, f"{VIEW}__history") is None
        check_production(trial, before)
    tell("kill -9 of the end of a sandbox", dialect, f"{len(kills)} of {len(kills)} completed")
