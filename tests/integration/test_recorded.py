"""What was served is recorded: each row once, whatever is repeated, and as it was to the bit."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from penstock.ledger.reader import list_runs
from penstock.ledger.served_rows import ServedRow, list_served_runs, read_served_rows
from penstock.ledger.served_spool import open_spool, settle_served_runs
from penstock.privacy.masking import NO_MASKING, MaskingPolicy
from penstock.serving.recorded_request import RecordedRequests
from penstock.serving.recorder import Recorder
from penstock.spec.yaml_file import load_pipeline
from penstock.upkeep.verify import verify_ledger
from tests.integration.test_serving import FEATURES, ROWS, make_served_place
from tests.served import client_of, serve_pipeline
from tests.shop import Place

SCORE = "/pipelines/card-risk/score"
RECORDING = FEATURES + "serve: {record: before_answer}\n"


@pytest.fixture(params=["sqlite", "duckdb"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    return make_served_place(tmp_path, request.param, RECORDING)


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
    served.recorder = Recorder(requests, served.connect, open_spool(place.folder / "home"), timedelta(minutes=1))
    return served


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


def test_a_served_run_is_none_of_the_schedule(place: Place) -> None:
    with recording(place) as client:
        client.post(SCORE, json={"rows": ROWS})
    recorded_rows(place)

    states = {(run.variant, run.state) for run in list_runs(place.warehouse)}
    assert states == {("live", "published"), ("served", "recorded")}
