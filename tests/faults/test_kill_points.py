"""Kill a run before each statement that it says to a database; the next run heals it, whatever was half done.

The boundaries are counted on an undisturbed run, never guessed; after one statement is before the next.
The runs go through `tests.driver`, which takes the flow's steps in the flow's order without Prefect; every tenth point
goes through the real flow too.
"""

from collections.abc import Callable

import pytest

from tests.conftest import DIALECTS
from tests.faults.conftest import Tell
from tests.faults.harness.child import Fault, How
from tests.faults.harness.scene import Scene

pytestmark = pytest.mark.slow

SHARES = 40
"""Without `soak`, one in so many statements is tried, on each database."""
soak = pytest.mark.soak


def find_kill_points(scene: Scene, how: How = "steps") -> list[int]:
    """Count the boundaries of an undisturbed run, and return the numbers of those that lie before something."""
    boundaries = scene.trial().run(how=how).boundaries
    return [number for number, name in enumerate(boundaries, 1) if name.startswith("before ")]


def heal_after_kill(scene: Scene, points: list[int], how: How = "steps") -> None:
    """Kill a run of a trial at each point in turn, the next one in its place, then let one run to its end."""
    trial = scene.trial()
    for point in points:
        trial.run(Fault("kill", point), how)
        trial.lapse()
    ending = trial.run(how=how)
    assert ending.exit_code == 0, ending.output
    trial.check_healed()


@pytest.fixture(scope="module")
def full_scenes(tmp_path_factory: pytest.TempPathFactory, empty_database: Callable[..., str]) -> Callable[[str], Scene]:
    """Give a dialect's scene whose runs have a challenger, seals, and reasons that the budget leaves to some rows."""
    made: dict[str, Scene] = {}

    def scene(dialect: str) -> Scene:
        if dialect not in made:
            made[dialect] = Scene(tmp_path_factory.mktemp(f"full_{dialect}"), dialect, empty_database)
            made[dialect].add_challenger("reasons: {when: score > 0, budget: {rows: 20}}", "seal: true")
            assert {row[-1] for row in made[dialect].twin.reasons} > {"budget"}
        return made[dialect]

    return scene


@pytest.mark.timeout(900)
@pytest.mark.parametrize("share", [pytest.param(n, marks=[soak] if n else []) for n in range(SHARES)])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_run_killed_before_any_statement_is_healed_by_the_next(
    full_scenes: Callable[[str], Scene], dialect: str, share: int, tell: Tell
) -> None:
    scene = full_scenes(dialect)
    points = find_kill_points(scene)[share::SHARES]
    for point in points:
        heal_after_kill(scene, [point])
    tell(f"kill -9 before a statement, share {share}", dialect, f"{len(points)} of {len(points)} healed")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("table", ["penstock_profiles", "card_risk_scores__reasons", "penstock_seals"])
@pytest.mark.parametrize("dialect", [pytest.param(name, marks=[soak] if name != "sqlite" else []) for name in DIALECTS])
def test_a_run_killed_around_a_statement_about_a_table_is_healed_by_the_next(
    full_scenes: Callable[[str], Scene], dialect: str, table: str, tell: Tell
) -> None:
    """Before each of them and after it, so that rows are there of a run that was never published."""
    scene = full_scenes(dialect)
    boundaries = scene.trial().run().boundaries
    about = [number for number, name in enumerate(boundaries, 1) if table in name]
    assert len(about) >= 3
    # After one statement and before the next is one moment.
    points = [number for number in about if not (number - 1 in about and boundaries[number - 1].startswith("before "))]
    for point in points:
        heal_after_kill(scene, [point])
    tell(f"kill -9 around a statement about {table}", dialect, f"{len(points)} of {len(points)} healed")


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_real_flow_killed_at_every_tenth_statement_is_healed_by_the_next(
    scenes: Callable[[str], Scene], dialect: str, tell: Tell
) -> None:
    scene = scenes(dialect)
    points = find_kill_points(scene, "flow")[5::10]
    for point in points:
        heal_after_kill(scene, [point], "flow")
    tell("kill -9 before a statement, real flow", dialect, f"{len(points)} of {len(points)} healed")


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_run_killed_while_it_heals_is_healed_by_the_one_after(
    scenes: Callable[[str], Scene], dialect: str, tell: Tell
) -> None:
    scene = scenes(dialect)
    firsts = find_kill_points(scene)[7::10]
    seconds = [*firsts[3:], *firsts[:3]]
    for pair in zip(firsts, seconds, strict=True):
        heal_after_kill(scene, list(pair))
    tell("kill -9, and again during recovery", dialect, f"{len(firsts)} of {len(firsts)} healed")
