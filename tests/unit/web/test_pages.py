"""What the pages show of a project that has scored some days."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from penstock.ledger.reader import list_runs
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from tests.conftest import DIALECTS
from tests.driver import Driver
from tests.integration.test_reasons import REASONS
from tests.shop import SPEC, Place
from tests.unit.web.conftest import NOW, Browser, MakeBrowser


@pytest.fixture(params=DIALECTS)
def browser(make_place: Callable[..., Place], make_browser: MakeBrowser, request: pytest.FixtureRequest) -> Browser:
    """The pages of a pipeline with three published days, and a fourth one that is missing."""
    place = make_place(request.param, request.param, spec=SPEC + REASONS, days=3, a_day=40)
    Driver(load_pipeline(place.spec), connect, place.registry).run(NOW - timedelta(days=1))
    place.warehouse.engine.dispose()
    return make_browser(place.registry)


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
