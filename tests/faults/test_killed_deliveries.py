"""Kill a delivery before each statement: the next one goes on, and the receiver applies each batch once."""

import json
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from penstock.ledger.reader import list_runs
from penstock.ledger.tables import (
    delivered_intervals,
    delivered_keys,
    deliveries,
    delivery_batches,
    delivery_rows,
    delivery_targets,
)
from penstock.ledger.writer import withdraw
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS
from tests.faults.conftest import Tell
from tests.faults.harness.child import Fault
from tests.faults.harness.scene import Scene, Trial
from tests.receivers import Receiver, receiving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

APART = 12
"""Every so many boundaries are tried without `soak`."""
soak = pytest.mark.soak
DELIVER = "deliver: [{kind: http, name: crm, url: crm, rows: 10, private_address: true, columns: [score]}]"
TABLES = (delivery_rows, delivery_batches, deliveries, delivered_keys, delivered_intervals, delivery_targets)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def delivering(tmp_path_factory: pytest.TempPathFactory, empty_database: Callable[..., str]) -> Callable[[str], Scene]:
    """Give a dialect's scene whose pipeline delivers."""
    made: dict[str, Scene] = {}

    def scene(dialect: str) -> Scene:
        if dialect not in made:
            made[dialect] = Scene(tmp_path_factory.mktemp(f"delivering_{dialect}"), dialect, empty_database)
            made[dialect].write_spec(15, DELIVER)
        return made[dialect]

    return scene


def start_again(trial: Trial, receiver: Receiver) -> None:
    """Let neither the ledger nor the receiver know of a delivery."""
    with trial.warehouse.writing() as connection:
        for table in TABLES:
            connection.execute(sa.delete(table))
    receiver.rows.clear()
    receiver.applied.clear()


def check(trial: Trial, receiver: Receiver) -> None:
    found = {json.loads(key)["payment_id"]: values["score"] for (_, key), values in receiver.rows.items()}
    assert found == trial.live_scores()
    assert set(receiver.applied.values()) <= {1}
    assert verify_ledger(trial.warehouse) == ()
    with trial.warehouse.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(delivery_rows)).scalar() == 0


@pytest.mark.parametrize("share", [pytest.param(n, marks=[soak] if n else []) for n in range(APART)])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_delivery_killed_before_any_statement_is_completed_by_the_next(
    delivering: Callable[[str], Scene], receiver: Receiver, dialect: str, share: int, tell: Tell
) -> None:
    trial = delivering(dialect).trial()
    trial.reach(crm=receiver.url)
    trial.run()
    boundaries = trial.run(how="deliver").boundaries
    check(trial, receiver)
    points = [number for number, name in enumerate(boundaries, 1) if name.startswith("before ")][share::APART]
    for point in points:
        start_again(trial, receiver)
        trial.run(Fault("kill", point), "deliver")
        trial.lapse()
        ending = trial.run(how="deliver")
        assert ending.exit_code == 0, ending.output
        check(trial, receiver)
    tell(f"kill -9 of a delivery before a statement, share {share}", dialect, f"{len(points)} of {len(points)} healed")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_delivery_of_removals_killed_around_its_batches_is_completed_by_the_next(
    delivering: Callable[[str], Scene], receiver: Receiver, dialect: str, tell: Tell
) -> None:
    """After a kill around a batch, the run is withdrawn: what arrived is removed, whether it was answered or not."""
    trial = delivering(dialect).trial()
    trial.reach(crm=receiver.url)
    trial.run()
    [run] = list_runs(trial.warehouse)
    boundaries = trial.run(how="deliver").boundaries
    about = [number for number, name in enumerate(boundaries, 1) if delivery_batches.name in name]
    points = about[1::4]
    for point in points:
        start_again(trial, receiver)
        trial.run(Fault("kill", point), "deliver")
        withdraw(trial.warehouse, run.run_id)
        trial.lapse()
        trial.run(Fault("kill", 20), "deliver")
        trial.lapse()
        ending = trial.run(how="deliver")
        assert ending.exit_code == 0, ending.output
        check(trial, receiver)
        assert receiver.rows == {}
        with trial.warehouse.writing() as connection:
            connection.execute(sa.text("update penstock_runs set state = 'published', retired_at = null"))
    tell("kill -9 of a delivery, then a withdrawal", dialect, f"{len(points)} of {len(points)} healed")
