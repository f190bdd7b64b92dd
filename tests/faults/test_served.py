"""What must not stop a server, nor make it answer wrongly: dead processes, moved aliases, spoiled files, full disks."""

import os
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from penstock.models.registry import Registry
from tests.faults.conftest import Tell
from tests.faults.harness.cluster import Cluster
from tests.integration.test_serving import ROWS, TENSORS, make_served_place
from tests.served import client_of, serve_pipeline
from tests.serving_process import ServingProcess, serving_process
from tests.shop import Place, train_model
from tests.waiting import is_alive, wait_until

pytestmark = pytest.mark.slow
soak = pytest.mark.soak
PATH = "/pipelines/card-risk/score"
BODY = {"rows": ROWS[:1]}


@dataclass
class Load:
    """What some callers got, each of whom asks again as soon as it has an answer."""

    scores: "Counter[tuple[str, float]]" = field(default_factory=Counter)
    """By version and score: the answers."""
    others: "Counter[str]" = field(default_factory=Counter)
    """Other answers, and errors of connections."""
    ended: threading.Event = field(default_factory=threading.Event)

    def ask(self, client: Callable[[], Any]) -> None:
        """Ask until the end, with a new connection after each error of one."""
        while not self.ended.is_set():
            try:
                with client() as asking:
                    while not self.ended.is_set():
                        self._note(asking.post(PATH, json=BODY))
            except httpx.TransportError as error:
                self.others[type(error).__name__] += 1
                time.sleep(0.02)

    def _note(self, answer: httpx.Response) -> None:
        if answer.status_code != 200:
            self.others[f"{answer.status_code}: {answer.text}"] += 1
            return
        body = answer.json()
        self.scores[body["model"]["version"], body["rows"][0]["outputs"]["score"]] += 1

    @property
    def answers(self) -> int:
        return self.scores.total()

    def has_more(self, answers: int) -> bool:
        return self.answers > answers


@contextmanager
def load_on(client: Callable[[], Any], callers: int = 4) -> Iterator[Load]:
    load = Load()
    threads = [threading.Thread(target=load.ask, args=(client,), daemon=True) for _ in range(callers)]
    for each in threads:
        each.start()
    try:
        wait_until(lambda: load.answers > callers, tell=lambda: load.others)
        yield load
    finally:
        load.ended.set()
        for each in threads:
            each.join(60)


def load_on_process(server: ServingProcess) -> Any:
    return load_on(lambda: httpx.Client(base_url=server.address, timeout=60))


def train_versions(place: Place) -> dict[str, float]:
    """Train further versions, and return the score that each of them gives the same row. The first is champion."""
    scores = {}
    for number, rounds in enumerate((5, 9, 3), 1):
        if number > 1:
            train_model(place.folder / "models", rounds=rounds)
        with client_of(serve_pipeline(place), poll_seconds=3600) as client:
            body = client.post(PATH, json=BODY).json()
        scores[body["model"]["version"]] = body["rows"][0]["outputs"]["score"]
    assert len(set(scores.values())) == len(scores) == 3
    place.registry.promote("card-risk", "1", "champion")
    return scores


@pytest.mark.parametrize("moves", [10, pytest.param(100, marks=soak)])
def test_each_answer_names_the_version_that_scored_it_while_the_alias_moves(
    tmp_path: Path, moves: int, tell: Tell
) -> None:
    place = make_served_place(tmp_path)
    scores = train_versions(place)
    served = serve_pipeline(place)
    with client_of(served, poll_seconds=0.01) as client, load_on(lambda: _borrowed(client)) as load:
        for move in range(moves):
            version = str(move % 3 + 1)
            place.registry.promote("card-risk", version, "champion")
            wait_until(partial(_is_taken, client, version))
            infer = client.post(f"/v2/models/card-risk/versions/{version}/infer", json={"inputs": TENSORS}).json()
            assert (infer["model_version"], infer["outputs"][0]["data"]) == (version, [scores[version]])

    assert not load.others
    assert load.scores.keys() == set(scores.items())
    tell(f"alias moved {moves} times under load", "", f"{load.answers} answers, each with the score of its version")


def _is_taken(client: httpx.Client, version: str) -> bool:
    return bool(client.get("/v2/models/card-risk").json()["versions"] == [version])


@contextmanager
def _borrowed(client: TestClient) -> Iterator[TestClient]:
    yield client


