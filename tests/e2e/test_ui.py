"""What users do every day, in a real browser: trigger a run by the form, look at its card, pause a schedule."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.stack import (
    BROWSER,
    OPENED,
    UIS,
    Stack,
    artifact_of,
    fill_range,
    form_address,
    keep_picture,
    labelled,
    open_form,
    submit,
    wait_for_run,
)
from tests.form_values import EXPECTED_MODEL, EXPECTED_TIME
from tests.waiting import wait_until

pytestmark = BROWSER
SWITCHES = {
    "": (".p-toggle__control--checked", ".p-toggle__control:not(.p-toggle__control--checked)", ".p-toggle__slider"),
    "/v2": ("[role=switch][aria-checked=true]", "[role=switch][aria-checked=false]", "[role=switch]"),
}
"""The switch of a schedule in each UI: when it is on, when it is off, and what to click."""


def test_a_run_triggered_by_the_form_completes_and_its_card_shows_the_histogram(page: Any, stack: Stack) -> None:
    page.goto(form_address(stack, OPENED, mode="backfill", start="2026-01-01", end="2026-01-02"))
    page.get_by_label("Rows of a partition").wait_for()
    keep_picture(page, "form")
    open_form(page, stack)
    fill_range(page, "2026-01-01", "2026-01-02")

    run = wait_for_run(stack, submit(page))

    assert (run["state"]["type"], run["state"]["name"]) == ("COMPLETED", "Completed"), run["state"]
    assert run["name"] == "card-risk backfill 2026-01-01 to 01-02"
    card = artifact_of(stack, "card-risk 2026-01-01 → 01-02")
    for ui in UIS:  # the one that opens comes last, and gives the pictures
        page.goto(f"{ui}/runs/flow-run/{run['id']}")
        page.get_by_text("Completed", exact=True).first.wait_for()
        page.get_by_text("Subflow Runs", exact=True).first.click()
        page.get_by_text("2026-01-01 to 01-02").nth(1).wait_for()
        keep_picture(page, "run")
        page.goto(f"{ui}/artifacts/artifact/{card['id']}")
        picture = page.locator("img[src^='data:image/svg']").first
        picture.wait_for()
        assert picture.evaluate("image => image.complete && image.naturalWidth") > 0
        assert page.get_by_text("column_values_to_not_be_null").count()
        keep_picture(page, "card", whole=True)


def test_a_second_trigger_of_a_published_interval_ends_skipped(page: Any, stack: Stack) -> None:
    open_form(page, stack)
    fill_range(page, "2026-01-01", "2026-01-02")

    run = wait_for_run(stack, submit(page))

    assert run["state"]["name"] == "Completed", run["state"]
    assert run["state"]["message"] == "Skipped: nothing to do: 1 interval is published already"
    assert run["labels"]["penstock.outcome"] == "skipped"


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("Begin of the range", "31.01.2026", EXPECTED_TIME),
        ("Model", "newest", EXPECTED_MODEL),
        ("Rows of a partition", "-5", "less than the minimum"),
    ],
)
def test_the_form_refuses_what_is_wrong(page: Any, stack: Stack, field: str, value: str, told: str) -> None:
    before = len(stack.flow_runs("card-risk"))
    open_form(page, stack)
    labelled(page, field).locator("textarea, input").fill(value)

    page.get_by_role("button", name="Submit").click()

    page.get_by_text(told).first.wait_for()
    assert len(stack.flow_runs("card-risk")) == before


def test_a_dry_run_shows_the_plan_and_scores_nothing(page: Any, stack: Stack) -> None:
    open_form(page, stack)
    labelled(page, "Dry run").locator(".p-toggle__control").click()

    run = wait_for_run(stack, submit(page))

    assert run["state"]["name"] == "Completed", run["state"]
    assert run["state"]["message"].startswith("Planned: ")
    assert run["labels"]["penstock.outcome"] == "planned"
    [plan] = stack.api("artifacts/filter", {"artifacts": {"key": {"any_": ["plan-card-risk"]}}})
    assert "| 2026-01-02 → 01-03 | due |" in plan["data"]


@pytest.mark.parametrize("ui", UIS)
def test_a_schedule_is_paused_and_resumed(page: Any, stack: Stack, ui: str) -> None:
    def is_active() -> bool:
        return bool(stack.deployment("card-risk")["schedules"][0]["active"])

    on, off, switch = SWITCHES[ui]
    assert is_active()
    page.goto(f"{ui}/deployments/deployment/{stack.deployment('card-risk')['id']}")
    page.locator(on).first.wait_for()
    page.wait_for_load_state("networkidle")
    if ui == OPENED:
        keep_picture(page, "deployment")

    click_until(page.locator(switch).first, lambda: not is_active())
    page.locator(off).first.wait_for()
    page.wait_for_load_state("networkidle")

    click_until(page.locator(switch).first, is_active)


def test_a_scheduled_run_starts_by_itself_within_its_minute(stack: Stack, page: Any) -> None:
    def started() -> list[dict[str, Any]]:
        return [run for run in stack.flow_runs("ticker") if run["auto_scheduled"]]

    wait_until(lambda: any(run["state_type"] == "COMPLETED" for run in started()))

    first = started()[-1]
    assert first["estimated_start_time_delta"] < 60
    for ui in UIS:
        page.goto(f"{ui}/runs")
        page.get_by_text("ticker due at 20").first.wait_for()


def test_the_server_opens_the_ui_of_the_pictures(stack: Stack, page: Any) -> None:
    page.goto("/")

    page.wait_for_url(f"**{OPENED}/dashboard**")


def click_until(switch: Any, changed: Callable[[], bool]) -> None:
    """Click as people do: again, where a busy server has refused the first click ("database is locked")."""
    for _ in range(3):
        switch.click()
        until = time.monotonic() + 25
        while time.monotonic() < until:
            if changed():
                return
            time.sleep(0.3)
    raise AssertionError("three clicks changed nothing")
