"""What both of Prefect's user interfaces show and offer of cancelled runs and of a long history."""

import os
import re
import subprocess
import sys
from typing import Any

import httpx
import pytest

from tests.e2e.stack import BROWSER, OPENED, UIS, Stack, keep_picture
from tests.waiting import SECONDS, wait_until

pytestmark = BROWSER
EACH_UI = pytest.mark.parametrize("ui", UIS, ids=["v1", "v2"])
TERMINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
SLOW = {"mode": "restate", "start": "2026-01-01", "end": "2026-01-03", "partition_rows": 2}
"""Two intervals of 125 partitions each."""
MANY = 300
ENDINGS = (
    ("published", "COMPLETED", "Completed", "1 interval published"),
    ("skipped", "COMPLETED", "Completed", "Skipped: nothing to do: 1 interval is published already"),
    ("halted", "FAILED", "Failed", "Halted: 1 of 1 intervals; first: 2026-01-02 → 01-03: quarantine_limit"),
    ("failed", "FAILED", "Failed", "1 of 1 intervals failed; first: 2026-01-02 → 01-03: no space left"),
)


def begin_slow_run(stack: Stack) -> tuple[str, str]:
    """Start a run. Return its id and the id of its first interval's flow run, once that is scoring."""
    deployment = stack.deployment("card-risk")["id"]
    outer = str(stack.api(f"deployments/{deployment}/create_flow_run", {"parameters": SLOW})["id"])

    def scoring() -> str:
        return next((run["id"] for run in intervals_of(stack, outer) if run["state_type"] == "RUNNING"), "")

    return outer, wait_until(scoring)


def intervals_of(stack: Stack, outer: str) -> list[dict[str, Any]]:
    wanted = {"flow_runs": {"parent_flow_run_id": {"any_": [outer]}}, "sort": "START_TIME_ASC"}
    return list(stack.api("flow_runs/filter", wanted))


def wait_until_ended(stack: Stack, flow_run: str) -> dict[str, Any]:
    def ended() -> dict[str, Any]:
        found = dict(stack.api(f"flow_runs/{flow_run}"))
        return found if found["state_type"] in TERMINAL else {}

    return wait_until(ended)


def open_cancel(page: Any, ui: str, flow_run: str) -> Any:
    """Open a run's page. Return what cancels it: a button in V1, an entry of a menu in V2."""
    page.goto(f"{ui}/runs/flow-run/{flow_run}")
    if ui != OPENED:
        return page.get_by_role("button", name="Cancel", exact=True).first
    page.locator("button[aria-haspopup=menu]").last.click()
    page.get_by_role("menuitem", name="Copy ID").wait_for()
    return page.get_by_role("menuitem", name="Cancel", exact=True)


@EACH_UI
def test_the_uis_cancel_a_whole_run_and_not_one_interval_of_it(page: Any, stack: Stack, ui: str) -> None:
    outer, interval = begin_slow_run(stack)

    offered = open_cancel(page, ui, interval)
    if ui == OPENED:
        assert not offered.count()
    else:
        assert offered.is_disabled()

    open_cancel(page, ui, outer).click()
    page.get_by_role("button", name="Cancel Flow Run" if ui == OPENED else "Confirm", exact=True).click()
    assert wait_until_ended(stack, outer)["state"]["name"] == "Cancelled"
    assert wait_until_ended(stack, interval)["state"]["name"] == "Cancelled"


def test_an_interval_cancelled_on_the_command_line_ends_and_the_next_one_is_scored(page: Any, stack: Stack) -> None:
    outer, interval = begin_slow_run(stack)

    cancel = [sys.executable, "-m", "prefect", "flow-run", "cancel", interval]
    environment = os.environ | {"PREFECT_API_URL": f"{stack.url}/api"}
    done = subprocess.run(cancel, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    ended = wait_until_ended(stack, outer)

    assert [run["state"]["name"] for run in intervals_of(stack, outer)] == ["Cancelled", "Completed"]
    assert "1 of 2 intervals published; cancelled: 2026-01-01" in ended["state"]["message"]
    for ui in UIS:
        page.goto(f"{ui}/runs/flow-run/{interval}")
        page.get_by_text("Cancelled", exact=True).first.wait_for()
        keep_picture(page, f"cancelled{ui.replace('/', '-')}")


@pytest.fixture(scope="module")
def many(stack: Stack) -> list[str]:
    """Add ended runs of the deployment, with the names and messages of real ones. Return the names."""
    deployment = stack.deployment("card-risk")
    shared = {"flow_id": deployment["flow_id"], "deployment_id": deployment["id"], "tags": deployment["tags"]}
    names = [f"card-risk due at 2025-{1 + n // 28:02}-{1 + n % 28:02} 01:15" for n in range(MANY)]
    with httpx.Client(trust_env=False, timeout=30, base_url=f"{stack.url}/api/") as client:
        for n, name in enumerate(names):
            outcome, kind, state, message = ENDINGS[n % len(ENDINGS)]
            begun = {"name": name, "labels": {"penstock.outcome": outcome}, "state": {"type": "RUNNING"}}
            created = client.post("flow_runs/", json=shared | begun).raise_for_status().json()["id"]
            ended = {"force": True, "state": {"type": kind, "name": state, "message": message}}
            client.post(f"flow_runs/{created}/set_state", json=ended).raise_for_status()
    return names


@EACH_UI
def test_three_hundred_runs_are_counted_and_told_apart(page: Any, stack: Stack, many: list[str], ui: str) -> None:
    page.goto(f"{ui}/deployments/deployment/{stack.deployment('card-risk')['id']}")
    if ui != OPENED:
        page.locator(".p-tab", has_text="Runs").click()
    page.get_by_text(re.compile(r"^3\d\d Flow runs$")).first.wait_for()
    page.get_by_text(many[-1], exact=True).first.wait_for()
    keep_picture(page, f"many-deployment{ui.replace('/', '-')}")

    page.goto(f"{ui}/runs")
    page.get_by_text("Page 1 of 4").first.wait_for()
    for name in many[-4:]:
        assert page.get_by_text(name, exact=True).count() == 1
    keep_picture(page, "runs" if ui == OPENED else "runs-v1")

    page.get_by_text(many[-2], exact=True).click()
    page.get_by_text("Details", exact=True).first.click()
    page.get_by_text("Halted: 1 of 1 intervals").first.wait_for()
    keep_picture(page, f"many-run{ui.replace('/', '-')}")


def test_a_scheduled_run_is_named_by_its_start(stack: Stack) -> None:
    def started() -> list[str]:
        return [run["name"] for run in stack.flow_runs("ticker") if run["state_type"] == "COMPLETED"]

    assert re.fullmatch(r"ticker due at 20\d\d-\d\d-\d\d \d\d:\d\d", wait_until(started)[0])
