"""Requests over HTTP: they are scored as a run scores the same rows, in each format."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import httpx
import numpy as np
import orjson
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.testclient import TestClient

from penstock.access.token_file import TokenFile, add_token
from penstock.database.connections import Connector, open_database
from penstock.errors import ServeRefused
from penstock.ledger.quarantine import quarantined_rows
from penstock.models.registry import Registry
from penstock.models.scoring import score_features
from penstock.privacy.masking import NO_MASKING, MaskingPolicy
from penstock.run.partition_options import PartitionOptions
from penstock.run.validate import validate_partition
from penstock.run_types import ExtractedRows, Partition, ScoringRun
from penstock.serving.guard import Guard, TokenRate
from penstock.serving.scored_request import RequestRows, ScoredRequest
from penstock.serving.served_pipeline import ServedPipeline
from penstock.serving.server import Address
from penstock.serving.top_reasons import find_top_reasons
from penstock.spec.yaml_file import load_pipeline
from tests.driver import SETTINGS, Driver
from tests.integration.test_partition_by import GROUPED
from tests.served import client_of, serve_pipeline
from tests.shop import SPEC, Place, payments, train_model, write_payments
from tests.steps import STEPS, train_steps
from tests.waiting import wait_until
from tests.works import free_port

FEATURES = SPEC.replace(
    "model: card-risk@champion",
    """features: |
  select payment_id, amount * 1.5 as amount, items, country, first, country || '!' as shout from payments
