"""What was served is recorded: each row once, whatever is repeated, and as it was to the bit."""

import json
import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from penstock.database.connections import open_local_file
from penstock.errors import DatabaseUnavailable
from penstock.ledger.reader import list_runs
from penstock.ledger.served_rows import ServedRow, find_served_keys, list_served_runs, read_served_rows
from penstock.ledger.served_spool import Spool, open_spool, settle_served_runs
from penstock.ledger.tables import runs, served_answers
from penstock.privacy.masking import NO_MASKING, MaskingPolicy, is_hash
from penstock.privacy.row_key import RowKey
from penstock.privacy.secret_keys import KeyRing, SecretKey
from penstock.serving.recorded_request import RecordedRequests
from penstock.serving.recorder import Recorder
from penstock.serving.scored_request import RequestRows, ScoredRequest
from penstock.spec.yaml_file import load_pipeline
from penstock.upkeep.erasure import SPOOLED, ErasureRequest, erase
from penstock.upkeep.key_counts import count_keys
from penstock.upkeep.prune import prune, prune_spooled
from penstock.upkeep.prune_plan import plan_prune
from penstock.upkeep.rename import rename_pipeline
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS
from tests.driver import SETTINGS, Driver
from tests.integration.test_serving import FEATURES, JOINED, NOW, ROWS, make_served_place
from tests.served import client_of, serve_pipeline
from tests.shop import Place
from tests.waiting import wait_until

SCORE = "/pipelines/card-risk/score"
RECORDING = FEATURES + "serve: {record: before_answer}\n"


@pytest.fixture(params=DIALECTS)
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    if request.param != "postgresql":
        return make_served_place(tmp_path, request.param, RECORDING)
    server, name = request.getfixturevalue("postgres"), f"recorded_{uuid.uuid4().hex[:10]}"
    server.psql(f"create database {name};")
    return make_served_place(tmp_path, server.get_uri(name), RECORDING)


@contextmanager
def recording(place: Place, masking: MaskingPolicy = NO_MASKING, **serve: Any) -> Iterator[TestClient]:
    """Give a client of a server that records what it serves."""
    with client_of(served_with_recorder(place, masking, **serve)) as client:
        yield client


def served_with_recorder(place: Place, masking: MaskingPolicy = NO_MASKING, **serve: Any) -> Any:
    pipeline = load_pipeline(place.spec)
    assert pipeline.serve is not None
    pipeline = pipeline.model_copy(update={"serve": pipeline.serve.model_copy(update=serve)})
    served = serve_pipeline(place, pipeline, masking)
    requests = RecordedRequests(pipeline, masking)
    served.recorder = Recorder(requests, served.connect, spool_of(place), timedelta(minutes=1))
    return served


def spool_of(place: Place) -> Spool:
    return open_spool(place.folder / "home")


def recorded_rows(place: Place) -> list[ServedRow]:
    """Take the spool in, and return all recorded rows."""
    pipeline = load_pipeline(place.spec)
    settle_served_runs(place.warehouse, place.folder / "home", pipeline)
    found = list_served_runs(place.warehouse, pipeline.name)
    return [row for run in found for rows in read_served_rows(place.warehouse, run) for row in rows.rows]


def test_each_row_of_a_request_is_recorded_with_what_was_answered(place: Place) -> None:
    with recording(place) as client:
        answer = client.post(SCORE, json={"rows": ROWS})

    assert answer.status_code == 200, answer.text
    rows = recorded_rows(place)
    assert [row.seq for row in rows] == [0, 1, 2, 3]
    assert {row.request_id for row in rows} == {answer.json()["request_id"]}
    for row, said, sent in zip(rows, answer.json()["rows"], ROWS, strict=True):
        assert (row.status, row.outputs) == (said["status"], said.get("outputs"))
        assert row.reasons == tuple(said.get("reasons", ()))
        assert row.primary_row.items() >= sent.items()
        assert row.key == json.dumps({"payment_id": str(sent["payment_id"])})
    [run] = list_served_runs(place.warehouse, "card-risk")
    assert run.state == "recorded"
    assert str(run.model) == f"{answer.json()['model']['name']}/{answer.json()['model']['version']}"
    assert verify_ledger(place.warehouse) == ()


