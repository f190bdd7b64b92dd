"""What browser tests share: a running `penstock up`, a browser's page, and the form.

With SCREENSHOTS=<folder> the pages are also kept as pictures: `docs/images` comes from here.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from penstock.database.connections import open_database
from penstock.settings import Settings
from tests.prefect_home import prepare_home
from tests.shop import SPEC, payments, train_model, write_payments
from tests.waiting import SECONDS, wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine; install the package `chromium`"),
]
UIS = ("", "/v2")
"""Where Prefect's two user interfaces are: V1 and V2."""
OPENED = "/v2"
"""The one that the server's address opens."""
SCREENSHOTS = os.environ.get("SCREENSHOTS")


@dataclass(frozen=True)
class Stack:
    """A running `penstock up`, and a project folder that it works in."""

    folder: Path
    url: str
    pages: str
    """Address of Penstock's own pages."""

    def api(self, path: str, body: Any = None) -> Any:
        """Ask the API; with a body by POST."""
        url = f"{self.url}/api/{path}"
        with httpx.Client(trust_env=False, timeout=30) as client:
            answer = client.get(url) if body is None else client.post(url, json=body)
        answer.raise_for_status()
        return answer.json()

    def deployment(self, name: str) -> dict[str, Any]:
        return dict(self.api(f"deployments/name/score/{name}"))

    def flow_runs(self, deployment: str) -> list[dict[str, Any]]:
        """Return a deployment's runs that are more than planned, newest first."""
        begun = {"state": {"type": {"not_any_": ["SCHEDULED"]}}}
        wanted = {"deployments": {"name": {"any_": [deployment]}}, "flow_runs": begun, "sort": "START_TIME_DESC"}
        return list(self.api("flow_runs/filter", wanted | {"limit": 50}))


@contextmanager
def run_up(folder: Path) -> Iterator[Stack]:
    """Run `penstock up` in a project."""
    port, pages = free_port(), free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "PREFECT_"))}
    start = [sys.executable, "-c", "from penstock.cli import main; main()"]
    command = [*start, "up", "--port", str(port), "--pages-port", str(pages)]
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "Penstock is up" in (folder / "up.log").read_text() or process.poll() is not None)
        assert process.poll() is None, (folder / "up.log").read_text()
        yield Stack(folder, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{pages}/ui")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(SECONDS)


def penstock(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder. In a project's, it finds the server of `penstock up`."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "PREFECT_"))}
    command = [sys.executable, "-c", "from penstock.cli import main; main()", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`penstock up` in a folder with two pipelines: one that people trigger, one that is due every minute."""
    folder = tmp_path_factory.mktemp("project")
    make_project(folder)
    with run_up(folder) as started:
        yield started


def make_project(folder: Path) -> None:
    """Make a shop, a model and two specs."""
    (folder / ".env").write_text(
        "PENSTOCK_PIPELINES=pipelines\nPENSTOCK_CONNECTIONS__SHOP=sqlite:///shop.db\nPENSTOCK_LEASE_SECONDS=10\n"
    )
    settings = Settings(
        _env_file=None, home=folder / ".penstock", connections={"shop": f"sqlite:///{folder / 'shop.db'}"}
    )
    shop = open_database(settings, "shop")
    write_payments(shop, payments())
    shop.engine.dispose()
    train_model(settings.models_folder)
    prepare_home(settings.home)
    (folder / "pipelines").mkdir()
    nightly = 'schedule: {cron: "15 2 * * *", timezone: Europe/Paris}\n'
    (folder / "pipelines" / "card-risk.yaml").write_text(SPEC + nightly)
    minutely = 'schedule: {cron: "* * * * *"}\n'
    ticker = re.sub("interval: .*\n", "", SPEC)  # a snapshot: each run has something to score
    ticker = ticker.replace("name: card-risk", "name: ticker").replace("card_risk_scores", "ticker_scores")
    (folder / "pipelines" / "ticker.yaml").write_text(ticker + minutely)


@pytest.fixture
def page(stack: Stack) -> Iterator[Any]:
    """A browser's page at Prefect's UI."""
    with browser_page(stack.url) as opened:
        yield opened


@contextmanager
def browser_page(url: str, **options: Any) -> Iterator[Any]:
    """Open a browser's page, by itself as wide as a laptop's. Its paths are those of a server."""
    from playwright.sync_api import sync_playwright

    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-extensions"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        page = browser.new_page(base_url=url, **({"viewport": {"width": 1400, "height": 1000}} | options))
        page.set_default_timeout(SECONDS * 1000)
        yield page
        browser.close()


def open_form(page: Any, stack: Stack) -> None:
    page.goto("/deployments")
    page.get_by_role("link", name="card-risk", exact=True).first.click()
    page.get_by_role("button", name="Run", exact=True).first.click()
    page.get_by_text("Custom run").first.click()
    labelled(page, "Rows of a partition").wait_for()


def form_address(stack: Stack, ui: str, **parameters: Any) -> str:
    """Return the address of the form with parameters filled in."""
    filled = quote(json.dumps({"pipeline": "card-risk"} | parameters))
    return f"{ui}/deployments/deployment/{stack.deployment('card-risk')['id']}/run?parameters={filled}"


def labelled(page: Any, text: str) -> Any:
    """Return a form's field with its label."""
    return page.locator(".p-label").filter(has_text=re.compile(f"^{re.escape(text)}")).last


def fill_range(page: Any, start: str, end: str) -> None:
    choice = labelled(page, "What to score").locator(".p-select-button__control")
    choice.focus()
    page.keyboard.press("Space")
    page.locator(".p-select-option", has_text="backfill").first.click()
    labelled(page, "What to score").locator(".p-select-button__value", has_text="backfill").wait_for()
    labelled(page, "Begin of the range").locator("textarea").fill(start)
    labelled(page, "End of the range").locator("textarea").fill(end)


def submit(page: Any) -> str:
    """Start the run and return its id; where the server is busy, click again as a person would."""

    def started() -> str:
        with page.expect_response(re.compile(r"/create_flow_run$")) as answer:
            page.get_by_role("button", name="Submit").click()
        if answer.value.status == 503:
            page.wait_for_timeout(1000)
            return ""
        return str(answer.value.json()["id"])

    return wait_until(started)


def wait_for_run(stack: Stack, wanted: str) -> dict[str, Any]:
    """Wait until a run has ended, and return it."""

    def ended() -> list[dict[str, Any]]:
        terminal = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        return [run for run in stack.flow_runs("card-risk") if run["id"] == wanted and run["state_type"] in terminal]

    wait_until(lambda: bool(ended()))
    return ended()[0]


def artifact_of(stack: Stack, label: str) -> dict[str, Any]:
    found = stack.api(
        "artifacts/filter", {"artifacts": {"key": {"any_": ["run-card-card-risk"]}}, "sort": "CREATED_DESC"}
    )
    return next(artifact for artifact in found if label in artifact["description"])


def keep_picture(page: Any, name: str, *, whole: bool = False) -> None:
    if SCREENSHOTS:
        page.wait_for_timeout(1_500)  # the UI fades things in
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=whole)


def free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
