"""A walk through all of Penstock's pages on a phone, from an empty folder through `penstock init` and `penstock up`."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from penstock.cli.init.scenario import COUNTRIES
from penstock.models.registry import Registry
from penstock.models.training import train
from tests.e2e.barriers import PHONE, find_barriers
from tests.e2e.stack import BROWSER, Stack, browser_page, keep_picture, penstock, run_up
from tests.prefect_home import prepare_home
from tests.waiting import wait_until

pytestmark = [*BROWSER, pytest.mark.slow]
NAME = "order-returns"
LATER = """
challengers: [{model: order-returns@challenger}]
promotion: {alias: champion, require: {intervals: 1}}
"""
WRONG = (
    "update orders set amount = amount * 20 where date(created_at) = date('now', '-2 days')",
    "update orders set amount = null where order_id in (select max(order_id) from orders"
    " where date(created_at) = date('now', '-1 day'))",
)
"""One day that a gate of the audit halts, and one day with a row that is refused."""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Stack]:
    """What `penstock init` makes, on a DuckDB warehouse, with a challenger and some wrong rows, and `penstock up`."""
    folder = tmp_path / "shop"
    made = penstock(tmp_path, "init", "shop")
    assert made.returncode == 0, made.stderr
    with (folder / ".env").open("a") as settings:
        settings.write("PENSTOCK_CONNECTIONS__WAREHOUSE=duckdb:///warehouse.duckdb\n")
    with (folder / "pipelines" / f"{NAME}.yaml").open("a") as spec:
        spec.write(LATER)
    with closing(sqlite3.connect(folder / "shop.db")) as shop:
        for statement in WRONG:
            assert shop.execute(statement).rowcount > 0, statement
        shop.commit()
    register_challenger(Registry(folder / ".penstock" / "models"))
    prepare_home(folder / ".penstock")
    with run_up(folder) as started:
        yield started


def register_challenger(registry: Registry) -> None:
    rng, rows = np.random.default_rng(5), 400
    amount = rng.lognormal(4, 1, rows)
    features = {
        "amount": amount,
        "items": rng.integers(1, 9, rows),
        "country": pa.array(rng.choice(COUNTRIES, rows)),
        "express": rng.random(rows) < 0.3,
        "hour": rng.integers(0, 24, rows),
        "label": (amount + rng.normal(0, 20, rows) > 55).astype(int),
    }
    train(pa.table(features), "label", rounds=3).register(registry, NAME, alias="challenger")


class Visitor:
    """A person who looks at every page that comes up."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.barriers: dict[str, list[str]] = {}

    def look(self, name: str, heading: str) -> None:
        """Wait for a page by its heading, and note what would keep people from using it."""
        self.page.get_by_role("heading", level=1, name=re.compile(heading)).wait_for()
        found = find_barriers(self.page)
        if found:
            self.barriers[name] = found
        keep_picture(self.page, f"walk-{name}", whole=True)

    def follow(self, link: str, name: str, heading: str) -> None:
        self.page.locator("main, header").get_by_role("link", name=re.compile(link)).first.click()
        self.look(name, heading)

    def press(self, button: str) -> None:
        self.page.get_by_role("button", name=button).click()


def test_every_page_is_reached_and_used_from_an_empty_folder(project: Stack) -> None:
    phone = {"width": PHONE, "height": 740}
    with browser_page(project.pages, viewport=phone) as page:
        visitor = Visitor(page)
        page.goto(f"{project.pages}/")
        visitor.look("nothing-yet", "Pipelines at")
        assert project.pages in (project.folder / "up.log").read_text()
        ran = penstock(project.folder, "run", NAME)
        assert (ran.returncode, ran.stdout.count("published")) == (3, 2), ran.stdout + ran.stderr

        look_at_scores(visitor, project)
        sign_in(visitor, project)
        accept_and_release(visitor)
        approve(visitor, project)
        meet_errors(visitor, project)

        assert visitor.barriers == {}