def test_a_retry_with_the_same_key_is_one_row_and_the_same_answer(place: Place) -> None:
    keyed = {"idempotency-key": "order 1"}
    with recording(place) as one, recording(place) as other:
        first = one.post(SCORE, json={"rows": ROWS}, headers=keyed)
        again = [each.post(SCORE, json={"rows": ROWS}, headers=keyed) for each in (one, other)]
        changed = other.post(SCORE, json={"rows": ROWS[:1]}, headers=keyed)
        alone = other.post(SCORE, json={"rows": ROWS[:1]})

    assert [each.content for each in again] == [first.content] * 2
    assert [each.headers["x-recorded"] for each in again] == ["earlier"] * 2
    assert (changed.status_code, alone.status_code) == (422, 200)
    assert len(recorded_rows(place)) == len(ROWS) + 1


def test_requests_with_one_key_at_once_are_one_row(place: Place) -> None:
    with recording(place) as one, recording(place) as other, ThreadPoolExecutor(8) as many:

        def ask(number: int) -> bytes:
            client = (one, other)[number % 2]
            return client.post(SCORE, json={"rows": ROWS[:1]}, headers={"idempotency-key": "one"}).content

        answers = set(many.map(ask, range(8)))

    assert len(answers) == 1
    assert len(recorded_rows(place)) == 1


def test_rows_of_async_are_stored_when_the_server_ends(place: Place) -> None:
    with recording(place, record="async") as client:
        for _ in range(20):
            assert client.post(SCORE, json={"rows": ROWS}).status_code == 200

    assert len(recorded_rows(place)) == 20 * len(ROWS)
    assert verify_ledger(place.warehouse) == ()


def test_a_run_takes_the_spool_in_first(tmp_path: Path) -> None:
    place = make_served_place(tmp_path, "duckdb", RECORDING)
    with recording(place) as client:
        assert client.post(SCORE, json={"rows": ROWS}).headers["x-recorded"] == "spool"
    settings = SETTINGS.model_copy(update={"home": place.folder / "home"})
    databases = {"shop": place.shop, "warehouse": place.warehouse}

    Driver(load_pipeline(place.spec), databases.__getitem__, place.registry, settings=settings).run(NOW)

    assert [run.rows for run in list_served_runs(place.warehouse, "card-risk")] == [len(ROWS)]
    assert spool_of(place).count("card-risk") == 0


def test_a_served_run_is_none_of_the_schedule(place: Place) -> None:
    with recording(place) as client:
        client.post(SCORE, json={"rows": ROWS})
    recorded_rows(place)

    states = {(run.variant, run.state) for run in list_runs(place.warehouse)}
    assert states == {("live", "published"), ("served", "recorded")}


def test_rows_come_back_as_they_were_scored(place: Place) -> None:
    """What is read scores to the same bits, from the rows and from the features."""
    served = served_with_recorder(place)
    with client_of(served) as client:
        client.post(SCORE, json={"rows": ROWS})
    recorded_rows(place)
    [run] = list_served_runs(place.warehouse, "card-risk")
    [rows] = read_served_rows(place.warehouse, run)

    [again] = served.ready.score_together([RequestRows("again", rows.primary, rows.others())])
    assert isinstance(again, ScoredRequest)
    assert again.outputs.equals(rows.outputs)
    assert again.features.equals(rows.features)
    assert (run.keeps_rows, run.keeps_features) == (True, True)
    assert find_served_keys(place.warehouse, "card-risk", served.pipeline.destination, ['{"payment_id": "4"}'], 9)


def test_private_columns_are_hashed_and_named(place: Place) -> None:
    place.spec.write_text(RECORDING + "private: {items: hash}\n")
    masking = MaskingPolicy(load_pipeline(place.spec).private_columns, b"a secret of sixteen")
    with recording(place, masking) as client:
        client.post(SCORE, json={"rows": ROWS})

    rows = recorded_rows(place)
    assert all(is_hash(row.primary_row["items"]) for row in rows)
    assert all(is_hash((row.feature_row or row.primary_row)["items"]) for row in rows)
    assert (rows[0].run.keeps_rows, rows[0].run.keeps_features) == (False, False)
    assert verify_ledger(place.warehouse) == ()
    keys = KeyRing(SecretKey(b"another key of sixteen"), SecretKey(b"a secret of sixteen"))
    counts = {each.table: each.former for each in count_keys(place.warehouse, keys, ["card-risk"])}
    assert counts["card_risk_scores__served"] == len(ROWS)
    [read] = read_served_rows(place.warehouse, rows[0].run)
    assert "items" not in {*read.primary.column_names, *read.features.column_names}


