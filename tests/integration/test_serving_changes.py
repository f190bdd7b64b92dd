"""What a server does not take: versions that cannot score its rows, and readers without a token."""

from pathlib import Path

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from penstock.cli.serve import ServingProcess
from penstock.errors import ServeRefused
from penstock.models.registry import Registry
from penstock.models.training import train
from penstock.serving.server import Address
from tests.changing_place import ChangingPlace
from tests.integration.test_serving import FEATURES, ROWS, make_served_place
from tests.served import client_of, serve_pipeline
from tests.shop import payments

PATH = "/pipelines/card-risk/score"


def train_other(store: Path, amount: str, objective: str) -> None:
    """Train a version that takes the amount by another name, or gives other outputs, and promote it."""
    rows = payments(days=2, a_day=400, seed=99)
    frame = pa.table(
        {amount: rows["amount"], "label": pa.array(rows["items"].to_numpy() % 3 % (2 + ("multi" in objective)))}
    )
    train(frame, "label", objective=objective, rounds=2).register(Registry(store), "card-risk", alias="champion")


@pytest.mark.parametrize(
    ("amount", "objective", "problem"),
    [("weight", "binary:logistic", "`weight`"), ("amount", "multi:softprob", "outputs: `score` was float and is gone")],
)
def test_a_version_that_cannot_score_the_pipelines_rows_is_not_taken(
    tmp_path: Path, amount: str, objective: str, problem: str
) -> None:
    spec = FEATURES.replace("decide: {decision: \"case when score > 0.5 then 'block' else 'pass' end\"}", "")
    served = serve_pipeline(make_served_place(tmp_path, spec=spec))
    assert served.problem == ""
    train_other(tmp_path / "models", amount, objective)

    assert not served.take_models()
    with client_of(served, poll_seconds=3600) as client:
        answer, ready = client.post(PATH, json={"rows": ROWS[:1]}), client.get("/ready").json()

    assert answer.json()["model"]["version"] == "1"
    assert ready["ready"]
    assert problem in ready["pipelines"]["card-risk"]["problem"]


def test_a_server_behind_a_proxy_lets_nobody_read_without_a_token(changing_place: ChangingPlace) -> None:
    place, name = changing_place, "scores.example"
    with pytest.raises(ServeRefused, match="others reach scores"):
        Address("127.0.0.1", 8080, allow_hosts=(name,)).check()
    process = ServingProcess((str(place.spec),), Address("127.0.0.1", 8080, allow_hosts=(name,)), None)
    paths = ("/scores/card_risk_scores/7", "/explain/card-risk/7", "/metrics", "/openapi.json", "/v2")

    with TestClient(process(), f"http://{name}") as client:
        answers = [client.get(path) for path in paths]
        scored = client.post(PATH, json={"rows": ROWS})
        ready = client.get("/ready", headers={"host": "10.0.0.7:8080"})

    assert {answer.status_code for answer in [*answers, scored]} <= {401, 503}
    assert ready.json().keys() == {"ready"}