model: card-risk@champion
decide: {decision: "case when score > 0.5 then 'block' else 'pass' end"}""",
)
NOW = datetime(2026, 1, 4, 1, tzinfo=UTC)
ROWS = [
    {"payment_id": 1, "amount": 12.5, "items": 3, "country": "DE", "first": True},
    {"payment_id": 2, "amount": None, "items": 3, "country": "DE", "first": False},
    {"payment_id": 3, "amount": 99.25, "items": 7, "country": "XX", "first": None},
    {"payment_id": 4, "amount": 30, "items": 1, "country": "IT", "first": False},
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A shop whose days are published, so that the contract of its columns is known. Tests change nothing in it."""
    return make_served_place(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def served(place: Place) -> ServedPipeline:
    return serve_pipeline(place)


@pytest.fixture(scope="module")
def client(served: ServedPipeline) -> Iterator[TestClient]:
    with client_of(served) as client:
        yield client


def make_served_place(
    folder: Path,
    warehouse: str = "sqlite",
    spec: str = FEATURES,
    changes: Sequence[str] = (),
    masking: MaskingPolicy = NO_MASKING,
    train: Callable[[Path], Registry] = train_model,
    source: str = "sqlite",
) -> Place:
    """Run a shop's pipeline over three days.

    Args:
        warehouse: A dialect whose database is a file, or a URL.
        changes: SQL statements that change the shop before.
    """
    urls = {"shop": f"{source}:///{folder}/shop.db", "warehouse": f"{warehouse}:///{folder}/warehouse.db"}
    urls |= {"warehouse": warehouse} if "://" in warehouse else {}
    connections = SETTINGS.model_copy(update={"connections": {name: SecretStr(url) for name, url in urls.items()}})
    shop, own = (open_database(connections, name) for name in urls)
    write_payments(shop, payments())
    file = folder / "card-risk.yaml"
    file.write_text(spec)
    with shop.writing() as connection:
        for statement in changes:
            connection.execute(sa.text(statement))
    place = Place(folder, shop, own, file, train(folder / "models"))
    driver = Driver(load_pipeline(file), {"shop": shop, "warehouse": own}.__getitem__, place.registry, masking)
    steps = driver.run(NOW)
    assert steps.count("publish") == 3, steps
    own.engine.dispose()
    return place


def test_each_row_gets_its_score_or_the_reasons_of_the_quarantine(client: TestClient) -> None:
    answer = client.post("/pipelines/card-risk/score", json={"rows": ROWS})

    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [row["status"] for row in body["rows"]] == ["scored", "refused", "refused", "scored"]
    assert body["rows"][1]["reasons"] == ["amount column_values_to_not_be_null"]
    assert body["rows"][2]["reasons"] == ["`country`: unseen category 'XX'"]
    assert body["rows"][0]["outputs"].keys() == {"score", "decision"}
    assert body["model"]["name"] == "card-risk"
    assert len(body["model"]["digest"]) == 64
    assert answer.headers["x-request-id"] == body["request_id"]


@pytest.fixture(scope="module")
def published(place: Place) -> list[dict[str, Any]]:
    """The rows of the shop as a caller sends them."""
    rows = payments().to_pylist()
    return [{name: row[name] for name in ROWS[0]} for row in rows]


def live_rows(place: Place) -> dict[int, tuple[float, str]]:
    with place.warehouse.reading() as connection:
        found = connection.execute(sa.text("select payment_id, score, decision from card_risk_scores"))
        return {row[0]: (row[1], row[2]) for row in found}


def test_scores_of_each_format_equal_those_of_the_run_to_the_bit(
    place: Place, client: TestClient, published: list[dict[str, Any]]
) -> None:
    live = live_rows(place)
    assert len(live) == len(published) == 750
    for first in range(0, 750, 250):
        rows = published[first : first + 250]
        expected = [live[row["payment_id"]] for row in rows]
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        split = {"columns": list(columns), "data": [list(row.values()) for row in rows]}
        tensors = [
            {"name": name, "shape": [250], "datatype": kind, "data": columns[name]}
            for name, kind in zip(columns, ("INT64", "FP64", "INT64", "BYTES", "BOOL"), strict=True)
        ]

        own = client.post("/pipelines/card-risk/score", json={"rows": rows}).json()
        flat = client.post("/invocations", json={"dataframe_split": split}).json()
        infer = client.post("/v2/models/card-risk/infer", json={"inputs": tensors}).json()

        assert [(row["outputs"]["score"], row["outputs"]["decision"]) for row in own["rows"]] == expected
        assert [(row["score"], row["decision"]) for row in flat["predictions"]] == expected
        assert list(zip(*(output["data"] for output in infer["outputs"]), strict=True)) == expected


def test_a_refused_row_refuses_a_request_that_is_answered_by_position(client: TestClient) -> None:
    tensors = [
        {"name": name, "shape": [4, 1], "datatype": "BYTES", "data": [row[name] for row in ROWS]} for name in ROWS[0]
    ]

    for answer in (
        client.post("/invocations", json={"dataframe_records": ROWS}),
        client.post("/v2/models/card-risk/infer", json={"inputs": tensors}),
    ):
        assert answer.status_code == 422
        assert answer.json()["error"]["rows"] == [
            {"row": 1, "reasons": ["amount column_values_to_not_be_null"]},
            {"row": 2, "reasons": ["`country`: unseen category 'XX'"]},
        ]


def test_the_rows_of_a_refused_request_are_counted_too(client: TestClient) -> None:
    def count(status: str) -> float:
        text = client.get("/metrics").text
        found = re.search(rf'penstock_rows_total{{pipeline="card-risk",status="{status}"}} (.+)', text)
        return float(found[1]) if found else 0.0

    before = count("scored"), count("refused")
    client.post("/invocations", json={"dataframe_records": ROWS})

    assert (count("scored"), count("refused")) == (before[0] + 2, before[1] + 2)


def test_only_a_request_without_any_score_is_refused(client: TestClient) -> None:
    assert client.post("/pipelines/card-risk/score", json={"rows": ROWS[1:3]}).status_code == 422


@pytest.mark.parametrize(
    ("body", "where", "what"),
    [
        (
            {"rows": [ROWS[0], ROWS[3] | {"amount": "12"}]},
            "row 1 of `payments`",
            "`amount` takes a number, and has text",
        ),
        ({"rows": [ROWS[0] | {"country": 3}]}, "row 0 of `payments`", "`country` takes text, and has a number"),
        ({"rows": [ROWS[0] | {"items": 2.5}]}, "row 0 of `payments`", "a number that is not whole"),
        ({"rows": [{"payment_id": 1}]}, "row 0 of `payments`", "`amount` is missing"),
        ({"rows": [3]}, "row 0 of `payments`", "a row is a number"),
        ({"rows": []}, "rows", "no list with rows"),
        ({"lines": []}, "body", "`lines` is not known"),
        ({"rows": ROWS, "sources": {"other": []}}, "sources", "`other` is no other source"),
    ],
)
def test_a_wrong_body_is_refused_with_its_place(client: TestClient, body: Any, where: str, what: str) -> None:
    answer = client.post("/pipelines/card-risk/score", json=body)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["where"], bool(error["next"])) == (where, True)
    assert what in error["what"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"rows": [{"amount": NaN}]}', 400),
        (b'{"rows": [{"a": "\xff"}]}', 400),
        (b"[" * 100_000, 400),
        (b'{"rows": [' + b" " * 2_000_000 + b"]}", 413),
    ],
)
def test_what_is_no_json_is_refused_before_it_is_scored(client: TestClient, body: bytes, status: int) -> None:
    json_type = {"content-type": "application/json"}

    for path in ("/pipelines/card-risk/score", "/invocations", "/v2/models/card-risk/infer"):
        answer = client.post(path, content=body, headers=json_type)
        whole_pieces = client.post(path, content=iter([body[:1000], body[1000:]]), headers=json_type)

        assert answer.status_code == whole_pieces.status_code == status, path
        assert answer.json()["error"]["next"]


def test_a_body_that_is_not_declared_as_json_is_refused(client: TestClient) -> None:
    body = json.dumps({"rows": ROWS})

    assert client.post("/pipelines/card-risk/score", content=body).status_code == 415
    assert client.post("/invocations", content=body, headers={"content-type": "text/plain"}).status_code == 415


