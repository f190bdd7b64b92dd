"""What an operator finds in both versions of Prefect's UI after a halt, a skip and a plan."""

import re
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.database.connections import open_database
from penstock.settings import Settings
from tests.e2e.stack import BROWSER, OPENED, UIS, Stack, keep_picture
from tests.waiting import wait_until

pytestmark = BROWSER
EACH_UI = pytest.mark.parametrize("ui", UIS, ids=["v1", "v2"])


@pytest.fixture(scope="module")
def runs(stack: Stack) -> dict[str, dict[str, Any]]:
    """The deployment's runs by what they are: a halt of two intervals, a skip, and a plan."""
    spoil_the_second_day(stack)
    whole = {"mode": "backfill", "start": "2026-01-01", "end": "2026-01-03"}
    first = {"mode": "backfill", "start": "2026-01-01", "end": "2026-01-02"}
    return {
        "halt": run(stack, **whole),
        "skip": run(stack, **first),
        "plan": run(stack, dry_run=True, **whole),
        "empty": run(stack, mode="backfill", start="2026-01-02", end="2026-01-01"),
        "future": run(stack, mode="due", start="2099-01-01"),
    }


def spoil_the_second_day(stack: Stack) -> None:
    settings = Settings(_env_file=None, connections={"shop": f"sqlite:///{stack.folder / 'shop.db'}"})
    day = "select payment_id from payments where created_at >= '2026-01-02' and created_at < '2026-01-03' limit 150"
    shop = open_database(settings, "shop")
    with shop.writing() as connection:
        connection.execute(sa.text(f"update payments set amount = null where payment_id in ({day})"))
    shop.engine.dispose()


def run(stack: Stack, **parameters: Any) -> dict[str, Any]:
    """Run the deployment, and return its flow run once it has ended."""
    wanted = stack.deployment("card-risk")["id"]
    created = stack.api(f"deployments/{wanted}/create_flow_run", {"parameters": parameters})

    def ended() -> dict[str, Any]:
        found = dict(stack.api(f"flow_runs/{created['id']}"))
        return found if found["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else {}

    return wait_until(ended)


def test_the_states_have_prefects_names_and_the_messages_open_with_the_word(runs: dict[str, dict[str, Any]]) -> None:
    told = {what: (run["state"]["name"], run["labels"].get("penstock.outcome")) for what, run in runs.items()}
    message = {what: run["state"]["message"] for what, run in runs.items()}

    assert told == {
        "halt": ("Failed", "halted"),
        "skip": ("Completed", "skipped"),
        "plan": ("Completed", "planned"),
        "empty": ("Failed", "failed"),
        "future": ("Completed", "skipped"),
    }
    assert message["halt"].startswith("Halted: 1 of 2 intervals; first: 2026-01-02 → 01-03: ")
    assert message["skip"] == "Skipped: nothing to do: 1 interval is published already"
    assert message["plan"] == "Planned: 1 interval would be scored; nothing was"
    assert message["empty"].startswith("the range is empty: its end, 2026-01-01T00:00:00Z, is not after its begin")
    assert message["future"].startswith("Skipped: nothing to do: no interval of the range is over yet")


@EACH_UI
def test_the_deployments_own_page_lists_a_halt_a_skip_and_a_plan(
    page: Any, stack: Stack, runs: dict[str, dict[str, Any]], ui: str
) -> None:
    page.goto(f"{ui}/deployments/deployment/{stack.deployment('card-risk')['id']}")
    if ui == "":
        page.locator(".p-tab", has_text="Runs").click()

    for what in ("halt", "skip", "plan"):
        page.locator(f"a[href$='/runs/flow-run/{runs[what]['id']}']").first.wait_for()
    keep_picture(page, f"states-deployment{ui.replace('/', '-')}", whole=True)
    assert not page.get_by_text(re.compile(r"^0 Flow runs")).count()


@EACH_UI
def test_the_run_that_a_person_opens_has_a_summary_with_links(
    page: Any, stack: Stack, runs: dict[str, dict[str, Any]], ui: str
) -> None:
    wanted = {"flow_run_id": {"any_": [runs["halt"]["id"]]}, "key": {"any_": ["summary-card-risk"]}}
    [summary] = stack.api("artifacts/filter", {"artifacts": wanted})

    page.goto(f"{ui}/artifacts/artifact/{summary['id']}")

    page.get_by_text("2 intervals, 1 published, 1 halted").first.wait_for()
    page.get_by_text("quarantine_limit (150 of 250 rows").first.wait_for()
    keep_picture(page, "summary" if ui == OPENED else "summary-v1", whole=True)
    page.goto(page.get_by_role("link", name="2026-01-02 → 01-03").first.evaluate("link => link.href"))
    page.get_by_text("column_values_to_not_be_null").first.wait_for()


@EACH_UI
def test_the_run_is_drawn_in_the_timeline_with_names_that_have_glyphs(
    page: Any, runs: dict[str, dict[str, Any]], ui: str
) -> None:
    page.goto(f"{ui}/runs/flow-run/{runs['halt']['id']}")

    page.locator("canvas").first.wait_for()
    keep_picture(page, f"states-timeline{ui.replace('/', '-')}", whole=True)
    assert runs["halt"]["name"] == "card-risk backfill 2026-01-01 to 01-03"
    assert runs["halt"]["name"].isascii()  # the canvas draws with a font of ASCII
