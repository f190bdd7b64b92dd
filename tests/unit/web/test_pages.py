"""What the pages show of a project that has scored some days."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from penstock.ledger.destinations import destination_name
from penstock.ledger.reader import list_runs
from penstock.ledger.tables import deliveries, delivery_batches
from penstock.models.registry import Registry
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from tests.conftest import DIALECTS
from tests.driver import Driver
from tests.integration.test_reasons import REASONS
from tests.shop import SPEC, Place
from tests.unit.web.conftest import NOW, Browser, MakeBrowser, words_of


@pytest.fixture(params=DIALECTS)
def browser(make_place: Callable[..., Place], make_browser: MakeBrowser, request: pytest.FixtureRequest) -> Browser:
    """The pages of a pipeline with three published days, and a fourth one that is missing."""
    place = make_place(request.param, request.param, spec=SPEC + REASONS, days=3, a_day=40)
    Driver(load_pipeline(place.spec), connect, place.registry).run(NOW - timedelta(days=1))
    place.warehouse.engine.dispose()
    return make_browser(place.registry)


@pytest.mark.parametrize("month", ["9999-12", "0001-01", "2026", "2026-13", "%00"])
def test_a_month_that_no_calendar_shows_is_refused(make_browser: MakeBrowser, registry: Registry, month: str) -> None:
    browser = make_browser(registry)
    (browser.context.settings.pipelines / "card-risk.yaml").write_text(SPEC)

    assert "Write it as 2026-03." in browser.words(f"/pipelines/card-risk?month={month}", 400)


def test_every_page_of_a_project(browser: Browser) -> None:
    run = next(iter(list_runs(connect("warehouse"))))
    connect("warehouse").engine.dispose()

    assert "card-risk" in browser.words("/")
    assert "2026-01-03 → 01-04" in browser.words("/")
    assert "✓ published" in browser.words("/pipelines/card-risk?month=2026-01")
    assert "! missing" in browser.words("/pipelines/card-risk?month=2026-01")
    assert "card-risk 2026-01-03 → 01-04: ✓ published" in browser.words(f"/runs/{run.run_id}")
    assert "Explain a score" in browser.words("/explain")
    explained = browser.words("/explain?pipeline=card-risk&key=1")
    assert "card-risk: payment_id 1" in explained
    assert "No interval waits" in browser.words("/halted")
    assert "Refused rows" in browser.words("/quarantine")
    assert "champion" in browser.words("/models")
    assert "Moves of aliases" in browser.words("/models/card-risk")


def test_a_calendar_has_all_minutes_of_a_month_and_tells_skipped_ones(
    make_place: Callable[..., Place], make_browser: MakeBrowser
) -> None:
    minutes = SPEC.replace("grain: 1d", "grain: 1m, catch_up: latest").replace("lookback: 2", "lookback: 0")
    place = make_place("sqlite", "sqlite", spec=minutes, days=1, a_day=40)
    browser = make_browser(place.registry)

    words = browser.words("/pipelines/card-risk?month=2026-01&day=2026-01-05")

    assert "01 – 1440 skipped" in words
    assert "31 1440 waiting" in words
    assert "05 ! 479 skipped, 1 missing, 960 waiting" in words


def test_a_ledger_that_cannot_be_read_leaves_the_other_pipelines_shown(
    make_place: Callable[..., Place], make_browser: MakeBrowser
) -> None:
    place = make_place("sqlite", "sqlite", days=1, a_day=40)
    elsewhere = SPEC.replace("name: card-risk", "name: elsewhere").replace("connection: warehouse", "connection: gone")
    place.spec.with_name("elsewhere.yaml").write_text(elsewhere)
    browser = make_browser(place.registry)

    for page in ("/", "/halted", "/quarantine"):
        words = browser.words(page)
        assert "elsewhere: its ledger cannot be read: connection `gone`" in words
    assert "card-risk" in browser.words("/")


def test_a_calendar_shows_the_runs_of_its_destination(
    make_place: Callable[..., Place], make_browser: MakeBrowser
) -> None:
    place = make_place("sqlite", "sqlite", days=1, a_day=40)
    Driver(load_pipeline(place.spec), connect, place.registry).run(NOW - timedelta(days=3))
    place.spec.with_name("same.yaml").write_text(SPEC.replace("name: card-risk", "name: same"))
    other = SPEC.replace("name: card-risk", "name: other").replace("table: card_risk_scores", "table: other_scores")
    place.spec.with_name("other.yaml").write_text(other)
    browser = make_browser(place.registry)

    assert "01 ✓ published" in browser.words("/pipelines/same?month=2026-01")
    assert "01 ! missing" in browser.words("/pipelines/other?month=2026-01")


DELIVERIES = """
deliver:
  - {kind: http, name: crm, url: crm}
  - {kind: http, name: mail, url: mail}
"""


def test_a_pipeline_shows_the_newest_delivery_of_its_table_with_the_reply_of_its_card(
    make_place: Callable[..., Place], make_browser: MakeBrowser
) -> None:
    place = make_place("sqlite", "sqlite", spec=SPEC, days=1, a_day=40)
    Driver(load_pipeline(place.spec), connect, place.registry).run(NOW - timedelta(days=3))
    place.spec.write_text(SPEC + DELIVERIES)
    with place.warehouse.writing() as connection:
        here = destination_name(connection, load_pipeline(place.spec).destination)
        write_delivery(connection, "crm", here, 1, "merged", missing=6)
        for target in ("crm", "mail"):
            write_delivery(connection, target, "main.former_scores", 2, "of the former table", missing=0)
    words = make_browser(place.registry).words("/pipelines/card-risk?month=2026-01")

    assert "crm ✓ acknowledged snapshot – 40 0 merged; 6 keys not in its table" in words
    assert "mail waiting nothing yet" in words
    assert "of the former table" not in words


def write_delivery(
    connection: sa.Connection, target: str, destination: str, sequence: int, reply: str, missing: int
) -> None:
    """Write a delivery of 40 rows that a target has acknowledged, an hour after the one before."""
    whole = {"delivery_id": f"{target}-{sequence}", "state": "acknowledged"}
    of = {"pipeline": "card-risk", "destination": destination, "target": target, "interval_key": "snapshot"}
    counts = {"sequence": sequence, "definition": "", "upserts": 40, "deletes": 0}
    connection.execute(
        sa.insert(deliveries).values(**whole, **of, **counts, planned_at=NOW + timedelta(hours=sequence))
    )
    batch = {"batch": 1, "last_key": "", "rows": 40, "attempts": 1, "reply": reply, "missing": missing}
    connection.execute(sa.insert(delivery_batches).values(**whole, **batch))


def test_reasons_are_made_by_a_form_and_by_no_link(make_place: Callable[..., Place], make_browser: MakeBrowser) -> None:
    place = make_place("sqlite", "sqlite", days=1, a_day=40)
    Driver(load_pipeline(place.spec), connect, place.registry).run(NOW - timedelta(days=3))
    browser = make_browser(place.registry)
    page = "/explain?pipeline=card-risk&key=1"

    assert "made now, from the same score" not in browser.words(f"{page}&make=1")
    assert "made now, from the same score" in words_of(browser.fill_in(page).text)