def test_forget_removes_the_rows_of_a_key_and_its_answers(place: Place) -> None:
    keyed = {"idempotency-key": "one"}
    with recording(place) as client:
        client.post(SCORE, json={"rows": ROWS}, headers=keyed)
        client.post(SCORE, json={"rows": ROWS[:1]})
    recorded_rows(place)
    pipeline = load_pipeline(place.spec)

    counts = erase(place.warehouse, ErasureRequest(pipeline, RowKey({"payment_id": "4"})), NO_MASKING, b"x" * 16)

    assert (counts["card_risk_scores__served"], counts[served_answers.name]) == (1, 1)
    assert {row.key for row in recorded_rows(place)} == {f'{{"payment_id": "{n}"}}' for n in (1, 2, 3)}
    assert verify_ledger(place.warehouse) == ()
    assert spool_of(place).erase("card-risk", ['{"payment_id": "4"}']) == (place.warehouse.dialect == "duckdb")


def test_forget_reaches_requests_in_the_spool(place: Place) -> None:
    served = served_with_recorder(place)
    served.recorder.connect = replace(served.connect, open=lambda _: unreachable())
    with client_of(served) as client:
        answer = client.post(SCORE, json={"rows": ROWS})
        assert answer.headers["x-recorded"] == "spool"
        assert client.get("/ready").json()["pipelines"]["card-risk"]["recording"]["spooled"] == 1

    assert spool_of(place).erase("card-risk", ['{"payment_id": "4"}']) == 1
    assert b"99.25" in (place.folder / "home" / "served.db").read_bytes()
    assert [row.key for row in recorded_rows(place)] == [f'{{"payment_id": "{n}"}}' for n in (1, 2, 3)]


def test_forget_and_prune_reach_answers_that_are_kept_in_the_spool(tmp_path: Path) -> None:
    place = make_served_place(tmp_path, "sqlite", RECORDING)
    served = served_with_recorder(place)
    served.recorder.connect = replace(served.connect, open=lambda _: unreachable())
    with client_of(served) as client:
        for row in (ROWS[0], ROWS[3]):
            client.post(SCORE, json={"rows": [row]}, headers={"idempotency-key": f"one of {row['country']}"})
    kept = {row.primary_row["country"]: row.request_id for row in recorded_rows(place)}
    pipeline, spool = load_pipeline(place.spec), spool_of(place)
    asked = ErasureRequest(pipeline, RowKey({"country": "IT"}), "payments")
    assert sorted(kept) == ["DE", "IT"]

    told = [erase(place.warehouse, asked, NO_MASKING, secret, spool=spool)[SPOOLED] for secret in (None, b"x" * 16)]
    plan = plan_prune(place.warehouse, pipeline, datetime.now(UTC) + timedelta(days=31))

    assert told == [1, 1]
    counted, removed, again = (prune_spooled(spool, plan, dry_run=dry_run) for dry_run in (True, False, True))
    assert (counted, again) == (removed, ())
    assert [each.rows for each in removed] == [1]


def test_prune_removes_rows_beyond_their_retention_and_keeps_the_run(place: Place) -> None:
    with recording(place) as client:
        client.post(SCORE, json={"rows": ROWS}, headers={"idempotency-key": "one"})
    assert recorded_rows(place)
    pipeline = load_pipeline(place.spec)

    plan = plan_prune(place.warehouse, pipeline, datetime.now(UTC) + timedelta(days=31))
    removed = {each.kind: each.rows for each in prune(place.warehouse, plan)}

    assert (removed["recorded rows"], removed["answers"]) == (len(ROWS), 1)
    assert recorded_rows(place) == []
    assert [run.rows for run in list_served_runs(place.warehouse, "card-risk")] == [len(ROWS)]
    assert verify_ledger(place.warehouse) == ()


def test_a_renamed_pipeline_has_its_recorded_rows(place: Place) -> None:
    with recording(place) as client:
        client.post(SCORE, json={"rows": ROWS}, headers={"idempotency-key": "one"})
    recorded_rows(place)
    place.spec.write_text(RECORDING.replace("name: card-risk", "name: card-danger"))

    rename_pipeline(place.warehouse, "card-risk", load_pipeline(place.spec))
    spool_of(place).rename("card-risk", "card-danger")

    assert len(recorded_rows(place)) == len(ROWS)
    with recording(place) as client:
        again = client.post(SCORE.replace("risk", "danger"), json={"rows": ROWS}, headers={"idempotency-key": "one"})
    assert again.status_code == 422  # the path is another one


