"""Deliveries: whatever moves a pointer, a receiver ends up with the live rows, and each batch is applied once."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.delivery import deliver
from penstock.ledger.reader import RunRecord, list_runs
from penstock.ledger.tables import delivered_keys, delivery_rows
from penstock.ledger.writer import withdraw
from penstock.upkeep.live_changes import publish_with_rows
from tests.changing_place import ChangingPlace
from tests.conftest import DIALECTS
from tests.receivers import Receiver, receiving

DELIVER = """
deliver:
  - {kind: http, name: crm, url: crm, rows: 3, seconds: 2, private_address: true, columns: [score, country]}
"""


@pytest.fixture
def receiver(changing_place: ChangingPlace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver that the pipeline delivers to."""
    monkeypatch.setattr(deliver, "FIRST_PAUSE", 0.01)
    with receiving() as receiver:
        changing_place.use_settings(crm=receiver.url)
        changing_place.add(DELIVER)
        yield receiver


def deliver_all(place: ChangingPlace) -> deliver.Delivered:
    return place.driver.does.deliver("crm")


def received(receiver: Receiver) -> dict[int, Any]:
    """Return the score of each key that the receiver has."""
    found = {json.loads(key)["payment_id"]: values["score"] for (_, key), values in receiver.rows.items()}
    assert len(found) == len(receiver.rows)
    return found


def live_runs(place: ChangingPlace) -> list[RunRecord]:
    found = [run for run in list_runs(place.warehouse, limit=1000) if run.state == "published"]
    return sorted(found, key=lambda run: run.interval_key)


def count(place: ChangingPlace, table: sa.Table) -> int:
    with place.warehouse.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


@pytest.mark.parametrize("changing_place", DIALECTS, indirect=True)
def test_each_move_of_a_pointer_delivers_its_difference(changing_place: ChangingPlace, receiver: Receiver) -> None:
    place = changing_place

    first = deliver_all(place)
    assert (first.intervals, first.upserts, first.deletes) == (3, 12, 0)
    assert received(receiver) == place.seen_scores()
    assert [len(batch["rows"]) for batch in receiver.batches] == [3, 1] * 3
    assert receiver.batches[0]["rows"][0].keys() == {"op", "key", "values"}
    assert receiver.batches[0]["rows"][0]["values"].keys() == {"score", "country"}
    assert deliver_all(place).intervals == 0
    assert len(receiver.requests) == 6

    # a restate in which one row has changed, and one is gone
    place.change("update payments set amount = 99 where payment_id = 21", "delete from payments where payment_id = 24")
    place.run(3, "restate", "2026-01-02", "2026-01-03")
    second = deliver_all(place)
    assert (second.intervals, second.upserts, second.deletes) == (1, 1, 1)
    assert received(receiver) == place.seen_scores()

    withdraw(place.warehouse, live_runs(place)[1].run_id)
    third = deliver_all(place)
    assert (third.intervals, third.upserts, third.deletes) == (1, 0, 3)
    assert received(receiver) == place.seen_scores()

    [older] = [run for run in list_runs(place.warehouse, limit=1000) if run.state == "superseded"]
    publish_with_rows(place.warehouse, [older.run_id], "Ada", "it was right")
    fourth = deliver_all(place)
    assert (fourth.intervals, fourth.upserts, fourth.deletes) == (1, 4, 0)
    assert received(receiver) == place.seen_scores()

    assert set(receiver.applied.values()) == {1}
    assert count(place, delivery_rows) == 0
    assert count(place, delivered_keys) == 12
    place.verify()
