"""Kill the record of requests, and the move of the spool, before each statement: each row is there once afterwards."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from penstock.interval import DataInterval
from penstock.ledger.served_rows import Layout, list_served_runs, read_served_rows, served_table
from penstock.ledger.served_spool import open_spool, settle_served_runs
from penstock.ledger.served_writes import Answer, NewRequest, NewRun
from penstock.ledger.tables import runs, served_answers, served_runs
from penstock.run_types import ModelPin
from penstock.spec.yaml_file import load_pipeline
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS
from tests.faults.conftest import Tell
from tests.faults.harness.child import REQUESTS, Fault, How
from tests.faults.harness.scene import Scene, Trial

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

APART = 6
"""Every so many boundaries are tried without `soak`."""
NOW = datetime(2026, 1, 3, 12, tzinfo=UTC)
DAY = DataInterval(datetime(2026, 1, 3, tzinfo=UTC), datetime(2026, 1, 4, tzinfo=UTC))
soak = pytest.mark.soak


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, empty_database: Callable[..., str]) -> Callable[[str], Trial]:
    """Give a dialect's trial whose day is published, so that it has a ledger."""
    made: dict[str, Trial] = {}

    def trial(dialect: str) -> Trial:
        if dialect not in made:
            scene = Scene(tmp_path_factory.mktemp(f"recorded_{dialect}"), dialect, empty_database)
            scene.write_spec(15, "serve: {record: before_answer}")
            made[dialect] = scene.trial()
            made[dialect].run()
        return made[dialect]

    return trial


def make_requests() -> list[NewRequest]:
    """Make requests of two runs, one of them with an `Idempotency-Key`."""
    layout = Layout({"payments": pa.schema([("payment_id", pa.int64())])}, pa.schema([]), pa.schema([]), {}).write()
    pins = {"score": ModelPin("card-risk", "1", "d" * 64)}
    found = []
    for number in range(4):
        run_id, place = f"{number % 2}" * 32, ("card_risk_scores", None)
        run = NewRun(run_id, "w" * 32, "here:1", DAY, pins, False, "f" * 64, "s" * 64, layout, *place)
        described = {"reasons": None, "outputs": '{"score": 0.5}', "feature_row": "{}", "other_rows": None}
        rows = tuple(
            {
                "key": f'{{"payment_id": "{seq}"}}',
                "status": "scored",
                "asked_as": None,
                "primary_row": "{}",
                **described,
            }
            for seq in range(3)
        )
        answer = Answer("k" * 64, "r" * 64, "{}") if number == 1 else None
        found.append(NewRequest(run, f"{number:032}", NOW + timedelta(seconds=number), rows, answer))
    return found


def home_of(trial: Trial) -> Path:
    home = Path(trial.environment["PENSTOCK_HOME"])
    home.mkdir(exist_ok=True)
    return home


def start_again(trial: Trial, how: How) -> None:
    """Let neither the warehouse nor the spool know of a request. Then ask for them all."""
    table = served_table("card_risk_scores", None)
    with trial.warehouse.writing() as connection:
        table.drop(connection, checkfirst=True)
        for each in (served_answers, served_runs):
            connection.execute(sa.delete(each))
        connection.execute(sa.delete(runs).where(runs.c.variant == "served"))
    home = home_of(trial)
    (home / "served.db").unlink(missing_ok=True)
    if how == "record":
        (home / REQUESTS).write_text(json.dumps([request.write() for request in make_requests()]))
    else:
        open_spool(home).append("card-risk", make_requests())


def check(trial: Trial) -> None:
    pipeline, warehouse = load_pipeline(trial.scene.spec), trial.warehouse
    with warehouse.writing() as connection:
        ended = sa.update(runs).where(runs.c.variant == "served")
        connection.execute(ended.values(lease_until=datetime(2000, 1, 1, tzinfo=UTC)))
    settle_served_runs(warehouse, home_of(trial), pipeline)
    found = list_served_runs(warehouse, "card-risk")
    rows = [row for run in found for each in read_served_rows(warehouse, run) for row in each.rows]
    expected = [(each.request_id, seq) for each in make_requests() for seq in range(3)]
    assert sorted((row.request_id, row.seq) for row in rows) == sorted(expected)
    assert {(run.state, run.rows) for run in found} == {("recorded", 6)}
    with warehouse.reading() as connection:
        assert connection.execute(sa.select(served_answers.c.request_id)).scalars().all() == [f"{1:032}"]
    assert verify_ledger(warehouse) == ()
    assert open_spool(home_of(trial)).count("card-risk") == 0


@pytest.mark.parametrize("share", [pytest.param(n, marks=[soak] if n else []) for n in range(APART)])
@pytest.mark.parametrize("how", ["record", "take in"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_requests_killed_before_any_statement_are_there_once(
    recorded: Callable[[str], Trial], dialect: str, how: How, share: int, tell: Tell
) -> None:
    trial = recorded(dialect)
    start_again(trial, how)
    boundaries = trial.run(how=how).boundaries
    check(trial)
    points = [number for number, name in enumerate(boundaries, 1) if name.startswith("before ")][share::APART]
    assert points
    for point in points:
        start_again(trial, how)
        trial.run(Fault("kill", point), how)
        ending = trial.run(how=how)
        assert ending.exit_code == 0, ending.output
        check(trial)
    tell(
        f"kill -9 of requests before a statement ({how}), share {share}",
        dialect,
        f"{len(points)} of {len(points)} healed",
    )
