"""Merges into somebody else's table: whatever moves a pointer, its columns end up as readers see the scores."""

import random
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.delivery import deliver, merge
from penstock.errors import DatabaseUnavailable
from penstock.ledger.delivery_records import list_deliveries, list_failing
from penstock.ledger.reader import list_runs
from penstock.ledger.tables import delivery_targets
from penstock.ledger.writer import withdraw
from penstock.report.delivery import describe_reply
from penstock.settings import load_settings
from penstock.tasks.process_resources import connect
from penstock.upkeep.live_changes import publish_with_rows
from penstock.upkeep.rename import rename_pipeline
from tests.changing_place import ChangingPlace, keys
from tests.conftest import DIALECTS
from tests.merged import MERGE, Customers
from tests.pointer_moves import live_runs, move_at_random


@pytest.fixture
def customers(changing_place: ChangingPlace, request: pytest.FixtureRequest) -> Customers:
    """The table that the pipeline merges into, with all payments but one."""
    dialect = getattr(request, "param", "sqlite")
    place = changing_place
    place.connections["crm"] = place.database_url(dialect, "crm")
    place.settings = place.use_settings(**place.connections)
    folder = load_settings().pipelines
    folder.mkdir(parents=True)
    place.spec = place.spec.rename(folder / "card-risk.yaml")
    place.add(MERGE)
    customers = Customers(connect("crm"))
    customers.create([key for key in keys(1, 2, 3, 4, 5, 6) if key != 14])
    return customers


def deliver_all(place: ChangingPlace) -> deliver.Delivered:
    return place.driver.does.deliver("crm")


def live_scores(place: ChangingPlace) -> dict[int, float]:
    return {key: score for key, score in place.seen_scores().items() if key != 14}


@pytest.mark.parametrize(("changing_place", "customers"), list(zip(DIALECTS, DIALECTS, strict=True)), indirect=True)
def test_each_move_of_a_pointer_is_merged(changing_place: ChangingPlace, customers: Customers) -> None:
    place = changing_place
    first = deliver_all(place)
    assert first.is_complete, first.describe()
    assert (first.intervals, first.upserts, first.deletes, first.missing) == (3, 12, 0, 1)
    assert customers.scores() == live_scores(place)
    assert customers.rows()[11] == ("about 11", place.seen_scores()[11], "DE")

    place.change("update payments set amount = 99 where payment_id = 21", "delete from payments where payment_id = 24")
    place.run(3, "restate", "2026-01-02", "2026-01-03")
    second = deliver_all(place)
    assert (second.intervals, second.upserts, second.deletes) == (1, 1, 1)
    assert customers.scores() == live_scores(place)
    assert customers.rows()[24] == ("about 24", None, None)

    [middle] = [run for run in live_runs(place) if run.interval and run.interval.start.day == 2]
    withdraw(place.warehouse, middle.run_id)
    assert deliver_all(place).deletes == 3
    assert customers.scores() == live_scores(place)

    [older] = [run for run in list_runs(place.warehouse, limit=1000) if run.state == "superseded"]
    publish_with_rows(place.warehouse, [older.run_id], "Ada", "it was right")
    assert deliver_all(place).upserts == 4
    assert customers.scores() == live_scores(place)
    place.verify()