def test_a_bare_nan_is_null_for_mlflow(client: TestClient) -> None:
    rows = json.dumps([ROWS[0] | {"first": float("nan")}])
    body = f'{{"dataframe_records": {rows}}}'

    answer = client.post("/invocations", content=body, headers={"content-type": "application/json"})
    csv = "payment_id,amount,items,country,first\n1,12.5,3,DE,\n"
    as_text = client.post("/invocations", content=csv, headers={"content-type": "text/csv"})
    without = client.post("/invocations", content=csv.replace("12.5", "NaN"), headers={"content-type": "text/csv"})

    assert without.json()["error"]["rows"] == [{"row": 0, "reasons": ["amount column_values_to_not_be_null"]}]
    own = client.post("/pipelines/card-risk/score", json={"rows": [ROWS[0] | {"first": None}]}).json()
    assert answer.json()["predictions"] == as_text.json()["predictions"] == [own["rows"][0]["outputs"]]


HEADER = "payment_id,amount,items,country,first\n"


@pytest.mark.parametrize(
    ("kind", "body", "what"),
    [
        ("text/csv", "", "the body is no CSV"),
        ("text/csv", HEADER, "there are no rows"),
        ("text/csv", HEADER + "1,12.5,3,DE,true\n\n", "the row has not one field for each column"),
        ("text/csv", HEADER.replace("items", "amount") + "1,2,3,DE,true\n", "a column is there twice"),
        ("text/csv", HEADER + "1,inf,3,DE,true\n", "takes a number, and has text"),
        ("text/csv", HEADER + "1,1_0,3,DE,true\n", "takes a number, and has text"),
        ("text/csv", HEADER + "1,12.5,\u0663,DE,true\n", "takes a whole number, and has text"),
        ("text/csv", HEADER + "1,1e999,3,DE,true\n", "a number is beyond 64 bits"),
        ("application/json", '{"inputs": {"amount": [1e999]}}', "a number is beyond 64 bits"),
        ("application/json", '{"inputs": {}}', "there are no rows"),
        (
            "application/json",
            '{"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}',
            "a column is there twice",
        ),
    ],
)
def test_rows_in_mlflows_formats_are_never_guessed(client: TestClient, kind: str, body: str, what: str) -> None:
    answer = client.post("/invocations", content=body.encode(), headers={"content-type": kind})

    assert answer.status_code == 400
    assert what in answer.json()["error"]["what"]


def test_tensors_may_be_binary(client: TestClient) -> None:
    def text(values: list[str]) -> bytes:
        return b"".join(len(v.encode()).to_bytes(4, "little") + v.encode() for v in values)

    given = {
        "payment_id": ("INT32", np.array([7, 8], "<i4").tobytes()),
        "amount": ("FP32", np.array([12.5, 30.0], "<f4").tobytes()),
        "items": ("FP64", np.array([3.0, np.nan], "<f8").tobytes()),
        "country": ("BYTES", text(["DE", "IT"])),
        "first": ("BOOL", b"\x01\x00"),
    }
    tensors = [
        {"name": name, "shape": [2, 1], "datatype": kind, "parameters": {"binary_data_size": len(content)}}
        for name, (kind, content) in given.items()
    ]
    head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    rest = b"".join(content for _, content in given.values())

    answer = client.post(
        "/v2/models/card-risk/infer", content=head + rest, headers={"inference-header-content-length": str(len(head))}
    )

    assert answer.status_code == 200, answer.text
    size = int(answer.headers["inference-header-content-length"])
    outputs = json.loads(answer.content[:size])["outputs"]
    assert [each["name"] for each in outputs] == ["score", "decision"]
    assert [each["datatype"] for each in outputs] == ["FP64", "BYTES"]
    rows = [
        {"payment_id": 7, "amount": 12.5, "items": 3, "country": "DE", "first": True},
        {"payment_id": 8, "amount": 30.0, "items": None, "country": "IT", "first": False},
    ]
    own = client.post("/pipelines/card-risk/score", json={"rows": rows}).json()["rows"]
    assert np.frombuffer(answer.content[size : size + 16], "<f8").tolist() == [r["outputs"]["score"] for r in own]
    assert answer.content[size + 16 :] == text([row["outputs"]["decision"] for row in own])


def test_reasons_are_given_on_request(client: TestClient) -> None:
    answer = client.post("/pipelines/card-risk/score?reasons=true", json={"rows": ROWS}).json()

    reasons = answer["rows"][0]["reasons"]
    assert {"feature", "contribution", "value", "text"} == reasons[0].keys()
    assert abs(reasons[0]["contribution"]) >= abs(reasons[-1]["contribution"]) > 0
    assert answer["rows"][1]["reasons"] == ["amount column_values_to_not_be_null"]


def test_the_answer_does_not_depend_on_requests_beside_it(client: TestClient) -> None:
    alone = client.post("/pipelines/card-risk/score", json={"rows": ROWS}).json()["rows"]
    answers: list[Any] = [None] * 12

    def ask(number: int) -> None:
        answers[number] = client.post("/pipelines/card-risk/score", json={"rows": ROWS}).json()["rows"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [alone] * 12  # all of them have the same keys


NUMBERS = st.one_of(
    st.none(), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, -0.0, 1e300, 3.4e38])
)
RANDOM_ROW = st.fixed_dictionaries(
    {
        "payment_id": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        "amount": NUMBERS,
        "items": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(0, 9)),
        "country": st.one_of(st.none(), st.sampled_from(["DE", "FR", "IT", "PL", "XX", "de", ""]), st.text(max_size=5)),
        "first": st.one_of(st.none(), st.booleans()),
    }
)


