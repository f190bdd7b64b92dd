"""Merges into somebody else's table: whatever moves a pointer, its columns end up as readers see the scores."""

from collections.abc import Iterator

import pytest

from penstock.delivery import deliver
from penstock.ledger.reader import RunRecord, list_runs
from penstock.ledger.writer import withdraw
from penstock.settings import load_settings
from penstock.tasks.process_resources import connect
from penstock.upkeep.live_changes import publish_with_rows
from tests.changing_place import ChangingPlace, keys
from tests.conftest import DIALECTS
from tests.merged import MERGE, Customers


@pytest.fixture
def customers(changing_place: ChangingPlace, request: pytest.FixtureRequest) -> Iterator[Customers]:
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
    yield customers


def deliver_all(place: ChangingPlace) -> deliver.Delivered:
    return place.driver.does.deliver("crm")


def live_runs(place: ChangingPlace) -> list[RunRecord]:
    return [run for run in list_runs(place.warehouse, limit=1000) if run.state == "published"]


def live_scores(place: ChangingPlace) -> dict[int, float]:
    return {key: score for key, score in place.seen_scores().items() if key != 14}


@pytest.mark.parametrize("changing_place, customers", list(zip(DIALECTS, DIALECTS, strict=True)), indirect=True)
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