def test_without_a_place_to_record_there_is_no_answer(place: Place) -> None:
    served = served_with_recorder(place)
    served.recorder.connect = replace(served.connect, open=lambda _: unreachable())
    served.recorder.spool = Spool(open_local_file(Path(os.devnull, "home", "served.db")))
    with client_of(served) as client:
        refused = client.post(SCORE, json={"rows": ROWS})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "outputs" not in refused.text


def test_async_counts_the_rows_that_it_drops(place: Place) -> None:
    served = served_with_recorder(place, record="async")
    served.recorder.connect = replace(served.connect, open=lambda _: unreachable())
    served.recorder.spool = Spool(open_local_file(Path(os.devnull, "home", "served.db")))
    with client_of(served) as client:
        assert client.post(SCORE, json={"rows": ROWS}).status_code == 200
        wait_until(lambda: served.recorder.dropped == len(ROWS), 20)
        assert f'penstock_recorded_dropped_total{{pipeline="card-risk"}} {len(ROWS)}' in client.get("/metrics").text


def unreachable() -> Any:
    raise DatabaseUnavailable("warehouse", "the connection was refused")


def test_a_warehouse_that_hangs_is_left_alone_and_gets_each_row_once(tmp_path: Path) -> None:
    """Its transaction is waited for two seconds, and ends after the same requests have gone into the spool."""
    place = make_served_place(tmp_path, "sqlite", RECORDING)
    served = served_with_recorder(place)
    with client_of(served) as client:
        client.post(SCORE, json={"rows": ROWS})
        with place.warehouse.writing() as connection:
            connection.execute(sa.update(runs).values(error=None))
            begin = time.monotonic()
            answers = [client.post(SCORE, json={"rows": ROWS}).headers["x-recorded"] for _ in range(5)]
            assert time.monotonic() - begin < 10
        assert set(answers) == {"spool"}
        assert served.recorder.problem
        wait_until(lambda: not served.recorder.problem and spool_of(place).count("card-risk") == 0, 30)
        assert client.post(SCORE, json={"rows": ROWS}).headers["x-recorded"] == "warehouse"

    assert len(recorded_rows(place)) == 7 * len(ROWS)
    assert verify_ledger(place.warehouse) == ()


def test_rows_of_other_sources_are_recorded_and_erased_with_their_request(tmp_path: Path) -> None:
    changes = [
        "create table lands (land text, weight double, label text)",
        "insert into lands values ('DE', 2.0, 'ours')",
    ]
    place = make_served_place(tmp_path, spec=JOINED + "serve: {record: before_answer}\n", changes=changes)
    lands = [{"land": "DE", "weight": 2.0, "label": "ours"}, {"land": "FR", "weight": 3.0, "label": "theirs"}]
    with recording(place) as client:
        for number in (1, 4):
            rows = [{**ROWS[0], "payment_id": number}, {**ROWS[3], "payment_id": number + 100}]
            answer = client.post(SCORE, json={"rows": rows, "sources": {"lands": lands}})
            assert answer.status_code == 200, answer.text
    pipeline = load_pipeline(place.spec)
    first = [row for row in recorded_rows(place) if row.seq == 0]
    assert [[land["land"] for land in row.other_rows["lands"]] for row in first] == [["DE", "FR"]] * 2

    erase(place.warehouse, ErasureRequest(pipeline, RowKey({"payment_id": "101"})), NO_MASKING, b"x" * 16)
    assert {row.key: row.is_whole for row in recorded_rows(place)} == {
        '{"payment_id": "1"}': False,
        '{"payment_id": "4"}': True,
        '{"payment_id": "104"}': True,
    }

    erase(place.warehouse, ErasureRequest(pipeline, RowKey({"land": "FR"}), "lands"), NO_MASKING, b"x" * 16)
    assert [row.other_rows for row in recorded_rows(place)] == [{}] * 3

    erase(place.warehouse, ErasureRequest(pipeline, RowKey({"country": "IT"}), "payments"), NO_MASKING, b"x" * 16)
    assert {row.primary_row["country"] for row in recorded_rows(place)} == {"DE"}
    assert verify_ledger(place.warehouse) == ()