@settings(max_examples=40)
@given(st.lists(RANDOM_ROW, min_size=1, max_size=12, unique_by=lambda row: row["payment_id"]))
def test_random_rows_are_scored_and_refused_as_in_a_partition(
    place: Place, served: ServedPipeline, client: TestClient, rows: list[dict[str, Any]]
) -> None:
    pipeline, scorer = served.pipeline, served.ready
    primary = scorer.columns["payments"].make_table(rows)
    run = ScoringRun("batch", pipeline, None, scorer.pins["score"], "")
    partition, options = Partition(0, 1, None, None, len(rows)), PartitionOptions(NO_MASKING, 60)
    features = validate_partition(run, partition, ExtractedRows(primary, {}), options)
    batch = score_features(run, partition, features, place.registry.load(run.model), options)
    expected = {row["payment_id"]: (row["score"], row["decision"]) for row in batch.table.to_pylist()}
    refused = {json.loads(each.key)["payment_id"]: [r.text for r in each.reasons] for each in batch.refusals}

    body = orjson.dumps({"rows": rows})
    answer = client.post("/pipelines/card-risk/score", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == (200 if expected else 422), answer.text
    if not expected:
        assert {row["row"]: row["reasons"] for row in answer.json()["error"]["rows"]} == {
            at: refused[row["payment_id"]] for at, row in enumerate(rows)
        }
        return
    for row, given_ in zip(rows, answer.json()["rows"], strict=True):
        if row["payment_id"] in expected:
            outputs = given_["outputs"]
            assert (outputs["score"], outputs["decision"]) == expected[row["payment_id"]]
        else:
            assert given_ == {"status": "refused", "reasons": refused[row["payment_id"]]}


def test_few_rows_score_as_many_do(served: ServedPipeline, published: list[dict[str, Any]]) -> None:
    """Few rows are given to DuckDB and XGBoost otherwise than many."""
    scorer = served.ready
    rows = [row | {"payment_id": 750 * again + row["payment_id"]} for again in range(2) for row in published]
    columns = scorer.columns["payments"]

    [many] = scorer.score_together([RequestRows("many", columns.make_table(rows), {})])
    few = [
        scorer.score_together([RequestRows("few", columns.make_table(rows[at : at + 50]), {})])[0]
        for at in range(0, 1500, 50)
    ]

    assert many.outputs.num_rows == 1500
    assert many.outputs.to_pylist() == [row for each in few for row in each.outputs.to_pylist()]


def test_requests_that_were_read_for_two_versions_are_scored_alone(served: ServedPipeline) -> None:
    """A new version may take other columns than the one before, while requests wait."""
    table = served.ready.columns["payments"].make_table(ROWS)
    more = table.append_column("more", table["amount"])

    both = served.ready.score_together([RequestRows("a", table, {}), RequestRows("b", more, {})])

    assert [isinstance(each, ScoredRequest) for each in both] == [True, True]


def test_the_live_score_is_given_with_its_run(place: Place, client: TestClient) -> None:
    answer = client.get("/scores/card_risk_scores/7").json()

    assert answer["columns"]["score"] == live_rows(place)[7][0]
    assert answer["run"]["models"] == "card-risk/1"
    assert client.get("/scores/card_risk_scores/999999").status_code == 404
    assert client.get("/scores/other/7").status_code == 404
    assert client.get("/explain/card-risk/7").json()["columns"]["score"] == answer["columns"]["score"]
    assert client.get("/scores/card_risk_scores/x").status_code in (404, 422)


def test_a_duckdb_warehouse_is_opened_for_a_request_and_said_to_be_busy(tmp_path: Path) -> None:
    place = make_served_place(tmp_path, "duckdb")
    served = serve_pipeline(place)

    with client_of(served) as client:
        assert client.get("/scores/card_risk_scores/7").status_code == 200
        assert client.post("/pipelines/card-risk/score", json={"rows": ROWS}).status_code == 200
        with held_by_another(tmp_path / "warehouse.db"):
            busy = client.get("/scores/card_risk_scores/7")
            scored = client.post("/pipelines/card-risk/score", json={"rows": ROWS})

    assert busy.status_code == 503
    assert busy.headers["retry-after"]
    assert scored.status_code == 200
    duckdb.connect(str(tmp_path / "warehouse.db")).close()  # the server does not hold it


@contextmanager
def held_by_another(file: Path) -> Iterator[None]:
    """Let another process have a DuckDB file open."""
    code = f"import duckdb, time; c = duckdb.connect({str(file)!r}); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        try:
            yield
        finally:
            other.kill()


def test_a_promoted_version_is_taken_and_a_spoiled_one_is_not(tmp_path: Path) -> None:
    place = make_served_place(tmp_path)
    served = serve_pipeline(place)
    path, body = "/pipelines/card-risk/score", {"rows": ROWS[:1]}
    with client_of(served, poll_seconds=0.05) as client:
        first = client.post(path, json=body).json()
    train_model(tmp_path / "models", rounds=9)

    assert served.take_models()
    with client_of(served, poll_seconds=3600) as client:
        second = client.post(path, json=body).json()
        train_model(tmp_path / "models", rounds=3)
        file = tmp_path / "models/card-risk/3/model.ubj"
        file.write_bytes(file.read_bytes()[:-1] + b"!")
        assert not served.take_models()
        third, ready = client.post(path, json=body).json(), client.get("/ready")
        metrics = client.get("/metrics").text

    assert [answer["model"]["version"] for answer in (first, second, third)] == ["1", "2", "2"]
    assert second["rows"] == third["rows"] != first["rows"]
    assert ready.status_code == 200
    assert "digest" in ready.json()["pipelines"]["card-risk"]["problem"]
    assert 'penstock_model_refused{pipeline="card-risk"} 1.0' in metrics


def test_without_a_model_the_server_lives_and_is_not_ready(tmp_path: Path) -> None:
    place = make_served_place(tmp_path)
    (tmp_path / "models/card-risk/aliases.json").unlink()
    with client_of(serve_pipeline(place)) as client:
        answers = {path: client.get(path) for path in ("/live", "/ready", "/v2/health/ready")}
        scored = client.post("/pipelines/card-risk/score", json={"rows": ROWS})

    assert [answer.status_code for answer in answers.values()] == [200, 503, 503]
    assert "champion" in answers["/ready"].json()["pipelines"]["card-risk"]["problem"]
    assert scored.status_code == 503
    assert scored.headers["retry-after"]


def test_tokens_hosts_and_limits_are_checked_before_the_body(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    token = add_token(file, "crm", "reader", NOW)
    guard = Guard(("127.0.0.1",), TokenFile(file), TokenRate(2))
    path, bearer = "/pipelines/card-risk/score", {"authorization": f"Bearer {token}"}
    with client_of(serve_pipeline(place), guard=guard) as client:
        assert client.get("/live").status_code == 200
        assert client.post(path, content=b"{").status_code == 401
        assert client.post(path, content=b"{", headers={"authorization": "Bearer pst_no"}).status_code == 401
        assert client.get("/metrics", headers={"host": "evil.example"}).status_code == 421
        assert client.get("/live", headers={"host": "10.0.0.7:8080"}).status_code == 200  # a probe
        assert client.get("/ready").json() == {"ready": True}
        answers = [client.post(path, json={"rows": ROWS}, headers=bearer) for _ in range(4)]

    assert answers[0].status_code == 200
    assert answers[-1].status_code == 429
    assert answers[-1].headers["retry-after"] == "1"
    assert "access-control-allow-origin" not in answers[0].headers


def test_requests_beyond_the_limit_are_shed(place: Place) -> None:
    pipeline = load_pipeline(place.spec)
    few = pipeline.model_copy(update={"serve": {"limit": {"in_flight": 1, "rows": 3}}})
    served = serve_pipeline(place, few)
    with client_of(served) as client:
        too_many_rows = client.post("/pipelines/card-risk/score", json={"rows": ROWS})
        with served.in_flight():
            shed = client.post("/pipelines/card-risk/score", json={"rows": ROWS[:1]})
        recovered = client.post("/pipelines/card-risk/score", json={"rows": ROWS[:1]})

    assert [too_many_rows.status_code, shed.status_code, recovered.status_code] == [413, 429, 200]
    assert shed.headers["retry-after"] == "1"


def test_lookups_beyond_the_limit_are_shed(place: Place) -> None:
    places = threading.BoundedSemaphore(1)
    with client_of(serve_pipeline(place), _lookups=places) as client:
        with places:
            shed = client.get("/scores/card_risk_scores/7")
        found = [client.get("/scores/card_risk_scores/7").status_code for _ in range(2)]

    assert (shed.status_code, found) == (429, [200, 200])


def test_an_address_that_others_reach_needs_tokens(tmp_path: Path) -> None:
    for local in ("127.0.0.1", "::1", "localhost"):
        Address(local, 8080).check()
    for public in ("0.0.0.0", "::", "10.0.0.1", "example.com"):
        with pytest.raises(ServeRefused, match="no tokens"):
            Address(public, 8080).check()
    add_token(tmp_path / "tokens", "crm", "reader", NOW)
    Address("0.0.0.0", 8080, tmp_path / "tokens").check()
    with pytest.raises(ServeRefused, match="certificate and its key"):
        Address("127.0.0.1", 8080, certificate=tmp_path / "tokens").check()
    assert "[fe80::1]" in Address("fe80::1", 8080).hosts
    assert Address("::1", 8080).url == "http://[::1]:8080"


def test_a_decision_that_fails_on_a_row_spoils_only_its_request(place: Place) -> None:
    pipeline = load_pipeline(place.spec).model_copy(update={"decide": {"decision": "cast(country as integer)"}})
    served = serve_pipeline(place, pipeline)
    assert served.problem == ""
    with client_of(served) as client:
        answer = client.post("/pipelines/card-risk/score", json={"rows": ROWS[:1]})

    assert answer.status_code == 422
    assert "`decide` of" in answer.json()["error"]["what"]


def test_whatever_keeps_a_version_from_scoring_is_said(place: Place) -> None:
    options = PartitionOptions(NO_MASKING, 60)
    served = ServedPipeline(load_pipeline(place.spec), Connector({}.__getitem__, ()), place.registry, options)

    assert not served.take_models()
    assert served.problem == "KeyError: see the server's log"


def test_the_openapi_document_names_columns_and_outputs(client: TestClient) -> None:
    document = client.get("/openapi.json").json()

    scoring = document["paths"]["/pipelines/card-risk/score"]["post"]
    rows = scoring["requestBody"]["content"]["application/json"]["schema"]["properties"]["rows"]["items"]
    assert rows["required"] == ["amount", "country", "first", "items", "payment_id"]
    assert rows["properties"]["amount"] == {"type": ["number", "null"]}
    row = scoring["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["rows"]["items"]
    assert row["properties"]["outputs"]["properties"].keys() == {"score", "decision"}
    assert {"/scores/card_risk_scores/{key}", "/explain/card-risk/{key}"} < document["paths"].keys()


def test_the_open_inference_protocol_describes_the_model(client: TestClient) -> None:
    described = client.get("/v2/models/card-risk").json()

    assert {each["name"]: each["datatype"] for each in described["inputs"]} == {
        "payment_id": "INT64", "amount": "FP64", "items": "INT64", "country": "BYTES", "first": "BOOL",
    }  # fmt: skip
    assert [each["name"] for each in described["outputs"]] == ["score", "decision"]
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/models/card-risk/versions/1/ready").json() == {"name": "card-risk", "ready": True}
    assert client.get("/v2/models/card-risk/versions/9/ready").status_code == 404
    assert client.get("/v2/models/other").status_code == 404


def is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/ready").status_code == 200
    except httpx.TransportError:
        return False


def scored_by(address: str) -> httpx.Response | None:
    """Return the answer of a process whose model stands."""
    answer = httpx.post(f"{address}/pipelines/card-risk/score", json={"rows": ROWS})
    return answer if answer.status_code == 200 else None


@pytest.mark.slow
def test_a_server_of_two_processes_scores_and_ends(tmp_path: Path) -> None:
    make_served_place(tmp_path)
    environment = os.environ | {
        "PENSTOCK_HOME": str(tmp_path),
        "PENSTOCK_CONNECTIONS__SHOP": f"sqlite:///{tmp_path}/shop.db",
        "PENSTOCK_CONNECTIONS__WAREHOUSE": f"sqlite:///{tmp_path}/warehouse.db",
    }
    port = free_port()
    code = "from penstock.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", str(tmp_path / "card-risk.yaml"), "--port", str(port)]
    log = tmp_path / "log"
    with log.open("w") as written:
        server = subprocess.Popen([*command, "--workers", "2"], env=environment, cwd=tmp_path, stderr=written)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: is_ready(address))
        answer = wait_until(lambda: scored_by(address))
        server.terminate()
        server.wait(60)
    finally:
        server.kill()
        server.wait()

    assert [row["status"] for row in answer.json()["rows"]] == ["scored", "refused", "refused", "scored"]
    assert "99.25" not in log.read_text()


def find_run_outcomes(place: Place, outputs: str) -> dict[int, Any]:
    """Return what the runs made of each payment: its outputs, or why it is in quarantine."""
    with place.warehouse.reading() as connection:
        scored = connection.execute(sa.text(f"select payment_id, {outputs} from card_risk_scores"))
        found: dict[int, Any] = {row[0]: dict(row._mapping) for row in scored}
    for row in found.values():
        del row["payment_id"]
    refused = quarantined_rows(place.warehouse, limit=1000)
    return found | {json.loads(each.key)["payment_id"]: each.reasons for each in refused if each.source == "payments"}


def find_served_outcomes(client: TestClient, rows: Sequence[dict[str, Any]], **sources: Any) -> dict[int, Any]:
    """Return what the server makes of each payment, in the same form."""
    body = orjson.dumps({"rows": rows, "sources": sources}, default=str)
    answer = client.post("/pipelines/card-risk/score", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    told = [row["outputs"] if row["status"] == "scored" else tuple(row["reasons"]) for row in answer.json()["rows"]]
    return {row["payment_id"]: each for row, each in zip(rows, told, strict=True)}


def test_a_chain_of_models_scores_as_its_run(tmp_path: Path) -> None:
    dirty = [
        "update payments set amount = null where payment_id = 5",
        "update payments set country = 'XX' where payment_id % 60 = 7",
    ]
    place = make_served_place(tmp_path, spec=STEPS, changes=dirty, train=train_steps)
    rows = read_shop(place)
    run = find_run_outcomes(place, "screen_score, deep_score, score, decision")
    served: dict[int, Any] = {}
    with client_of(serve_pipeline(place)) as client:
        for first in range(0, 750, 250):
            served |= find_served_outcomes(client, rows[first : first + 250])
        answer = client.post("/pipelines/card-risk/score?reasons=true", json={"rows": rows[:50]}).json()

    assert served == run
    kinds = {tuple if isinstance(each, tuple) else each["deep_score"] is None for each in run.values()}
    assert kinds == {tuple, True, False}
    assert {step: pin["name"] for step, pin in answer["steps"].items()} == {
        "screen": "risk-screen",
        "deep": "risk-deep",
    }
    for row in answer["rows"]:
        if row["status"] == "scored":
            assert bool(row["reasons"][0]["feature"]) == (row["outputs"]["deep_score"] is not None)


def read_shop(place: Place, columns: str = "payment_id, amount, items, country, first") -> list[dict[str, Any]]:
    """Return the payments as a caller sends them."""
    with place.shop.reading() as connection:
        found = [dict(row._mapping) for row in connection.execute(sa.text(f"select {columns} from payments"))]
    return [row | {"first": None if row["first"] is None else bool(row["first"])} for row in found]


def test_a_request_with_whole_groups_scores_as_a_run_that_groups(tmp_path: Path) -> None:
    place = make_served_place(tmp_path, spec=f"{GROUPED}serve: {{batch: {{rows: 1000, wait: 200ms}}}}\n")
    rows = read_shop(place, "payment_id, created_at, amount, items, country, first")
    run = find_run_outcomes(place, "score")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["country"], str(row["created_at"])[:10]), []).append(row)
    served: dict[int, Any] = {}
    with client_of(serve_pipeline(place)) as client, ThreadPoolExecutor(12) as callers:
        for found in callers.map(lambda group: find_served_outcomes(client, group), groups.values()):
            served |= found

    assert len(groups) == 12
    assert served == run  # groups of one country that came at the same time were not mixed


