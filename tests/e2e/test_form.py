"""Wrong and odd values in the form of a deployment, typed in both of Prefect's user interfaces.

`tests/integration/test_form.py` sends every value of the table through the server's schema and through the flow.
"""

import re
from typing import Any

import pytest

from tests.e2e.stack import BROWSER, OPENED, UIS, Stack, form_address, labelled, submit, wait_for_run
from tests.form_values import TYPED

pytestmark = BROWSER

LABELS = {"start": "Begin of the range", "model": "Model", "partition_rows": "Rows of a partition"}
REFUSED = [typed for typed in TYPED if typed.is_refused and typed.field in LABELS]
CHOICES = {"": (".p-select-button__control", ".p-select-option"), "/v2": ("button", "[role=option]")}
"""In each UI, what opens a field's list, and the entries of the list."""
BUBBLES = {"-5": "greater than or equal to 0", "1000000000": "less than or equal to 100000000"}
"""What the browser itself says of a number in V2, which does not send it to the server."""


def open_form(page: Any, stack: Stack, ui: str, **parameters: Any) -> None:
    """Open the form as a link with parameters does."""
    page.goto(form_address(stack, ui, **parameters))
    field(page, ui, "Rows of a partition").wait_for()


def field(page: Any, ui: str, label: str) -> Any:
    """Return the element to type into. V1 does not tie its labels to it."""
    if ui == OPENED:
        return page.get_by_label(re.compile(f"^{re.escape(label)}"))
    return labelled(page, label).locator("textarea, input")


@pytest.mark.parametrize("ui", UIS)
def test_the_form_says_of_each_wrong_value_what_it_expects(page: Any, stack: Stack, ui: str) -> None:
    before = len(stack.flow_runs("card-risk"))
    assert len(REFUSED) >= 10

    for typed in REFUSED:
        open_form(page, stack, ui)
        typed_into = field(page, ui, LABELS[typed.field])
        typed_into.fill(str(typed.value))
        page.get_by_role("button", name="Submit").click()
        if ui == OPENED and typed.field == "partition_rows":
            assert BUBBLES[str(typed.value)] in typed_into.evaluate("input => input.validationMessage")
        else:
            page.get_by_text(typed.form).first.wait_for()
        assert not page.get_by_text("does not match").count()

    assert len(stack.flow_runs("card-risk")) == before


@pytest.mark.parametrize("ui", UIS)
def test_blanks_around_a_value_do_not_matter(page: Any, stack: Stack, ui: str) -> None:
    open_form(page, stack, ui, mode="backfill", dry_run=True)
    field(page, ui, "Begin of the range").fill(" 2026-1-2 06:00 ")
    field(page, ui, "Model").fill(" card-risk@champion ")

    run = wait_for_run(stack, submit(page))

    assert run["name"] == "card-risk backfill from 2026-01-02 06:00 (dry run)"
    assert run["state"]["type"] == "COMPLETED", run["state"]


@pytest.mark.parametrize("ui", UIS)
def test_the_run_names_every_field_that_the_form_could_not_judge(page: Any, stack: Stack, ui: str) -> None:
    open_form(page, stack, ui, mode="backfill")
    field(page, ui, "Begin of the range").fill("2026-02-30")
    field(page, ui, "Model").fill("deep=card-risk@1")

    run = wait_for_run(stack, submit(page))

    assert run["name"] == "card-risk backfill"
    assert (run["state"]["type"], run["state"]["message"]) == (
        "FAILED",
        "Begin of the range: `2026-02-30` is not a date. Write 2026-01-31 or 2026-01-31T06:00. "
        "Model: `deep=card-risk@1` is chosen for a step that is not there. Known: `score`.",
    )


@pytest.mark.parametrize("ui", UIS)
def test_the_only_pipeline_to_choose_is_the_deployments_own(page: Any, stack: Stack, ui: str) -> None:
    open_form(page, stack, ui)
    button, option = CHOICES[ui]

    chosen = page.locator(button).filter(has_text=re.compile("^card-risk$")).last if ui else page.locator(button).first
    chosen.focus()
    page.keyboard.press("Space")
    page.locator(option).first.wait_for()

    assert [text.strip() for text in page.locator(option).all_inner_texts()] == ["card-risk"]
