"""Rows of the source that come, go and change while a run reads them, or are committed after it, with an older time."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from penstock.ledger.reader import list_runs, validations_of
from penstock.models.registry import Registry
from tests.driver import Driver
from tests.faults.conftest import Tell
from tests.faults.harness.child import Fault, How
from tests.faults.harness.scene import Found, Scene
from tests.faults.one_table import OneTable
from tests.shop import START, payments_table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
soak = pytest.mark.soak
PAYMENTS = payments_table()
READ, UNREAD = 5, 22
"""Payments of the first partition and of the second."""
WAYS = pytest.mark.parametrize(
    ("dialect", "how"),
    [
        pytest.param("sqlite", "steps"),
        pytest.param("postgresql", "steps", marks=soak),
        pytest.param("sqlite", "flow", marks=soak),
        pytest.param("postgresql", "flow", marks=soak),
    ],
)
"""Not on DuckDB: a run has its file to itself, so nobody else writes."""


@pytest.fixture(autouse=True)
def server(request: pytest.FixtureRequest) -> None:
    """Have a Prefect server where the real flow is tried."""
    if "-flow]" in request.node.name or "[flow]" in request.node.name:
        request.getfixturevalue("prefect_api")


def new_payment(scene: Scene, key: int) -> sa.Insert:
    moment = START + timedelta(hours=6)
    moment = moment if scene.dialect == "postgresql" else moment.replace(tzinfo=None)
    goods = {"amount": 30.0, "items": 3, "country": "PL", "first": True}
    return sa.insert(PAYMENTS).values(payment_id=key, created_at=moment, updated_at=moment, **goods)


def move_rows(scene: Scene) -> None:
    """Change, remove and add rows on both sides of the place that the run has come to."""
    later = START + timedelta(days=1, hours=1)
    later = later if scene.dialect == "postgresql" else later.replace(tzinfo=None)
    key = PAYMENTS.c.payment_id
    with scene.shop.writing() as connection:
        for number in (READ, UNREAD):
            connection.execute(sa.update(PAYMENTS).where(key == number).values(amount=199.0, updated_at=later))
            connection.execute(sa.delete(PAYMENTS).where(key == number + 1))
        connection.execute(sa.update(PAYMENTS).where(key == UNREAD + 2).values(payment_id=0, updated_at=later))
        connection.execute(sa.update(PAYMENTS).where(key == READ + 2).values(payment_id=100, updated_at=later))
        for new in (-1, 101):
            connection.execute(new_payment(scene, new))


@WAYS
def test_rows_that_move_while_a_run_reads_are_shown_as_they_are_by_the_next_one(
    make_scene: Callable[..., Scene], dialect: str, how: How, tell: Tell
) -> None:
    scene = make_scene(dialect)
    before = scene.twin
    scene.forget_twin()
    trial = scene.trial()
    running = trial.start(Fault("wait", name="after prediction"), how)
    running.wait_until_reached()
    move_rows(scene)
    running.go_on()
    assert running.wait().exit_code == 0
    first: Found = trial.found()
    [run] = trial.ledger()
    assert run.state == "published"
    assert run.rows_extracted == run.rows_scored + run.rows_quarantined + run.rows_excluded

    assert trial.run(how=how).exit_code == 0

    assert [(each.state, each.reason) for each in trial.ledger()] == [("superseded", "due"), ("published", "late rows")]
    trial.check_healed()
    if dialect == "postgresql":
        assert first == before
    shows = "the moment at which it was planned" if dialect == "postgresql" else "each partition as it was when read"
    tell(f"rows updated, deleted, inserted in mid-run, {how}", dialect, f"shows {shows}; the next run all")


@pytest.mark.parametrize("how", ["steps", pytest.param("flow", marks=soak)])
def test_a_row_committed_after_the_run_with_an_older_time_is_scored_once_by_the_next(
    make_scene: Callable[..., Scene], how: How, tell: Tell
) -> None:
    scene = make_scene("postgresql")
    trial = scene.trial()
    with scene.shop.engine.connect() as writer:
        writer.detach()  # a run that starts closes the engines of this process
        writer.execute(new_payment(scene, 1000))
        assert trial.run(how=how).exit_code == 0
        first = trial.found()
        writer.commit()

    assert trial.run(how=how).exit_code == 0
    trial.run(how=how)

    assert [(each.state, each.reason) for each in trial.ledger()] == [("superseded", "due"), ("published", "late rows")]
    scene.a_day += 1
    trial.check_healed()
    assert len(trial.found().rows) == len(first.rows) + 1
    tell(f"row committed after the run, with an older event time, {how}", "postgresql", "scored once, by the next run")


@pytest.fixture
def tables(empty_database: Callable[..., str], registry: Registry) -> Callable[[str], OneTable]:
    def make(dialect: str) -> OneTable:
        table = OneTable(empty_database, registry, dialect, "sqlite")
        table.create("id bigint")
        table.insert(*({"id": number} for number in range(5)))
        return table

    return make


def go_to(last: str, steps: Iterator[str]) -> None:
    """Let a run do its steps up to this one."""
    assert any(step == last for step in steps)


@pytest.mark.parametrize(
    ("change", "mend", "said"),
    [
        ("drop column amount", "add column amount double precision default 12.5", "amount"),
        (
            "alter column amount type text",
            "alter column amount type double precision using amount::float8",
            "rewritten",
        ),
    ],
    ids=["dropped", "retyped"],
)
def test_a_column_that_changes_between_the_look_and_the_reading_publishes_nothing(
    tables: Callable[[str], OneTable], change: str, mend: str, said: str, tell: Tell
) -> None:
    table = tables("postgresql")
    driver = Driver(table.pipeline(empty="publish"), table.connect, table.registry)
    steps = driver.steps(START + timedelta(days=1))
    go_to("plan partitions", steps)

    table.say(f"alter table payments {change}")
    ended = list(steps)[-1]

    assert ended.startswith(("failed", "halted"))
    assert said in ended
    assert table.outcome(ended).live == {}
    table.say(f"alter table payments {mend}")
    assert driver.run(START + timedelta(days=1))[-1] == "publish"
    table.outcome("").check_accounted(5)
    tell(f"column {change.partition(' column')[0]} in mid-run", "postgresql", "nothing published; repaired, scored")


def test_a_table_that_is_emptied_and_filled_again_in_mid_run_loses_no_row(
    tables: Callable[[str], OneTable], tell: Tell
) -> None:
    table = tables("postgresql")
    driver = Driver(table.pipeline(), table.connect, table.registry)
    steps = driver.steps(START + timedelta(days=1))
    go_to("load 1/3", steps)

    table.say("create table kept as table payments", "truncate payments", "insert into payments table kept")
    ended = list(steps)[-1]

    assert "5 rows were counted, but 2 extracted in the same snapshot" in ended
    assert driver.run(START + timedelta(days=1))[-1] == "publish"
    table.outcome("").check_accounted(5)
    tell("table truncated and filled again in mid-run", "postgresql", "fails and says so; the next run healed")


def test_rows_that_are_away_just_while_they_are_read_are_late_for_the_next_run(
    tables: Callable[[str], OneTable], tell: Tell
) -> None:
    table = tables("sqlite")
    pipeline = table.pipeline()
    assert pipeline.interval is not None
    watched = pipeline.model_copy(update={"interval": pipeline.interval.model_copy(update={"lookback": 2})})
    driver = Driver(watched, table.connect, table.registry)
    steps = driver.steps(START + timedelta(days=1))
    go_to("load 1/3", steps)

    table.say("create table kept as select * from payments", "delete from payments")
    assert list(steps)[-1] == "publish"
    table.say("insert into payments select * from kept")
    [run] = list_runs(table.warehouse)
    noted = [v.detail for v in validations_of(table.warehouse, run.run_id) if v.outcome == "noted"]

    assert noted == ["5 rows were counted and 2 read: the source changed while it was read"]
    assert driver.run(START + timedelta(days=1))[-1] == "publish"
    table.outcome("").check_accounted(5)
    assert driver.run(START + timedelta(days=1))[-1] == "plan"
    tell("rows absent only while they are read", "sqlite", "noted on the card; the next run scores them")
