"""What an operator does on the command line shows in both of Prefect's user interfaces."""

from typing import Any

import pytest

from tests.e2e.stack import BROWSER, OPENED, UIS, Stack, keep_picture, penstock
from tests.waiting import wait_until

pytestmark = BROWSER
WHY = "the shop migrates until Monday"


@pytest.mark.parametrize("ui", UIS)
def test_a_pause_and_its_reason_are_on_the_deployments_page(page: Any, stack: Stack, ui: str) -> None:
    paused = penstock(stack.folder, "pause", "card-risk", "--reason", WHY)
    assert paused.returncode == 0, paused.stderr

    page.goto(f"{ui}/deployments/deployment/{stack.deployment('card-risk')['id']}")
    page.get_by_text("Description", exact=True).first.click()
    page.get_by_text(WHY).first.wait_for()
    page.wait_for_load_state("networkidle")
    keep_picture(page, f"paused{ui.replace('/', '-')}")
    if ui == OPENED:  # the list of V1 has no sign of a pause
        page.goto(f"{ui}/deployments")
        page.get_by_text("Paused").first.wait_for()
        keep_picture(page, f"paused-list{ui.replace('/', '-')}")

    resumed = penstock(stack.folder, "resume", "card-risk")
    assert WHY in resumed.stdout
    assert WHY not in stack.deployment("card-risk")["description"]
    assert stack.deployment("card-risk")["schedules"][0]["active"]


@pytest.mark.parametrize("ui", UIS)
def test_the_status_is_one_line_of_the_artifacts_and_renewed(page: Any, stack: Stack, ui: str) -> None:
    def written() -> list[dict[str, Any]]:
        return list(stack.api("artifacts/latest/filter", {"artifacts": {"key": {"any_": ["penstock-status"]}}}))

    wait_until(lambda: bool(written()))
    [latest] = written()

    assert "| card-risk |" in latest["data"]
    page.goto(f"{ui}/artifacts")
    page.get_by_text("penstock-status").first.wait_for()
    page.goto(f"{ui}/artifacts/artifact/{latest['latest_id']}")
    page.get_by_text("card-risk").first.wait_for()
    page.wait_for_load_state("networkidle")
    keep_picture(page, "status" if ui == OPENED else "status-v1", whole=True)


def test_the_log_of_a_run_is_prefects(stack: Stack) -> None:
    def published() -> str:
        listed = penstock(stack.folder, "runs", "ticker", "--state", "published", "--state", "superseded").stdout
        return next((line.split()[0] for line in listed.splitlines() if line.endswith("UTC")), "")

    run_id = wait_until(published)

    told = penstock(stack.folder, "logs", run_id).stdout

    assert "from Prefect" in told.splitlines()[0]
    assert "750 rows in 5 partitions" in told