JOINED = FEATURES.replace(
    "expectations:\n",
    """  lands:
    {kind: sql, connection: shop, table: lands, key: [land]}
expectations:
  lands:
    - {type: expect_column_values_to_be_between, column: weight, min_value: 0, severity: warning}
""",
).replace("country || '!' as shout from payments", "label from payments left join lands on land = country")
LANDS = [{"land": "DE", "weight": 2.0, "label": "a"}, {"land": "IT", "weight": 0.5, "label": "b"}]


def test_rows_of_other_sources_are_joined_as_in_a_run(tmp_path: Path) -> None:
    spec = JOINED.replace("amount * 1.5 as", "amount * coalesce(weight, 1) as")
    changes = [
        "create table lands (land text, weight double, label text)",
        "insert into lands values ('DE', 2.0, 'a'), ('IT', 0.5, 'b'), ('FR', -1.0, 'c')",
    ]
    place = make_served_place(tmp_path, spec=spec, changes=changes)
    rows, run = read_shop(place)[:250], find_run_outcomes(place, "score, decision")
    lands = [*LANDS, {"land": "FR", "weight": -1.0, "label": "c"}]
    with client_of(serve_pipeline(place)) as client:
        served = find_served_outcomes(client, rows, lands=lands)
        without = find_served_outcomes(client, rows)
        sources = {"rows": rows[:1], "sources": {"lands": lands}}
        left_out = client.post("/pipelines/card-risk/score", json=sources).json()["left_out"]
        wrong = client.post("/pipelines/card-risk/score", json={"rows": rows[:1], "sources": {"lands": [{"land": 1}]}})

    assert served == {key: run[key] for key in served}
    assert without != served
    [refused] = {(each.source, each.key, each.reasons) for each in quarantined_rows(place.warehouse)}
    assert [(each["source"], each["key"], tuple(each["reasons"])) for each in left_out] == [refused]
    assert wrong.status_code == 400
    assert wrong.json()["error"]["where"] == "row 0 of `lands`"


