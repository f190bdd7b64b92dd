"""The approval form in a browser: answered right, wrong, late and never, and killed in between."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.database.connections import Connector, open_database
from penstock.models.measuring import collect_and_measure
from penstock.models.registry import Registry
from penstock.privacy.masking import NO_MASKING
from penstock.settings import Settings
from penstock.spec.yaml_file import load_pipeline
from tests.driver import Driver
from tests.e2e.stack import BROWSER, Stack, free_port
from tests.promotions import NOW, PROMOTING, good_labels, label_table, register_challenger
from tests.shop import payments, train_model, write_payments
from tests.waiting import SECONDS, wait_until

pytestmark = [*BROWSER, pytest.mark.slow]

WITHIN = {"prompt": "1h", "tardy": "1m", "doomed": "1h"}
"""By model: how long its form waits for an answer."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`penstock up` in a folder with three models, each with a challenger that meets its requirements."""
    folder = tmp_path_factory.mktemp("promotions")
    make_project(folder)
    port = free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "PREFECT_"))}
    command = [sys.executable, "-c", "from penstock.cli import main; main()", "up", "--port", str(port)]
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "Penstock is up" in (folder / "up.log").read_text() or process.poll() is not None)
        assert process.poll() is None, (folder / "up.log").read_text()
        yield Stack(folder, f"http://127.0.0.1:{port}")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(SECONDS)


def make_project(folder: Path) -> None:
    urls = {name: f"sqlite:///{folder / name}.db" for name in ("shop", "warehouse")}
    lines = [f"PENSTOCK_CONNECTIONS__{name.upper()}={url}" for name, url in urls.items()]
    (folder / ".env").write_text("\n".join(["PENSTOCK_PIPELINES=pipelines", *lines, ""]))
    settings = Settings(_env_file=None, home=folder / ".penstock", connections=urls)
    connect = Connector(lambda name: open_database(settings, name), settings.allowed_roots)
    shop = connect("shop")
    rows = payments()
    write_payments(shop, rows)
    label_table().create(shop.engine)
    keys, amounts = rows["payment_id"].to_pylist(), rows["amount"].to_pylist()
    with shop.writing() as connection:
        connection.execute(label_table().insert(), good_labels(dict(zip(keys, amounts, strict=True))))
    (folder / "pipelines").mkdir()
    for model, within in WITHIN.items():
        registry = train_model(settings.models_folder, model)
        register_challenger(registry, model)
        spec = folder / "pipelines" / f"{model}.yaml"
        text = PROMOTING.replace("card-risk", model).replace("card_risk", model)
        spec.write_text(text.replace("{alias: champion", f"{{alias: champion, answer_within: {within}"))
        pipeline = load_pipeline(spec)
        Driver(pipeline, connect, registry, NO_MASKING, settings).run(NOW)
        collect_and_measure(pipeline, settings, connect, registry, NOW)
    connect("warehouse").engine.dispose()
    shop.engine.dispose()


def start(stack: Stack, model: str) -> str:
    """Start the flow of a model as a schedule does, and return the flow run."""
    deployment = stack.api(f"deployments/name/promote/{model}")["id"]
    return str(stack.api(f"deployments/{deployment}/create_flow_run", {})["id"])


def state_of(stack: Stack, flow_run: str) -> dict[str, Any]:
    return dict(stack.api(f"flow_runs/{flow_run}")["state"])


def wait_for(stack: Stack, flow_run: str, *names: str) -> dict[str, Any]:
    wait_until(lambda: state_of(stack, flow_run)["name"] in names)
    return state_of(stack, flow_run)


def moves_of(stack: Stack, model: str) -> list[tuple[str, str]]:
    """Return the moves of the champion: to which version, and by whom."""
    history = Registry(stack.folder / ".penstock" / "models").alias_history(model)
    return [(move.version, move.by) for move in history if move.alias == "champion" and move.previous]


def open_form(page: Any, flow_run: str) -> None:
    page.goto(f"/v2/runs/flow-run/{flow_run}")
    page.get_by_role("button", name=re.compile("Resume")).first.click()
    page.get_by_text("Prefect does not know who answers").first.wait_for()


def test_explore(page: Any, stack: Stack) -> None:
    flow_run = start(stack, "prompt")
    state = wait_for(stack, flow_run, "Suspended", "Failed", "Completed", "Crashed")
    assert state["name"] == "Suspended", state
    page.goto(f"/v2/runs/flow-run/{flow_run}")
    page.wait_for_timeout(3000)
    page.screenshot(path="/tmp/prom_1.png")
    page.get_by_role("button", name=re.compile("Resume")).first.click()
    page.wait_for_timeout(2000)
    page.screenshot(path="/tmp/prom_2.png")
    page.goto(f"/runs/flow-run/{flow_run}")
    page.wait_for_timeout(3000)
    page.screenshot(path="/tmp/prom_3.png")
