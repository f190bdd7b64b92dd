"""The approval form in a browser: answered right, wrong, late and never, and killed in between."""

import os
import re
import signal
from collections.abc import Iterator
from datetime import timedelta
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
from tests.e2e.stack import BROWSER, OPENED, Stack, keep_picture, run_up
from tests.prefect_home import prepare_home
from tests.promotions import NOW, PROMOTING, good_labels, label_table, register_challenger
from tests.shop import START, payments, train_model, write_payments
from tests.waiting import wait_until

pytestmark = [*BROWSER, pytest.mark.slow]

WITHIN = {"prompt": "1h", "tardy": "1m", "doomed": "1h"}
"""By model: how long its form waits for an answer."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`penstock up` in a folder with three models, each with a challenger that meets its requirements."""
    folder = tmp_path_factory.mktemp("promotions")
    make_project(folder)
    with run_up(folder) as started:
        yield started


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
    prepare_home(settings.home)
    (folder / "pipelines").mkdir()
    for model, within in WITHIN.items():
        registry = train_model(settings.models_folder, model)
        register_challenger(registry, model)
        spec = folder / "pipelines" / f"{model}.yaml"
        text = PROMOTING.replace("card-risk", model).replace("card_risk", model)
        spec.write_text(text.replace("{alias: champion", f"{{alias: champion, answer_within: {within}"))
        pipeline = load_pipeline(spec)
        Driver(pipeline, connect, registry, NO_MASKING, settings).run(START + timedelta(days=3))
        collect_and_measure(pipeline, settings, connect, registry, NOW)
    connect("warehouse").engine.dispose()
    shop.engine.dispose()


def start(stack: Stack, model: str) -> str:
    """Start the flow of a model as a schedule does, and return the flow run."""
    deployment = stack.api(f"deployments/name/promote/{model}")["id"]
    return str(stack.api(f"deployments/{deployment}/create_flow_run", {})["id"])


def state_of(stack: Stack, flow_run: str) -> dict[str, Any]:
    return dict(stack.api(f"flow_runs/{flow_run}")["state"] or {"name": ""})


def wait_for(stack: Stack, flow_run: str, *names: str) -> dict[str, Any]:
    wait_until(lambda: state_of(stack, flow_run)["name"] in names)
    return state_of(stack, flow_run)


def moves_of(stack: Stack, model: str) -> list[tuple[str, str]]:
    """Return the moves of the champion: to which version, and by whom."""
    history = Registry(stack.folder / ".penstock" / "models").alias_history(model)
    return [(move.version, move.by) for move in history if move.alias == "champion" and move.previous]


def open_form(page: Any, ui: str, flow_run: str) -> Any:
    """Open the form of a suspended run. Return the dialog."""
    page.goto(f"{ui}/runs/flow-run/{flow_run}")
    if ui == OPENED:
        page.locator("button[aria-haspopup=menu]").last.click()
        page.get_by_role("menuitem", name="Resume").click()
    else:
        page.get_by_role("button", name="Resume").first.click()
    page.get_by_text("Prefect does not know who answers").first.wait_for()
    return page.get_by_role("dialog")


def fill(page: Any, form: Any, decision: str, by: str) -> None:
    form.get_by_role("button", name="Select").click()
    page.get_by_role("option", name=decision).click()
    form.get_by_label("By").fill(by)


def submit(page: Any, form: Any) -> int:
    """Submit the form of V2. Return the status of the answer: 201 if it was taken."""
    with page.expect_response(re.compile("/resume$")) as answer:
        form.get_by_role("button", name="Resume").click()
    return int(answer.value.status)


def process_of(stack: Stack, flow_run: str) -> int:
    return int(str(stack.api(f"flow_runs/{flow_run}")["infrastructure_pid"]).rpartition(":")[2])


@pytest.fixture(scope="module")
def tardy_run(stack: Stack) -> str:
    """A question that nobody answers while the other tests run."""
    return start(stack, "tardy")


@pytest.mark.usefixtures("tardy_run")
def test_a_wrong_answer_leaves_the_question_open_and_a_right_one_moves_the_alias_once(page: Any, stack: Stack) -> None:
    flow_run = start(stack, "prompt")
    wait_for(stack, flow_run, "Suspended")
    open_form(page, "", flow_run)  # V1 shows the same form
    form = open_form(page, OPENED, flow_run)
    keep_picture(page, "promotion-form")

    assert submit(page, form) == 200  # nothing filled in
    fill(page, form, "approve", "   ")
    assert submit(page, form) == 200  # blanks are no name
    assert state_of(stack, flow_run)["name"] == "Suspended"
    assert moves_of(stack, "prompt") == []

    form.get_by_label("By").fill("Ada")
    assert submit(page, form) == 201

    ended = wait_for(stack, flow_run, "Completed", "Failed", "Crashed", "Cancelled")
    assert (ended["name"], ended["message"]) == ("Completed", "the alias moved to prompt/2")
    assert moves_of(stack, "prompt") == [("2", "Ada")]
    second = stack.api(f"flow_runs/{flow_run}/resume", {"run_input": {"decision": "approve", "by": "Bob"}})
    assert second["status"] == "ABORT"  # a second answer finds nothing to answer
    again = start(stack, "prompt")
    assert "names already" in wait_for(stack, again, "Completed", "Failed")["message"]
    assert moves_of(stack, "prompt") == [("2", "Ada")]


def test_a_kill_after_the_answer_moves_the_alias_once_or_not_at_all(page: Any, stack: Stack) -> None:
    flow_run = start(stack, "doomed")
    wait_for(stack, flow_run, "Suspended")
    form = open_form(page, OPENED, flow_run)
    fill(page, form, "approve", "Ada")
    before = process_of(stack, flow_run)
    assert submit(page, form) == 201
    wait_until(lambda: process_of(stack, flow_run) != before)

    os.kill(process_of(stack, flow_run), signal.SIGKILL)

    wait_for(stack, flow_run, "Crashed")
    killed = moves_of(stack, "doomed")
    assert killed in ([], [("2", "Ada")])
    again = start(stack, "doomed")
    if wait_for(stack, again, "Suspended", "Completed", "Failed")["name"] == "Suspended":
        form = open_form(page, OPENED, again)
        fill(page, form, "approve", "Ada")
        assert submit(page, form) == 201
    assert wait_for(stack, again, "Completed", "Failed")["name"] == "Completed"
    assert moves_of(stack, "doomed") == [("2", "Ada")]


def test_a_question_that_nobody_answers_lapses_and_a_late_answer_moves_nothing(
    page: Any, stack: Stack, tardy_run: str
) -> None:
    ended = wait_for(stack, tardy_run, "Cancelled", "Failed", "Completed", "Crashed")

    late = stack.api(f"flow_runs/{tardy_run}/resume", {"run_input": {"decision": "approve", "by": "Ada"}})

    assert ended["message"] == "Lapsed: there was no answer within 1m. The next run asks again."
    assert late["status"] == "ABORT"
    page.goto(f"/v2/runs/flow-run/{tardy_run}")
    page.get_by_text("Cancelled").first.wait_for()
    assert moves_of(stack, "tardy") == []
    again = start(stack, "tardy")
    wait_for(stack, again, "Suspended")  # the next run asks again
    assert moves_of(stack, "tardy") == []