PRIVATE = FEATURES.replace(
    "    key: [payment_id]\n", "    key: [payment_id]\n    private: {payment_id: hash, country: hash, items: hash}\n"
)
PRIVATE = PRIVATE.replace("keep: [amount, country]", "keep: [amount]")
MASKING = MaskingPolicy(dict.fromkeys(("payment_id", "country", "items"), "hash"), b"known to nobody, and long enough")


def test_private_values_are_hidden_in_answers_errors_and_logs_as_in_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dirty = [
        "update payments set payment_id = payment_id + 770000000",
        "update payments set country = 'Ruritania' where payment_id % 60 = 7",
    ]
    place = make_served_place(tmp_path, spec=PRIVATE, changes=dirty, masking=MASKING)
    rows = read_shop(place)[:250]
    refused = {each.reasons for each in quarantined_rows(place.warehouse)}
    live = {row: {"score": score, "decision": decision} for row, (score, decision) in live_rows(place).items()}
    path, odd = "/pipelines/card-risk/score", rows[0] | {"country": "Ruritania"}
    spec = load_pipeline(place.spec)
    failing = spec.model_copy(update={"features": f"{spec.features} where cast(country as integer) > 0"})
    doubling = spec.model_copy(update={"features": f"{spec.features} cross join (values (1), (2)) t(n)"})
    caplog.set_level("DEBUG")
    with client_of(serve_pipeline(place, masking=MASKING)) as client:
        served = find_served_outcomes(client, rows)
        answers = [
            client.post(f"{path}?reasons=true", json={"rows": [*rows[7:40], odd | {"payment_id": 779999999}]}),
            client.post(path, json={"rows": [odd]}),
            client.post(path, json={"rows": [odd, odd]}),
            client.post(path, json={"rows": [odd | {"payment_id": "770000001"}]}),
            client.post(path, json={"rows": [rows[0] | {"country": ["Ruritania"]}]}),
            client.post("/invocations", json={"dataframe_records": [odd]}),
            client.get("/openapi.json"),
            client.get("/metrics"),
        ]
    for changed in (failing, doubling):
        with client_of(serve_pipeline(place, changed, MASKING)) as client:
            answers.append(client.post(path, json={"rows": [odd]}))

    assert served == {row: live.get(row, ("`country`: unseen category (private)",)) for row in served}
    assert {each for each in served.values() if isinstance(each, tuple)} == refused
    assert [answer.status_code for answer in answers] == [200, 422, 422, 400, 400, 422, 200, 200, 422, 422]
    told = "".join(answer.text for answer in answers)
    assert "Ruritania" not in told + caplog.text
    assert "77000" not in told + caplog.text
    scored = (row for row in answers[0].json()["rows"] if row["status"] == "scored")
    values = {r["value"] for row in scored for r in row["reasons"] if r["feature"] == "items"}
    assert values == {"(private)"}