@soak
def test_a_killed_process_of_several_is_replaced(tmp_path: Path, tell: Tell) -> None:
    place = make_served_place(tmp_path)
    with serving_process(place, "--workers", "2") as server:
        wait_until(lambda: len(server.children) == 2)
        with load_on_process(server) as load:
            for _ in range(3):
                killed = server.children[0]
                os.kill(killed, signal.SIGKILL)
                wait_until(partial(_is_replaced, server, killed))
                wait_until(partial(load.has_more, load.answers + 50), tell=lambda: load.others)

    assert len(load.scores) == 1
    assert load.others.keys() <= {"ReadError", "RemoteProtocolError", "ConnectError"}, load.others
    tell("kill -9 of a process under load, 3 times", "", f"{load.answers} right answers, others: {dict(load.others)}")


def _is_replaced(server: ServingProcess, killed: int) -> bool:
    children = server.children
    return len(children) == 2 and killed not in children


@soak
def test_a_server_whose_first_process_is_killed_ends(tmp_path: Path, tell: Tell) -> None:
    """Processes without it would go on with the models of then, and hold the port."""
    with serving_process(make_served_place(tmp_path), "--workers", "2") as server:
        wait_until(lambda: len(server.children) == 2)
        children = server.children
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(map(is_alive, children)), 30)
    tell("kill -9 of the first process", "", "the others end too")


@soak
def test_sigterm_under_load_answers_what_was_asked(tmp_path: Path, tell: Tell) -> None:
    with serving_process(make_served_place(tmp_path)) as server, load_on_process(server) as load:
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) in (0, -signal.SIGTERM)
        seconds = time.monotonic() - begin

    assert len(load.scores) == 1
    assert load.others.keys() <= {"ConnectError", "ReadError", "RemoteProtocolError"}, load.others
    tell("SIGTERM under load", "", f"ended after {seconds:.1f} s, {load.answers} answers, others: {dict(load.others)}")


def test_a_server_scores_on_a_full_disk_and_with_a_spoiled_model(tmp_path: Path, tell: Tell) -> None:
    place = make_served_place(tmp_path)
    model = tmp_path / "models/card-risk/1/model.ubj"
    with serving_process(place) as server, httpx.Client(base_url=server.address, timeout=60) as client:
        first = client.post(PATH, json=BODY).json()
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, 0))  # no file of it grows any more
        model.write_bytes(model.read_bytes()[:-1] + b"!")
        second = client.post(f"{PATH}?reasons=true", json=BODY).json()
        found = client.get("/scores/card_risk_scores/7").status_code
        wait_until(lambda: train_and_see(place, client))
        third = client.post(PATH, json=BODY).json()

    assert first["rows"][0]["outputs"] == second["rows"][0]["outputs"] != third["rows"][0]["outputs"]
    assert found in (200, 503)  # SQLite may need a file beside its own
    tell("full disk, and the model's file spoiled meanwhile", "", "scores on, and takes the next version")


def train_and_see(place: Place, client: httpx.Client) -> bool:
    """Train a second version once, and say whether the server has taken it."""
    if len(Registry(place.folder / "models").versions("card-risk")) < 2:
        train_model(place.folder / "models", rounds=9)
    return _is_taken(client, "2")


def test_a_server_scores_while_the_warehouse_is_gone(tmp_path: Path, tell: Tell) -> None:
    with Cluster() as cluster:
        place = make_served_place(tmp_path, cluster.make_url("postgresql", "warehouse"))
        served = serve_pipeline(place)
        with client_of(served, poll_seconds=3600) as client:
            before = client.get("/scores/card_risk_scores/7")
            cluster.kill()
            gone = client.get("/scores/card_risk_scores/7")
            scored = client.post(PATH, json=BODY)
            train_model(tmp_path / "models", rounds=9)
            taken = served.take_models()
            ready = client.get("/ready")
            by_next = client.post(PATH, json=BODY)
            cluster.start()
            again = client.get("/scores/card_risk_scores/7")
            beyond = client.get(f"/scores/card_risk_scores/{2**63}").status_code
            explained = client.get(f"/explain/card-risk/{2**63}").status_code

    assert (before.status_code, gone.status_code, again.status_code) == (200, 503, 200), gone.text
    assert gone.headers["retry-after"]
    assert before.json() == again.json()
    assert (scored.status_code, by_next.status_code, ready.status_code) == (200, 200, 200)
    assert taken, served.problem
    assert by_next.json()["model"]["version"] == "2"
    assert {beyond, explained} <= {200, 404, 422}
    tell("warehouse gone", "postgresql", "scores on and takes versions; a lookup is answered with 503")
