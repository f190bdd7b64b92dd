"""Kill a merge into another database before and after each statement: the next one goes on, and each row is right."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.database.connections import Database, open_url
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
from tests.faults.harness.proxy import Harm, Proxy
from tests.faults.harness.scene import Scene, Trial
from tests.shop import payments

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

APART = 24
"""Every so many boundaries are tried without `soak`."""
soak = pytest.mark.soak
DELIVER = "deliver: [{kind: merge, name: crm, connection: crm, table: customers, on: [payment_id], set: {risk: score}}]"
TABLES = (delivery_rows, delivery_batches, deliveries, delivered_keys, delivered_intervals, delivery_targets)
OTHER = {"sqlite": "postgresql", "postgresql": "duckdb", "duckdb": "sqlite"}
"""By dialect of the warehouse, that of the table."""


class Table:
    """The table of another system, with a column that counts how often a row was written."""

    def __init__(self, url: str, keys: list[int]) -> None:
        self.url, self.keys = url, keys
        with self.database.writing() as connection:
            connection.execute(
                sa.text("create table customers (payment_id bigint primary key, risk double precision, note text)")
            )
            connection.execute(sa.text("insert into customers (payment_id) values (:key)"), [{"key": k} for k in keys])
        self.release()

    @property
    def database(self) -> Database:
        return open_url("crm", self.url, 60)

    def release(self) -> None:
        """Close the file, so that the child can open it."""
        self.database.engine.dispose()

    def clear(self) -> None:
        with self.database.writing() as connection:
            connection.execute(sa.text("update customers set risk = null"))
            for name in ("penstock_fences", "penstock_merged"):
                connection.execute(sa.text(f"drop table if exists {name}"))
        self.release()

    def scores(self) -> dict[int, Any]:
        with self.database.reading() as connection:
            found = connection.execute(sa.text("select payment_id, risk from customers where risk is not null"))
            scores = {int(key): risk for key, risk in found.tuples()}
        self.release()
        return scores


@pytest.fixture(scope="module")
def merging(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Callable[..., str]
) -> Callable[[str], tuple[Scene, Table]]:
    """Give the scene of a warehouse's dialect whose pipeline merges, and the table in another database."""
    made: dict[str, tuple[Scene, Table]] = {}

    def scene(dialect: str) -> tuple[Scene, Table]:
        if dialect not in made:
            scene = Scene(tmp_path_factory.mktemp(f"merging_{dialect}"), dialect, empty_database)
            scene.write_spec(15, DELIVER)
            keys = payments(days=1, a_day=30)["payment_id"].to_pylist()
            made[dialect] = scene, Table(empty_database(OTHER[dialect], f"crm_{dialect}"), keys)
        return made[dialect]

    return scene


def start_again(trial: Trial, table: Table) -> None:
    """Let neither the ledger nor the table know of a delivery."""
    with trial.warehouse.writing() as connection:
        for each in TABLES:
            connection.execute(sa.delete(each))
    table.clear()


def check(trial: Trial, table: Table) -> None:
    assert table.scores() == trial.live_scores()
    assert verify_ledger(trial.warehouse) == ()


def merge_points(boundaries: list[str]) -> list[int]:
    """Return the boundaries from the first statement in the table's database on."""
    first = next(number for number, name in enumerate(boundaries, 1) if "customers" in name.lower())
    return list(range(first, len(boundaries) + 1))


@pytest.mark.parametrize("share", [pytest.param(n, marks=[soak] if n else []) for n in range(APART)])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_merge_killed_at_any_statement_is_completed_by_the_next(
    merging: Callable[[str], tuple[Scene, Table]], dialect: str, share: int, tell: Tell
) -> None:
    scene, table = merging(dialect)
    trial = scene.trial()
    trial.reach(crm=table.url)
    trial.run()
    start_again(trial, table)
    boundaries = trial.run(how="deliver").boundaries
    check(trial, table)
    points = merge_points(boundaries)[share::APART]
    for point in points:
        start_again(trial, table)
        trial.run(Fault("kill", point), "deliver")
        trial.lapse()
        ending = trial.run(how="deliver")
        assert ending.exit_code == 0, ending.output
        check(trial, table)
    what = f"kill -9 of a merge into {OTHER[dialect]} at a statement, share {share}"
    tell(what, dialect, f"{len(points)} of {len(points)} healed")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_merge_that_was_killed_is_taken_back_by_a_withdrawal(
    merging: Callable[[str], tuple[Scene, Table]], dialect: str, tell: Tell
) -> None:
    """Whether it was committed or not, and the withdrawal is killed too: nothing stays in the column."""
    scene, table = merging(dialect)
    trial = scene.trial()
    trial.reach(crm=table.url)
    trial.run()
    start_again(trial, table)
    [run] = list_runs(trial.warehouse)
    points = merge_points(trial.run(how="deliver").boundaries)[5::31]
    for point in points:
        start_again(trial, table)
        trial.run(Fault("kill", point), "deliver")
        withdraw(trial.warehouse, run.run_id)
        trial.lapse()
        trial.run(Fault("kill", point), "deliver")
        trial.lapse()
        ending = trial.run(how="deliver")
        assert ending.exit_code == 0, ending.output
        assert table.scores() == {}
        check(trial, table)
        with trial.warehouse.writing() as connection:
            connection.execute(sa.text("update penstock_runs set state = 'published', retired_at = null"))
    tell(
        f"kill -9 of a merge into {OTHER[dialect]}, then a withdrawal",
        dialect,
        f"{len(points)} of {len(points)} healed",
    )


def test_a_merge_whose_answer_to_commit_is_lost_is_done_once(
    merging: Callable[[str], tuple[Scene, Table]], tell: Tell
) -> None:
    """The connection is cut after COMMIT has arrived. The retry finds the fence, and writes no row again."""
    scene, table = merging("sqlite")
    trial = scene.trial()
    trial.run()
    start_again(trial, table)
    with table.database.writing() as connection:
        for statement in (
            "create or replace function count_write() returns trigger language plpgsql as "
            "$$ begin new.note := coalesce(old.note, '') || 'x'; return new; end $$",
            "create trigger counted before update of risk on customers for each row execute function count_write()",
        ):
            connection.execute(sa.text(statement))
    with Proxy(Harm("lose", b"INSERT INTO penstock_stage")) as proxy:
        trial.reach(crm=proxy.front(table.url))
        ending = trial.run(how="deliver")

    assert proxy.happened.is_set()
    assert ending.exit_code == 0, ending.output
    check(trial, table)
    with table.database.reading() as connection:
        notes = connection.execute(sa.text("select distinct note from customers where risk is not null")).scalars()
        assert list(notes) == ["x"]
    with trial.warehouse.reading() as connection:
        assert list(connection.execute(sa.select(delivery_batches.c.state, delivery_batches.c.attempts)).tuples()) == [
            ("acknowledged", 2)
        ]
    tell("answer to COMMIT of a merge lost on the network", "postgresql", "merged once, known by its fence")
