"""The run card of files with rows that cannot be read, in both user interfaces of Prefect."""

import os
import subprocess
import sys
from typing import Any

import pytest

from tests.e2e.stack import BROWSER, UIS, Stack, keep_picture
from tests.waiting import SECONDS

pytestmark = BROWSER

LINES = """
name: lines
sources:
  payments: {kind: files, path: payments/*.csv, format: csv, key: [payment_id], max_malformed: 0.2,
    columns: {amount: number}}
model: card-risk@champion
destination: {table: lines_scores, keep: [amount]}
quarantine_limit: 0.2
"""
HEADER = "payment_id,amount,items,country,first"


@pytest.fixture(scope="module")
def card(stack: Stack) -> dict[str, Any]:
    """The card of a run that refused four lines of a hundred."""
    rows = [f'{n},{n}.5,2,"DE",true' for n in range(1, 101)]
    rows[3], rows[9], rows[19], rows[29] = "4,1,2,DE", '10,1,2,"DE,true', "20,much,2,DE,true", HEADER
    (stack.folder / "payments").mkdir()
    (stack.folder / "payments/a.csv").write_text("\n".join([HEADER, *rows, ""]))
    (stack.folder / "lines.yaml").write_text(LINES)
    environment = os.environ | {"PREFECT_API_URL": f"{stack.url}/api"}
    command = [sys.executable, "-c", "from penstock.cli import main; main()"]
    ran = subprocess.run(
        [*command, "run", "lines.yaml"], cwd=stack.folder, env=environment, capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    wanted = {"artifacts": {"key": {"any_": ["run-card-lines"]}}, "sort": "CREATED_DESC"}
    return dict(stack.api("artifacts/filter", wanted)[0])


@pytest.mark.parametrize("ui", UIS)
def test_the_run_card_shows_the_refused_lines_with_their_reasons(
    page: Any, stack: Stack, card: dict[str, Any], ui: str
) -> None:
    page.goto(f"{ui}/artifacts/artifact/{card['id']}")

    wanted = ("4 fields instead of 5", "repeats the header", "a quote that is not closed", "does not fit the type")
    for text in ("max_malformed", *wanted, "a.csv"):
        page.get_by_text(text).first.wait_for()
    keep_picture(page, f"refused{ui.replace('/', '-')}", whole=True)