def test_decimals_keep_their_digits_as_in_a_run(tmp_path: Path) -> None:
    """A decimal is text or a number in a request, and text in an answer."""
    spec = SPEC.replace("table: payments", "table: priced").replace(
        "model: card", "decide: {due: amount * 2, decision: amount > 20.05}\nmodel: card"
    )
    changes = [
        "create table priced as select * replace (cast(amount as decimal(12, 2)) as amount) from payments",
        "update priced set amount = -0.01 where payment_id % 60 = 7",
    ]
    place = make_served_place(tmp_path, "duckdb", spec, changes, source="duckdb")
    rows, run = read_shop(place), find_run_outcomes(place, "score, due, decision")
    amounts = read_amounts(place)
    with client_of(serve_pipeline(place)) as client:
        as_numbers = find_served_outcomes(client, [row | {"amount": float(amounts[row["payment_id"]])} for row in rows])
        as_text = find_served_outcomes(client, [row | {"amount": str(amounts[row["payment_id"]])} for row in rows])
        odd = client.post("/pipelines/card-risk/score", json={"rows": [rows[0] | {"amount": "1e-999999999"}]})

    assert as_numbers == as_text == {key: _write_decimals(each) for key, each in run.items()}
    assert odd.status_code == 400


def _write_decimals(outputs: Any) -> Any:
    return outputs if isinstance(outputs, tuple) else outputs | {"due": str(outputs["due"])}


