"""Deliveries: whatever moves a pointer, a receiver ends up with the live rows, and each batch is applied once."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.delivery import deliver
from penstock.delivery.opening import open_outbox
from penstock.errors import DeliveryTakenOver, TargetBusy
from penstock.ledger.deliveries import begin_plan, finish_plan, mark_sent
from penstock.ledger.delivery_records import list_failing
from penstock.ledger.delivery_targets import release_lease, take_lease
from penstock.ledger.outbox import find_changes, list_batches
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
from penstock.privacy.masking import NO_MASKING, read_private_keys
from penstock.privacy.row_key import RowKey
from penstock.report.status import read_status
from penstock.settings import load_settings
from penstock.upkeep.erasure import BY_HAND, ErasureRequest, erase
from penstock.upkeep.key_counts import count_keys
from penstock.upkeep.live_changes import publish_with_rows
from penstock.upkeep.prune import prune
from penstock.upkeep.prune_plan import plan_prune
from penstock.upkeep.rename import rename_pipeline
from penstock.upkeep.verify import verify_ledger
from tests.changing_place import ChangingPlace, end_of, keys
from tests.conftest import DIALECTS
from tests.driver import lapse_leases
from tests.pointer_moves import live_runs, move_at_random
from tests.receivers import OK, Answer, Receiver, receiving

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
        folder = load_settings().pipelines
        folder.mkdir(parents=True)
        changing_place.spec = changing_place.spec.rename(folder / "card-risk.yaml")
        changing_place.add(DELIVER)
        yield receiver


def deliver_all(place: ChangingPlace) -> deliver.Delivered:
    return place.driver.does.deliver("crm")


def received(receiver: Receiver) -> dict[int, Any]:
    """Return the score of each key that the receiver has."""
    found = {json.loads(key)["payment_id"]: values["score"] for (_, key), values in receiver.rows.items()}
    assert len(found) == len(receiver.rows)
    return found


def answer_well(_: int) -> Answer:
    return OK


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


def test_a_receiver_that_fails_gets_the_same_bytes_again_and_applies_them_once(
    changing_place: ChangingPlace, receiver: Receiver
) -> None:
    """It answers 500, hangs, applies a batch and cuts the connection, and asks to wait."""
    answers: dict[int, Answer | float] = {1: (500, {}), 2: 3.0, 3: (0, {}), 5: (429, {"Retry-After": "0"})}
    receiver.answer = lambda number: answers.get(number, OK)

    done = deliver_all(changing_place)

    assert done.is_complete, done.describe()
    assert received(receiver) == changing_place.seen_scores()
    assert set(receiver.applied.values()) == {1}
    first = receiver.requests[0]
    for headers, body in receiver.requests[1:4]:
        assert (headers["Idempotency-Key"], body) == (first[0]["Idempotency-Key"], first[1])
    [batch] = _batches(changing_place)[:1]
    assert (batch["state"], batch["attempts"], batch["reply"]) == ("acknowledged", 4, "200 OK")


def _batches(place: ChangingPlace) -> list[dict[str, Any]]:
    joined = delivery_batches.join(deliveries, deliveries.c.delivery_id == delivery_batches.c.delivery_id)
    query = sa.select(delivery_batches).select_from(joined).order_by(deliveries.c.sequence, delivery_batches.c.batch)
    with place.warehouse.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def _target(place: ChangingPlace) -> dict[str, Any]:
    with place.warehouse.reading() as connection:
        return dict(connection.execute(sa.select(delivery_targets)).mappings().one())


@pytest.mark.parametrize("changing_place", DIALECTS, indirect=True)
def test_what_failed_is_delivered_later_and_stays_published(changing_place: ChangingPlace, receiver: Receiver) -> None:
    place = changing_place
    receiver.answer = lambda _: (503, {"Retry-After": "3600"})
    done = deliver_all(place)
    assert (done.intervals, len(done.failures), done.waiting) == (0, 1, 2)
    assert len(receiver.requests) == 1  # it asked to wait for longer than a run waits
    assert len(place.view()) == 12
    since = _target(place)["failing_since"]
    assert since is not None

    assert "it is left alone until" in deliver_all(place).describe()
    assert len(receiver.requests) == 1
    code, text = place.command("deliver", "run", live_runs(place)[0].run_id)
    assert code == 1
    assert "503 Service Unavailable" in " ".join(text.split())
    assert _target(place)["failing_since"] == since

    receiver.answer = answer_well
    for run in live_runs(place):
        code, text = place.command("deliver", "run", run.run_id[:8], "--target", "crm")
        assert code == 0, text
    assert received(receiver) == place.seen_scores()
    assert _target(place)["failing_since"] is None
    place.verify()


def test_a_target_that_takes_nothing_is_left_after_a_few_intervals(
    changing_place: ChangingPlace, receiver: Receiver
) -> None:
    changing_place.run(5)
    receiver.answer = lambda _: (400, {})
    done = deliver_all(changing_place)
    assert (len(done.failures), done.waiting) == (3, 2)
    assert len(receiver.requests) == 3  # a refusal is final, so no batch is sent twice
    assert "400 Bad Request" in done.failures[0]
    code, text = changing_place.command("deliver", "list")
    assert code == 0
    assert "does not get its rows since" in " ".join(text.split())


def test_a_move_after_half_a_delivery_is_delivered_from_what_may_have_arrived(
    changing_place: ChangingPlace, receiver: Receiver
) -> None:
    """The first batch of three is acknowledged. The second one was applied, and the answer to it was lost."""
    place = changing_place
    receiver.answer = lambda number: {1: OK, 2: (0, {})}.get(number, (500, {}))
    deliver_all(place)
    [first, *_] = live_runs(place)
    assert len(receiver.rows) == 4

    withdraw(place.warehouse, first.run_id)
    receiver.answer = answer_well
    code, text = place.command("deliver", "run", first.run_id)
    assert code == 0, text
    removed = [row for batch in receiver.batches for row in batch["rows"] if row["op"] == "delete"]
    assert sorted(row["key"]["payment_id"] for row in removed) == keys(1)
    assert receiver.rows == {}
    place.verify()


def test_a_run_is_sent_again_as_a_whole_if_asked(changing_place: ChangingPlace, receiver: Receiver) -> None:
    place = changing_place
    deliver_all(place)
    receiver.rows.clear()
    run = live_runs(place)[1]
    code, text = place.command("deliver", "run", run.run_id, "--again")
    assert code == 0, text
    assert sorted(received(receiver)) == keys(2)
    withdraw(place.warehouse, run.run_id)
    code, text = place.command("deliver", "run", run.run_id, "--again")
    assert code == 2
    assert "is withdrawn" in text
    place.verify()


def test_where_chooses_the_rows_and_an_erased_row_is_removed(
    changing_place: ChangingPlace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "a secret for the tests")
    place = changing_place
    place.edit("columns: [score, country]", "where: \"country <> 'DE' and amount > 20\"")
    deliver_all(place)
    chosen = {
        key: score
        for key, score, country, amount in place.view("score", "country", "amount")
        if country != "DE" and amount > 20
    }
    assert received(receiver) == chosen
    assert all(values.keys() == {"score", "amount", "country"} for values in receiver.rows.values())

    key = max(chosen)
    place.change(f"delete from payments where payment_id = {key}")
    code, text = place.command("forget", "card-risk", str(key), "--yes")
    assert code == 0, text
    assert "1 interval delivered, 0 rows and 1 removal" in text
    assert received(receiver) == {number: score for number, score in chosen.items() if number != key}
    assert count(place, delivered_keys) == len(chosen) - 1
    place.verify()


@pytest.mark.parametrize(
    ("changing_place", "seed"),
    list(zip(DIALECTS, range(3), strict=True)),
    indirect=["changing_place"],
    ids=DIALECTS,
)
def test_whatever_happens_the_receiver_has_the_live_rows_in_the_end(
    changing_place: ChangingPlace, receiver: Receiver, seed: int
) -> None:
    """Publishes, restates, withdrawals and runs that become live again, between deliveries that fail."""
    place, chance = changing_place, random.Random(seed)
    receiver.answer = lambda _: chance.choice([OK, OK, OK, (500, {}), (0, {}), (400, {})])
    for _ in range(12):
        move_at_random(place, chance)
        if chance.random() < 0.6:
            deliver_all(place)
    receiver.answer = answer_well
    with place.warehouse.writing() as connection:
        connection.execute(sa.update(delivery_targets).values(not_before=None))
    assert deliver_all(place).is_complete
    assert received(receiver) == place.seen_scores()
    assert set(receiver.applied.values()) == {1}
    place.verify()


def test_one_process_at_a_time_delivers_to_a_target(changing_place: ChangingPlace, receiver: Receiver) -> None:
    """One that was silent beyond its lease sends nothing more when it goes on."""
    place = changing_place
    pipeline = place.driver.pipeline
    outbox = open_outbox(place.warehouse, pipeline, "crm")
    token = take_lease(place.warehouse, outbox, 60)
    [change, *_] = find_changes(place.warehouse, outbox, None)
    with pytest.raises(TargetBusy):
        deliver_all(place)
    assert receiver.requests == []

    lapse_leases(place.warehouse)
    assert deliver_all(place).intervals == 3
    with pytest.raises(DeliveryTakenOver):
        begin_plan(place.warehouse, outbox, token, change, "")
    release_lease(place.warehouse, outbox, token)
    assert received(receiver) == place.seen_scores()
    place.verify()


def test_an_interval_before_the_start_is_not_delivered(changing_place: ChangingPlace, receiver: Receiver) -> None:
    changing_place.edit("columns: [score, country]", "columns: [score], start: '2026-01-02T00:00:00Z'")
    assert deliver_all(changing_place).intervals == 2
    assert sorted(received(receiver)) == keys(2, 3)


def test_a_pipeline_gets_another_name_between_two_tries(changing_place: ChangingPlace, receiver: Receiver) -> None:
    """The bytes of a batch name the pipeline, so what was open is planned anew, under other keys."""
    place = changing_place
    receiver.answer = lambda _: (0, {})
    deliver_all(place)
    [sent] = {headers["Idempotency-Key"] for headers, _ in receiver.requests[:1]}
    place.edit("name: card-risk\n", "name: payment-risk\n")
    rename_pipeline(place.warehouse, "card-risk", place.driver.pipeline)

    receiver.answer = answer_well
    with place.warehouse.writing() as connection:
        connection.execute(sa.update(delivery_targets).values(not_before=None))
    assert deliver_all(place).is_complete
    assert received(receiver) == place.seen_scores()
    assert sent not in {headers["Idempotency-Key"] for headers, _ in receiver.requests[-6:]}
    assert {batch["pipeline"] for batch in receiver.batches[-6:]} == {"payment-risk"}
    place.verify()


def test_prune_removes_records_of_deliveries_and_waits_for_what_is_open(
    changing_place: ChangingPlace, receiver: Receiver
) -> None:
    place = changing_place
    receiver.answer = lambda number: OK if number < 5 else (400, {})
    deliver_all(place)
    pipeline = place.driver.pipeline
    later = datetime.now(UTC) + timedelta(days=91)
    plan = plan_prune(place.warehouse, pipeline, later)

    assert [(each.kind, each.rows) for each in prune(place.warehouse, plan) if each.kind == "deliveries"] == [
        ("deliveries", 2)
    ]
    assert count(place, deliveries) == 1
    assert count(place, delivery_rows) == 4
    receiver.answer = answer_well
    [*_, last] = live_runs(place)
    code, text = place.command("deliver", "run", last.run_id)
    assert code == 0, text
    assert received(receiver) == place.seen_scores()
    place.verify()


def test_a_prune_that_is_killed_leaves_no_delivery_without_its_batches(
    changing_place: ChangingPlace, receiver: Receiver
) -> None:
    place = changing_place
    deliver_all(place)
    warehouse = place.warehouse
    plan = plan_prune(warehouse, place.driver.pipeline, datetime.now(UTC) + timedelta(days=91))

    def die(_: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if statement.startswith(f"DELETE FROM {deliveries.name}"):
            raise KeyboardInterrupt

    sa.event.listen(warehouse.engine, "before_cursor_execute", die)
    with pytest.raises(KeyboardInterrupt):
        prune(warehouse, plan)
    sa.event.remove(warehouse.engine, "before_cursor_execute", die)
    assert (count(place, deliveries), count(place, delivery_batches)) == (3, 6)
    place.verify()


def test_verify_names_what_breaks_the_order_of_deliveries(changing_place: ChangingPlace, receiver: Receiver) -> None:
    place = changing_place
    deliver_all(place)
    with place.warehouse.writing() as connection:
        first = sa.select(sa.func.min(deliveries.c.delivery_id)).scalar_subquery()
        hole = (delivery_batches.c.delivery_id == first, delivery_batches.c.batch == 0)
        connection.execute(sa.update(delivery_batches).where(*hole).values(state="planned", rows=9))
        connection.execute(sa.update(delivered_intervals).values(run_id="nobody"))
        lost = {"destination": "main.other", "target": "crm", "interval_key": "x", "key": "{}", "digest": ""}
        connection.execute(delivered_keys.insert().values(**lost))
        connection.execute(delivery_rows.insert().values(delivery_id="gone", key="{}", digest=None, row_values=None))
    assert {each.invariant for each in verify_ledger(place.warehouse)} == {
        "a delivered interval names a run",
        "batches are acknowledged in their order",
        "an acknowledged delivery has all of its batches",
        "batches add up to their delivery",
        "the outbox has rows of open deliveries only",
        "a delivered key belongs to an interval",
    }


def test_a_private_key_is_delivered_and_kept_as_its_hash(
    changing_place: ChangingPlace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "a secret for the tests")
    place = changing_place
    place.edit("updated_column: updated_at}", "updated_column: updated_at, private: {payment_id: hash}}")
    deliver_all(place)
    texts = {json.loads(key)["payment_id"] for _, key in receiver.rows}
    assert len(texts) == 12
    assert all(text.startswith("hash:") for text in texts)
    with place.warehouse.reading() as connection:
        kept = connection.execute(sa.select(delivered_keys.c.key)).scalars().all()
    assert {json.loads(key)["payment_id"] for key in kept} == texts

    place.change("delete from payments where payment_id = 21")
    code, text = place.command("forget", "card-risk", "21", "--yes")
    assert code == 0, text
    assert "0 rows and 1 removal" in text
    assert len(receiver.rows) == count(place, delivered_keys) == 11
    place.verify()


def test_a_row_that_is_erased_while_a_delivery_is_planned_is_not_sent(
    changing_place: ChangingPlace, receiver: Receiver
) -> None:
    """What was put into the outbox of the replaced delivery is gone, and the next one is planned of what is left."""
    place = changing_place
    pipeline = place.driver.pipeline
    outbox = open_outbox(place.warehouse, pipeline, "crm")
    token = take_lease(place.warehouse, outbox, 60)
    [change, *_] = find_changes(place.warehouse, outbox, None)
    delivery = begin_plan(place.warehouse, outbox, token, change, "")
    stage = delivery_rows.insert().values(delivery_id=delivery.delivery_id, digest="d", row_values="{}")
    with place.warehouse.writing() as connection:
        connection.execute(stage.values(key='{"payment_id":11}'))
    erase(place.warehouse, ErasureRequest(pipeline, RowKey({"payment_id": "11"})), NO_MASKING, b"a secret of sixteen")
    with place.warehouse.writing() as connection:
        connection.execute(stage.values(key='{"payment_id":12}'))

    assert finish_plan(place.warehouse, outbox, token, delivery, 3) is None
    assert count(place, delivery_rows) == 0
    release_lease(place.warehouse, outbox, token)
    deliver_all(place)
    assert received(receiver) == place.seen_scores()
    assert 11 not in received(receiver)
    place.verify()


RECEIVER_IS_DOWN = (503, {})
SECRET = b"a secret of sixteen"


def forget(place: ChangingPlace, key: int) -> dict[str, int]:
    place.change(f"delete from payments where payment_id = {key}")
    return erase(
        place.warehouse, ErasureRequest(place.driver.pipeline, RowKey({"payment_id": str(key)})), NO_MASKING, SECRET
    )


def let_go_on(place: ChangingPlace, receiver: Receiver) -> None:
    """Let the receiver answer well, and end the time that it is left alone."""
    receiver.answer = answer_well
    with place.warehouse.writing() as connection:
        connection.execute(sa.update(delivery_targets).values(not_before=None))


def test_a_row_that_is_erased_while_other_rows_are_delivered_is_removed(
    changing_place: ChangingPlace, receiver: Receiver
) -> None:
    """The open delivery has no word of the row, for the target has it with the same values."""
    place = changing_place
    deliver_all(place)
    place.change("update payments set amount = 99 where payment_id = 21")
    place.run(3, "restate", "2026-01-02", "2026-01-03")
    receiver.answer = lambda _: RECEIVER_IS_DOWN
    assert not deliver_all(place).is_complete

    forget(place, 22)
    let_go_on(place, receiver)
    assert deliver_all(place).is_complete
    assert 22 not in received(receiver)
    assert received(receiver) == place.seen_scores()
    place.verify()


def test_a_row_that_is_erased_after_its_batch_was_acknowledged_is_removed(
    changing_place: ChangingPlace, receiver: Receiver
) -> None:
    """It is erased while the second batch of two is answered."""
    place = changing_place

    def answer(number: int) -> Answer:
        if number == 2:
            forget(place, 11)
        return OK

    receiver.answer = answer
    assert deliver_all(place).is_complete
    assert 11 not in received(receiver)
    assert received(receiver) == place.seen_scores()
    place.verify()


def test_rows_of_a_process_that_died_after_its_delivery_was_replaced_are_dropped(
    changing_place: ChangingPlace, receiver: Receiver
) -> None:
    """It had read the row before it was erased, and put it into the outbox afterwards."""
    place = changing_place
    outbox = open_outbox(place.warehouse, place.driver.pipeline, "crm")
    token = take_lease(place.warehouse, outbox, 60)
    [change, other, *_] = find_changes(place.warehouse, outbox, None)
    delivery, living = (begin_plan(place.warehouse, outbox, token, each, "") for each in (change, other))
    forget(place, 11)
    assert finish_plan(place.warehouse, outbox, token, living, 3) is None  # what it has read may have been erased
    with place.warehouse.writing() as connection:
        late = {"delivery_id": delivery.delivery_id, "key": '{"payment_id":11}', "digest": "d", "row_values": "{}"}
        connection.execute(delivery_rows.insert().values(**late))
    release_lease(place.warehouse, outbox, token)

    assert deliver_all(place).is_complete
    assert count(place, delivery_rows) == 0
    assert 11 not in received(receiver)
    place.verify()


def test_an_interval_that_is_refused_makes_no_other_late(changing_place: ChangingPlace, receiver: Receiver) -> None:
    """Three intervals are refused whenever they come. Newer ones are delivered before they are tried again."""
    place = changing_place
    refused = {f"2026-01-0{day}T00:00:00Z" for day in (1, 2, 3)}

    def answer(_: int) -> Answer:
        return (400, {}) if receiver.batches[-1]["interval"]["start"] in refused else OK

    receiver.answer = answer
    assert len(deliver_all(place).failures) == 3
    assert _target(place)["not_before"] is None  # it answered, so it is not left alone
    place.run(5)
    done = deliver_all(place)
    assert (done.intervals, len(done.failures), done.waiting) == (2, 3, 0)
    assert sorted(received(receiver)) == keys(4, 5)

    order = [batch["interval"]["start"] for batch in receiver.batches[-3:]]
    refused = {order[-1]}
    place.change("update payments set amount = 99 where payment_id = 51")
    place.run(5, "restate", "2026-01-05", "2026-01-06")
    assert deliver_all(place).intervals == 3
    refused = set()
    assert deliver_all(place).is_complete
    assert received(receiver) == place.seen_scores()
    place.verify()


def test_a_pipeline_with_another_table_goes_on_counting_and_forgets_what_it_cannot_reach(
    changing_place: ChangingPlace, receiver: Receiver
) -> None:
    place = changing_place
    receiver.answer = lambda number: OK if number < 5 else RECEIVER_IS_DOWN
    deliver_all(place)
    assert [need.kind for need in read_status(place.warehouse, place.driver.pipeline, end_of(3)).needs] == ["delivery"]
    place.edit("table: card_risk_scores", "table: other_scores")
    pipeline = place.driver.pipeline
    place.run(3)
    assert not [n for n in read_status(place.warehouse, pipeline, end_of(3)).needs if n.kind == "delivery"]

    before = max(batch["sequence"] for batch in receiver.batches)
    receiver.answer = answer_well
    deliver_all(place)
    assert min(batch["sequence"] for batch in receiver.batches[-6:]) > before
    assert list_failing(place.warehouse) == []
    counts = forget(place, 11)
    assert (counts["penstock_delivered_keys"], counts[BY_HAND]) == (2, 1)
    code, text = place.command("forget", "card-risk", "12", "--dry-run")
    assert code == 0, text
    assert "1 row at targets that `deliver` no longer reaches: to be removed there by hand" in " ".join(text.split())
    assert deliver_all(place).deletes == 1
    with place.warehouse.reading() as connection:
        kept = connection.execute(sa.select(delivered_keys.c.key)).scalars().all()
    assert '{"payment_id":11}' not in kept
    place.verify()


def test_removals_are_sent_before_rows(changing_place: ChangingPlace, receiver: Receiver) -> None:
    """A key that is written in another way than before would else be removed after its row was put."""
    place = changing_place
    deliver_all(place)
    with place.warehouse.writing() as connection:
        connection.execute(
            sa.update(delivered_keys)
            .where(delivered_keys.c.key == '{"payment_id":24}')
            .values(key='{"payment_id":24.0}')
        )
    place.change("update payments set amount = 99 where payment_id < 25 and payment_id > 20")
    place.run(3, "restate", "2026-01-02", "2026-01-03")
    sent = len(receiver.requests)
    assert deliver_all(place).deletes == 1
    batches = receiver.batches[sent:]
    assert [{row["op"] for row in batch["rows"]} for batch in batches] == [{"delete"}, {"upsert"}, {"upsert"}]
    assert received(receiver) == place.seen_scores()
    place.verify()


@pytest.mark.usefixtures("receiver")
def test_a_lease_that_has_ended_is_kept_until_another_process_takes_the_target(changing_place: ChangingPlace) -> None:
    place = changing_place
    outbox = open_outbox(place.warehouse, place.driver.pipeline, "crm")
    token = take_lease(place.warehouse, outbox, 60)
    [change, *_] = find_changes(place.warehouse, outbox, None)
    lapse_leases(place.warehouse)
    delivery = finish_plan(place.warehouse, outbox, token, begin_plan(place.warehouse, outbox, token, change, ""), 3)
    assert delivery is not None
    with place.warehouse.writing() as connection:
        connection.execute(
            delivery_batches.insert().values(
                delivery_id=delivery.delivery_id, batch=0, last_key="", rows=0, state="acknowledged", attempts=1
            )
        )
    [batch] = list_batches(place.warehouse, delivery)
    assert not mark_sent(place.warehouse, outbox, token, batch, 60)  # its answer was late: the batch is acknowledged
    lapse_leases(place.warehouse)
    take_lease(place.warehouse, outbox, 60)
    with pytest.raises(DeliveryTakenOver):
        mark_sent(place.warehouse, outbox, token, batch, 60)


def test_keys_of_targets_are_counted_as_under_the_former_secret_until_they_are_sent_again(
    changing_place: ChangingPlace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    former, current = "the first secret of private keys", "the second secret of private keys"
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", former)
    place = changing_place
    place.edit("updated_column: updated_at}", "updated_column: updated_at, private: {payment_id: hash}}")
    deliver_all(place)
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", current)
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY_OLD", former)
    assert deliver_all(place).intervals == 0

    def count_former() -> list[int]:
        keys = read_private_keys(load_settings(), "")
        counted = count_keys(place.warehouse, keys, ["card-risk"])
        return [each.former for each in counted if each.table == delivered_keys.name]

    assert count_former() == [12]
    for run in live_runs(place):
        assert place.command("deliver", "run", run.run_id, "--again")[0] == 0
    assert count_former() == [0]
    assert len(receiver.rows) == 12
    place.verify()
