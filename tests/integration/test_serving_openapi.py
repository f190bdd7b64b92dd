"""The OpenAPI document: what the server really takes and answers is held against it."""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import jsonschema
import pytest
from starlette.testclient import TestClient

from penstock.access.token_file import TokenFile
from penstock.database.connections import Connector
from penstock.privacy.masking import NO_MASKING
from penstock.run.partition_options import PartitionOptions
from penstock.serving.guard import Guard
from penstock.serving.served_pipeline import ServedPipeline
from penstock.spec.yaml_file import load_pipeline
from tests.integration.test_recorded import RECORDING, served_with_recorder
from tests.integration.test_serving import ROWS, make_served_place
from tests.served import client_of, serve_pipeline
from tests.shop import Place

INVOCATIONS = "/pipelines/card-risk/invocations"
COLUMNS = {name: [ROWS[0][name]] for name in ROWS[0]}
SPLIT = {"columns": list(ROWS[0]), "data": [list(ROWS[0].values())]}
CSV = "payment_id,amount,items,country,first\n1,12.5,3,DE,true\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_served_place(tmp_path_factory.mktemp("described"), spec=RECORDING)


@pytest.fixture(scope="module")
def client(place: Place) -> Iterator[TestClient]:
    with client_of(serve_pipeline(place)) as client:
        yield client


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def hold(document: Mapping[str, Any], schema: Mapping[str, Any], body: Any) -> None:
    """Hold a body against a schema of the document."""
    jsonschema.validate(body, {**schema, "components": document["components"]})


def hold_answer(document: Mapping[str, Any], path: str, method: str, answer: httpx.Response) -> None:
    described = document["paths"][path][method]["responses"][str(answer.status_code)]
    hold(document, described["content"]["application/json"]["schema"], answer.json())


@pytest.mark.parametrize(
    ("path", "asked", "status"),
    [
        ("/live", "/live", 200),
        ("/ready", "/ready", 200),
        ("/v2/health/ready", "/v2/health/ready", 200),
        ("/v2", "/v2", 200),
        ("/v2/models/card-risk", "/v2/models/card-risk", 200),
        ("/v2/models/card-risk/ready", "/v2/models/card-risk/ready", 200),
        ("/v2/models/card-risk", "/v2/models/other", 404),
        ("/scores/card_risk_scores/{key}", "/scores/card_risk_scores/7", 200),
        ("/scores/card_risk_scores/{key}", "/scores/card_risk_scores/777777", 404),
    ],
)
def test_what_is_read_is_as_described(
    client: TestClient, document: dict[str, Any], path: str, asked: str, status: int
) -> None:
    answer = client.get(asked)

    assert answer.status_code == status
    hold_answer(document, path, "get", answer)


def test_what_is_answered_without_a_model_or_a_token_is_as_described(place: Place, document: dict[str, Any]) -> None:
    options = PartitionOptions(NO_MASKING, 60)
    unready = ServedPipeline(load_pipeline(place.spec), Connector({}.__getitem__, ()), place.registry, options)
    unreadable = Guard(("127.0.0.1",), TokenFile(place.folder / "none"))
    model = "/v2/models/card-risk"
    with client_of(unready) as client:
        for path in ("/ready", "/ping", "/health", "/v2/health/ready", f"{model}/ready", model):
            answer = client.get(path)
            assert answer.status_code == 503, path
            hold_answer(document, path, "get", answer)
    with client_of(unready, guard=unreadable) as client:
        for path in (f"{model}/ready", model, "/v2", "/scores/card_risk_scores/{key}"):
            for headers, status in (({}, 401), ({"authorization": "Bearer pst_x"}, 503)):
                answer = client.get(path, headers=headers)
                assert answer.status_code == status, path
                hold_answer(document, path, "get", answer)


@pytest.mark.parametrize("path", [INVOCATIONS, "/invocations"])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"dataframe_split": SPLIT}, 200),
        ({"dataframe_records": ROWS[:1]}, 200),
        ({"instances": ROWS[:1]}, 200),
        ({"instances": COLUMNS}, 200),
        ({"inputs": ROWS[:1]}, 200),
        ({"inputs": COLUMNS}, 200),
        ({"dataframe_records": ROWS[1:2]}, 422),
        ({}, 400),
        ({"dataframe_records": ROWS[:1], "inputs": COLUMNS}, 400),
        ({"dataframe_records": COLUMNS}, 400),
        ({"dataframe_split": SPLIT | {"columns": [*SPLIT["columns"][:-1], "items"]}}, 400),
        ({"inputs": {"amount": [1.0]}}, 400),
    ],
)
def test_each_format_of_mlflow_is_taken_as_described(
    client: TestClient, document: dict[str, Any], path: str, body: dict[str, Any], status: int
) -> None:
    answer = client.post(path, json=body)
    taken = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]

    assert answer.status_code == status, answer.text
    hold_answer(document, path, "post", answer)
    if status == 400:
        with pytest.raises(jsonschema.ValidationError):
            hold(document, taken, body)
    else:
        hold(document, taken, body)


def test_csv_and_scores_are_taken_as_described(client: TestClient, document: dict[str, Any]) -> None:
    content = document["paths"][INVOCATIONS]["post"]["requestBody"]["content"]
    answer = client.post(INVOCATIONS, content=CSV, headers={"content-type": "text/csv"})
    scored = client.post("/pipelines/card-risk/score", json={"rows": ROWS})

    assert content["text/csv"]["schema"]["type"] == "string"
    assert answer.status_code == scored.status_code == 200
    hold_answer(document, INVOCATIONS, "post", answer)
    hold_answer(document, "/pipelines/card-risk/score", "post", scored)
    assert document["paths"]["/pipelines/card-risk/score"]["post"]["parameters"][0]["name"] == "reasons"


def test_a_pipeline_that_records_takes_a_key_and_says_where_it_recorded(place: Place) -> None:
    path = "/pipelines/card-risk/score"
    with client_of(served_with_recorder(place)) as client:
        document = client.get("/openapi.json").json()
        described = document["paths"][path]["post"]
        [key] = (each for each in described["parameters"] if each["in"] == "header")
        recorded = described["responses"]["200"]["headers"]["x-recorded"]["schema"]
        for given, status in (("order-1", 200), ("x" * 256, 400), ("a\tb", 400)):
            answer = client.post(path, json={"rows": ROWS}, headers={key["name"]: given})
            assert answer.status_code == status
            hold_answer(document, path, "post", answer)
            assert jsonschema.Draft202012Validator(key["schema"]).is_valid(given) == (status == 200)
            if status == 200:
                jsonschema.validate(answer.headers["x-recorded"], recorded)
        hold_answer(document, "/ready", "get", client.get("/ready"))


def test_a_server_of_several_pipelines_has_no_path_that_names_none(place: Place) -> None:
    first = serve_pipeline(place)
    second = serve_pipeline(place, load_pipeline(place.spec).model_copy(update={"name": "other"}))
    with client_of(first, second) as client:
        assert "/invocations" not in client.get("/openapi.json").json()["paths"]
        assert client.post("/invocations", json={"dataframe_records": ROWS[:1]}).status_code == 404
