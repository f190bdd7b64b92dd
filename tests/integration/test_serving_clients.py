"""The clients that users have: each gets the scores of the run, to the bit."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import penstock
from tests.clients import FOLDER, ask_with, program_of
from tests.integration.test_serving import live_rows, make_served_place, read_shop
from tests.serving_process import ServingProcess, serving_process
from tests.shop import Place

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_served_place(tmp_path_factory.mktemp("clients"))


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[ServingProcess]:
    with serving_process(place) as server:
        yield server


@pytest.fixture(scope="module")
def rows(place: Place) -> list[dict[str, Any]]:
    return read_shop(place)[:40]


@pytest.fixture(scope="module")
def expected(place: Place, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    live = live_rows(place)
    return [dict(zip(("score", "decision"), live[row["payment_id"]], strict=True)) for row in rows]


def test_mlflows_client_gets_the_scores_of_the_run(
    server: ServingProcess, rows: list[dict[str, Any]], expected: list[dict[str, Any]]
) -> None:
    incomplete = [rows[0], rows[1] | {"items": None}, rows[2] | {"first": None}]
    own = httpx.post(f"{server.address}/pipelines/card-risk/score", json={"rows": incomplete}).json()

    given = ask_with("mlflow", "ask_mlflow.py", {"port": server.port, "rows": rows, "incomplete": incomplete})

    assert given["frame"] == expected
    assert "[2, 167.97, NaN," in given["body"]
    assert given["incomplete"] == [row["outputs"] for row in own["rows"]]
    assert given["version"] == penstock.__version__
    assert "unseen category 'Atlantis'" in given["refused"]


def test_tritons_client_gets_the_scores_of_the_run(
    server: ServingProcess, rows: list[dict[str, Any]], expected: list[dict[str, Any]]
) -> None:
    given = ask_with("tritonclient", "ask_triton.py", {"port": server.port, "rows": rows})
    outputs = {name: [row[name] for row in expected] for name in expected[0]}

    assert (given["live"], given["ready"], given["not_ready"]) == (True, [True] * 3, [False] * 2)
    assert given["server"]["name"] == "penstock"
    assert (given["id"], given["version"]) == ("mine", "1")
    assert given["binary"] == given["binary_outputs"] == given["json"] == outputs
    assert given["narrow"] == given["narrow_json"]
    assert given["gzip"] == {"status": "415", "message": "the body is compressed: content-encoding: Send it as it is."}
    assert given["unknown"]["message"].endswith("There are: `card-risk`.")
    assert given["wrong"]["status"] == "400"
    assert "`items` takes a whole number, and has a boolean" in given["wrong"]["message"]


def test_schemathesis_finds_nothing(server: ServingProcess, tmp_path: Path) -> None:
    """It takes the requests from the OpenAPI document, and holds each answer against it."""
    options = ["--seed", "17", "--max-time", "15", "--continue-on-failure", "--no-shrink"]
    command = [
        str(program_of("schemathesis", "st")),
        "--config-file",
        str(FOLDER / "schemathesis.toml"),
        "run",
        *options,
    ]
    command.append(f"{server.address}/openapi.json")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
    assert re.search(r"[0-9]{3,} generated", done.stdout), done.stdout
    assert "answered with 5" not in server.log.read_text()
