"""Requests over HTTP: they are scored as a run scores the same rows, in each format."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from penstock.spec.yaml_file import load_pipeline
from tests.driver import Driver
from tests.served import client_of, serve_pipeline
from tests.shop import SPEC, Place

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


@pytest.fixture
def place(make_place: Callable[..., Place]) -> Place:
    """A shop whose days are published, so that the contract of its columns is known."""
    place = make_place(spec=FEATURES)
    databases = {"shop": place.shop, "warehouse": place.warehouse}
    Driver(load_pipeline(place.spec), databases.__getitem__, place.registry).run(NOW)
    return place


@pytest.fixture
def client(place: Place) -> Iterator[TestClient]:
    with client_of(serve_pipeline(place)) as client:
        yield client


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


@pytest.fixture
def published(place: Place) -> list[dict[str, Any]]:
    """The rows of the shop as a caller sends them."""
    from tests.shop import payments

    rows = payments().to_pylist()
    return [{name: row[name] for name in ROWS[0]} for row in rows]


def live_rows(place: Place) -> dict[int, tuple[float, str]]:
    import sqlalchemy as sa

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

    own = client.post("/pipelines/card-risk/score", json={"rows": [ROWS[0] | {"first": None}]}).json()
    assert answer.json()["predictions"] == as_text.json()["predictions"] == [own["rows"][0]["outputs"]]


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