def look_at_scores(visitor: Visitor, project: Stack) -> None:
    page = visitor.page
    page.reload()
    visitor.look("pipelines", "Pipelines at")
    assert page.get_by_role("link", name="Prefect", exact=True).get_attribute("href") == project.url
    visitor.follow(NAME, "pipeline", NAME)
    visitor.follow(r"^\d\d published", "run", rf"{NAME} .* published")
    visitor.follow("Explain a score", "explain", "Explain a score")
    page.get_by_label("Key").fill("4300")
    visitor.press("Explain")
    visitor.press("Make the reasons now")
    page.get_by_role("heading", name="Reasons").first.wait_for()
    visitor.look("explained", "Explain a score")
    page.goto(f"{project.pages}/pipelines/{NAME}")
    visitor.follow("Compare two scorings", "compare", "Compare two scorings")
    page.get_by_label("A, the scoring before").fill("live")
    page.get_by_label("B, compared with it").fill(f"shadow:{NAME}/2")
    visitor.press("Compare")
    page.get_by_role("heading", name="Scores").wait_for()
    visitor.look("compared", "Compare two scorings")
    page.goto(f"{project.pages}/pipelines/{NAME}")
    visitor.follow("Try a row", "try", "Try a row")
    row = {"created_at": "2026-01-05 08:00:00", "amount": "80", "items": "2", "country": "DE"}
    for name, value in row.items():
        page.get_by_label(re.compile(f"^{name} ")).fill(value)
    page.get_by_role("heading", name="Reasons").wait_for()
    visitor.look("tried", "Try a row")


def sign_in(visitor: Visitor, project: Stack) -> None:
    visitor.follow("Halted", "halted", "Halted runs")
    visitor.follow("Accept", "sign-in-first", "Sign in first")
    visitor.follow("Sign in", "sign-in", "Sign in")
    token = penstock(project.folder, "tokens", "add", "ana", "--role", "approver").stdout.strip()
    visitor.page.get_by_label("Your token").fill("pst_wrong")
    visitor.press("Sign in")
    visitor.page.get_by_role("alert").wait_for()
    visitor.look("wrong-token", "Sign in")
    visitor.page.get_by_label("Your token").fill(token)
    visitor.press("Sign in")
    visitor.page.get_by_text("ana (approver)").wait_for()


def accept_and_release(visitor: Visitor) -> None:
    page = visitor.page
    visitor.follow("Halted", "halted-signed-in", "Halted runs")
    visitor.follow("Accept", "accept", r"Publish \d+ scores")
    page.get_by_label("Why its data are right").fill("the prices are in cents that day")
    visitor.press("Publish the run")
    visitor.look("accepted", rf"{NAME} .* published")
    visitor.follow("Quarantine", "quarantine", "Refused rows")
    visitor.follow("Release", "release", "Release 1 row")
    page.get_by_label("Why").fill("it was a gift")
    visitor.press("Release the rows")
    page.get_by_text("1 released row for the next run").wait_for()
    visitor.look("released", "Refused rows")


def approve(visitor: Visitor, project: Stack) -> None:
    deployment = project.api(f"deployments/name/promote/{NAME}")["id"]
    asking = project.api(f"deployments/{deployment}/create_flow_run", {})["id"]
    wait_until(lambda: project.api(f"flow_runs/{asking}")["state_name"] in ("Suspended", "Failed"))
    visitor.follow("Models", "models", "Models")
    visitor.follow(NAME, "model", f"Model {NAME}")
    visitor.follow("Approve or decline", "answer", "Shall order-returns@champion move from 1 to 2")
    visitor.page.get_by_label("Why").fill("it has seen more countries")
    visitor.press("Approve")
    visitor.look("approved", f"Model {NAME}")
    assert Registry(project.folder / ".penstock" / "models").aliases(NAME)["champion"] == "2"
    wait_until(lambda: project.api(f"flow_runs/{asking}")["state_type"] == "CANCELLED")


def meet_errors(visitor: Visitor, project: Stack) -> None:
    page = visitor.page
    for name, path, heading, status in (
        ("no-page", "nothing", "Not Found", 404),
        ("no-run", "runs/none", "Not found", 404),
        ("wrong-month", f"pipelines/{NAME}?month=x", "This month cannot be read", 400),
    ):
        assert page.goto(f"{project.pages}/{path}").status == status
        visitor.look(name, heading)
    with duckdb.connect(str(project.folder / "warehouse.duckdb")):
        assert page.goto(f"{project.pages}/").status == 503
        visitor.look("busy", "The database is busy")
    visitor.follow("Load again", "again", "Pipelines at")