@pytest.mark.parametrize(
    ("changing_place", "customers", "seed"),
    [("sqlite", "postgresql", 0), ("postgresql", "duckdb", 1), ("duckdb", "sqlite", 2)],
    indirect=["changing_place", "customers"],
)
def test_whatever_happens_the_columns_are_as_readers_see_the_scores(
    changing_place: ChangingPlace, customers: Customers, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publishes, restates, withdrawals and runs that become live again, between merges that fail before or after."""
    place, chance = changing_place, random.Random(seed)
    real = merge.merge

    def often_fail(*given: Any) -> int:
        fate = chance.choice(["well", "well", "well", "before", "after"])
        if fate == "before":
            raise DatabaseUnavailable("crm", "no connection")
        missing = real(*given)
        if fate == "after":
            raise DatabaseUnavailable("crm", "the answer to COMMIT was lost")
        return missing

    monkeypatch.setattr(deliver, "FIRST_PAUSE", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(merge, "merge", often_fail)
        for _ in range(12):
            move_at_random(place, chance)
            if chance.random() < 0.6:
                deliver_all(place)
    with place.warehouse.writing() as connection:
        connection.execute(sa.update(delivery_targets).values(not_before=None))
    assert deliver_all(place).is_complete
    assert customers.scores() == live_scores(place)
    assert all(note == f"about {key}" for key, (note, *_) in customers.rows().items())
    place.verify()


def test_an_erased_key_is_taken_back_and_forgotten(
    changing_place: ChangingPlace, customers: Customers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "a secret for the tests")
    place = changing_place
    deliver_all(place)
    place.change("delete from payments where payment_id = 21")
    code, text = place.command("forget", "card-risk", "21", "--yes")
    assert code == 0, text
    assert "1 interval delivered, 0 rows and 1 removal" in text
    assert customers.rows()[21] == ("about 21", None, None)
    assert customers.scores() == live_scores(place)
    with customers.database.reading() as connection:
        count = sa.text("select count(*) from penstock_merged")
        assert connection.execute(count).scalar() == 2 * len(live_scores(place))
    place.verify()


def test_a_renamed_pipeline_goes_on_where_it_was(changing_place: ChangingPlace, customers: Customers) -> None:
    place = changing_place
    deliver_all(place)
    place.edit("name: card-risk\n", "name: payment-risk\n")
    rename_pipeline(place.warehouse, "card-risk", place.driver.pipeline)
    [first, *_] = sorted(live_runs(place), key=lambda run: run.interval_key)
    withdraw(place.warehouse, first.run_id)
    assert deliver_all(place).deletes == 4
    assert customers.scores() == live_scores(place)
    place.verify()


def test_an_outage_of_the_table_is_one_episode_and_heals(
    changing_place: ChangingPlace, customers: Customers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "FIRST_PAUSE", 0.01)
    place, file = changing_place, Path(str(customers.database.url.database))
    away = file.rename(file.with_suffix(".away"))
    done = deliver_all(place)
    assert (done.intervals, len(done.failures)) == (0, 3)
    assert "there is no file" in done.failures[0]
    assert "it is left alone until" in deliver_all(place).describe()
    [failing] = list_failing(place.warehouse)
    assert failing.target == "crm"

    away.rename(file)
    code, text = place.command("deliver", "run", live_runs(place)[0].run_id)
    assert code == 0, text
    with place.warehouse.writing() as connection:
        connection.execute(sa.update(delivery_targets).values(not_before=None))
    assert deliver_all(place).is_complete
    assert customers.scores() == live_scores(place)
    assert list_failing(place.warehouse) == []


def test_check_and_list_say_what_a_table_refuses_and_what_it_lacks(
    changing_place: ChangingPlace, customers: Customers
) -> None:
    place = changing_place
    code, text = place.command("check", "card-risk")
    assert code == 0, text
    assert "✓ deliver `crm`" in text
    place.edit("country: country}", "note: score}")
    code, text = place.command("check", "card-risk")
    assert code == 1, text
    assert "its column `note` is VARCHAR(20), and `score` has floats of 64 bits" in " ".join(text.split())
    done = deliver_all(place)
    assert "its column `note` is VARCHAR(20)" in done.failures[0]
    assert customers.scores() == {}

    place.edit("note: score}", "country: country}")
    assert deliver_all(place).missing == 1
    code, text = place.command("deliver", "list")
    assert code == 0, text
    done_well = [each for each in list_deliveries(place.warehouse) if each.state == "acknowledged"]
    assert sorted(map(describe_reply, done_well)) == ["merged", "merged", "merged; 1 key not in its table"]