def read_amounts(place: Place) -> dict[int, Decimal]:
    with place.shop.reading() as connection:
        return {row[0]: row[1] for row in connection.execute(sa.text("select payment_id, amount from priced"))}


COMPOSED = FEATURES.replace("key: [payment_id]", "key: [payment_id, country]")


def test_a_refused_row_is_found_by_a_key_of_two_columns(tmp_path: Path) -> None:
    """Refusals name the columns of a key in alphabetical order, and the spec may have another one."""
    place = make_served_place(tmp_path, spec=COMPOSED)
    with client_of(serve_pipeline(place)) as client:
        served = find_served_outcomes(client, ROWS)

    assert [isinstance(each, tuple) for each in served.values()] == [False, True, True, False]


def test_reasons_are_those_of_the_version_that_scored(tmp_path: Path) -> None:
    place = make_served_place(tmp_path)
    served = serve_pipeline(place)
    [scored] = served.ready.score_together([RequestRows("one", served.ready.columns["payments"].make_table(ROWS), {})])
    assert isinstance(scored, ScoredRequest)
    before = find_top_reasons(served.pipeline, scored, NO_MASKING)
    train_model(tmp_path / "models", rounds=9)

    assert served.take_models()
    assert find_top_reasons(served.pipeline, scored, NO_MASKING) == before


def test_text_and_lengths_that_cannot_be_read_are_refused(client: TestClient) -> None:
    json_type = {"content-type": "application/json"}
    surrogate = json.dumps({"dataframe_records": [ROWS[0] | {"country": "\ud800"}]})
    answers = [client.post("/invocations", content=surrogate, headers=json_type)]
    for length in ("²".encode("latin-1"), b"9" * 5000, b"-1"):
        headers = {b"inference-header-content-length": length}
        answers.append(client.post("/v2/models/card-risk/infer", content=b"{}", headers=headers))

    assert [answer.status_code for answer in answers] == [400] * 4
