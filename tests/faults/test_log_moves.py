"""Log files that are rotated, packed, copied, cut or broken while a run reads them; the next run heals."""

import gzip
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.faults.conftest import Tell
from tests.faults.harness.child import Fault, How
from tests.faults.harness.scene import Scene, Trial
from tests.shop import COUNTRIES, START

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
soak = pytest.mark.soak
SPEC = r"""
name: card-risk
interval: {{column: time, grain: 1d, start: 2026-01-01T00:00:00Z, lookback: 3}}
sources:
  payments:
    kind: log
    path: "{folder}/payments.log*"
    format: {{regex: '(?P<time>\S+) (?P<number>\d+) (?P<amount>\S+) (?P<items>\d+) (?P<country>\S+) (?P<first>\w+)'}}
    columns: {{number: int, amount: float, items: int, first: bool}}
model: card-risk@champion
destination: {{connection: warehouse, table: card_risk_scores, keep: [number]}}
partition_rows: 40000
"""
BATCH = 50_000
"""Lines that are landed in one transaction; so the file takes two, and a fault can strike in between."""
LINES, LATER = BATCH + 10_000, 5
LANDING = "before INSERT card_risk__payments"


class Log:
    """The log of the scene, in the state of the morning, and what becomes of it in the course of the day."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.path = scene, scene.folder / "payments.log"
        lines = [self._line(number) for number in range(LINES + LATER)]
        self.early, self.later = "".join(lines[:LINES]), "".join(lines[LINES:])
        self.path.write_text(self.early)

    def _line(self, number: int) -> str:
        moment = START + timedelta(seconds=number)
        amount, country = 1 + number % 97, COUNTRIES[number % 4]
        first = "true" if number % 3 else "false"
        return f"{moment.isoformat()} {number} {amount}.5 {1 + number % 7} {country} {first}\n"

    def beside(self, suffix: str) -> Path:
        return self.path.with_name(f"payments.log{suffix}")

    def rename(self) -> None:
        self.path.rename(self.beside(".1"))
        self.path.write_text(self.later)

    def copy_and_truncate(self) -> None:
        shutil.copy(self.path, self.beside(".1"))
        self.path.write_text("")
        self.append()

    def pack(self) -> None:
        self.beside(".1.gz").write_bytes(gzip.compress(self.path.read_bytes(), 1))
        self.path.write_text(self.later)

    def copy(self) -> None:
        shutil.copy(self.path, self.beside(".copy"))
        self.append()

    def append(self) -> None:
        with self.path.open("a") as file:
            file.write(self.later)


Disturb = Callable[[Log], None]
MOVES: dict[str, Disturb] = {
    "renamed, and a new one begun": Log.rename,
    "copied and truncated": Log.copy_and_truncate,
    "packed, and a new one begun": Log.pack,
    "there twice under two names": Log.copy,
}


@pytest.fixture(autouse=True)
def server(request: pytest.FixtureRequest) -> None:
    """Have a Prefect server where the real flow is tried."""
    if "-flow]" in request.node.name or "[flow]" in request.node.name:
        request.getfixturevalue("prefect_api")


@pytest.fixture
def log(make_scene: Callable[..., Scene]) -> Log:
    scene = make_scene("sqlite")
    scene.spec.write_text(SPEC.format(folder=scene.folder))
    return Log(scene)


def live_numbers(trial: Trial) -> list[tuple[int, float]]:
    with trial.warehouse.reading() as connection:
        rows = connection.execute(sa.text("select number, score from card_risk_scores order by number, score"))
        return [tuple(row) for row in rows]  # type: ignore[misc] # two columns


def undisturbed(log: Log) -> list[tuple[int, float]]:
    """What a run shows that reads all lines at rest, from one file that nobody touches."""
    for file in log.scene.folder.glob("payments.log*"):
        file.unlink()
    log.path.write_text(log.early + log.later)
    trial = log.scene.trial()
    assert "publish" in trial.run().message
    return live_numbers(trial)


@pytest.mark.parametrize(
    ("move", "how"),
    [
        pytest.param("renamed, and a new one begun", "steps"),
        *(pytest.param(move, "steps", marks=soak) for move in list(MOVES)[1:]),
        *(pytest.param(move, "flow", marks=soak) for move in MOVES),
    ],
)
def test_lines_of_a_file_that_moves_while_it_is_read_come_once_each(log: Log, move: str, how: How, tell: Tell) -> None:
    trial = log.scene.trial()
    running = trial.start(Fault("wait", name=LANDING, nth=1), how)
    running.wait_until_reached()
    MOVES[move](log)
    running.go_on()
    assert running.wait().exit_code == 0

    assert trial.run(how=how).exit_code == 0

    found = live_numbers(trial)
    assert [number for number, _ in found] == list(range(LINES + LATER))
    assert found == undisturbed(log)
    for run in trial.ledger():
        assert run.rows_extracted == run.rows_scored
    tell(f"log {move}, while it is read", f"sqlite, {how}", "each line once")


@soak
def test_a_file_that_is_emptied_while_it_is_read_loses_what_was_cut_and_doubles_nothing(log: Log, tell: Tell) -> None:
    trial = log.scene.trial()
    running = trial.start(Fault("wait", name=LANDING, nth=1))
    running.wait_until_reached()
    log.path.write_text("")
    log.append()
    running.go_on()
    assert running.wait().exit_code == 0
    trial.run()

    numbers = [number for number, _ in live_numbers(trial)]
    kept = len(numbers) - LATER
    assert BATCH <= kept <= LINES
    assert numbers == [*range(kept), *range(LINES, LINES + LATER)]
    tell("log emptied while it is read, no copy kept", "sqlite", "lines not yet read are lost, nothing twice")


@soak
@pytest.mark.parametrize("how", ["steps", "flow"])
def test_a_gzip_that_is_cut_is_set_aside_and_named_and_the_whole_one_heals(log: Log, how: How, tell: Tell) -> None:
    trial = log.scene.trial()
    log.path.write_text(log.later)
    packed = gzip.compress(log.early.encode(), 1)
    log.beside(".1.gz").write_bytes(packed[: len(packed) // 2])

    ending = trial.run(how=how)

    assert ending.exit_code == 0, ending
    assert [number for number, _ in live_numbers(trial)] == list(range(LINES, LINES + LATER))
    with trial.warehouse.reading() as connection:
        [note] = connection.execute(
            sa.text("select observed from penstock_validations where expectation = 'archives unpack'")
        ).scalars()
    assert "payments.log.1.gz: the gzip is truncated" in note
    log.beside(".1.gz").write_bytes(packed)
    assert trial.run(how=how).exit_code == 0
    assert [number for number, _ in live_numbers(trial)] == list(range(LINES + LATER))
    tell(
        f"gzip truncated, {how}",
        "sqlite",
        "the others are published, the card names the file; healed",
    )
