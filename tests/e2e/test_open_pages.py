"""`penstock up` on a DuckDB warehouse, with schedules that fire each minute and the pages open: no run fails."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import BROWSER, Stack, browser_page, make_project, run_up

pytestmark = BROWSER
MINUTES = float(os.environ.get("OPEN_PAGES_MINUTES", "10"))
PAUSE_SECONDS = 1.0
"""Between two loads of a page: a person who clicks without rest."""
BUSY = 503
TERMINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
TICKERS = ("ticker", "ticker-2")


@pytest.fixture
def duckdb_stack(tmp_path: Path) -> Iterator[Stack]:
    """Two pipelines that are due every minute, and write to one DuckDB file."""
    make_project(tmp_path)
    with (tmp_path / ".env").open("a") as settings:
        settings.write("PENSTOCK_CONNECTIONS__WAREHOUSE=duckdb:///warehouse.duckdb\n")
    first = tmp_path / "pipelines" / "ticker.yaml"
    text = first.read_text().replace("ticker_scores", "ticker_2_scores").replace("name: ticker", "name: ticker-2")
    first.with_name("ticker-2.yaml").write_text(text)
    with run_up(tmp_path) as started:
        yield started


@pytest.mark.soak(sampled=False)
@pytest.mark.timeout(60 * MINUTES + 600)
def test_no_run_fails_while_the_pages_are_open(duckdb_stack: Stack) -> None:
    with browser_page(duckdb_stack.pages) as page:
        loads = look_around(page, duckdb_stack.pages, 60 * MINUTES)

    ended = [run for name in TICKERS for run in duckdb_stack.flow_runs(name) if run["state_type"] in TERMINAL]
    states = Counter(run["state_name"] for run in ended)
    wrong = [run["state"]["message"] for run in ended if run["state_name"] != "Completed"]
    seconds = sorted(took for _, took in loads)
    busy = sum(status == BUSY for status, _ in loads)
    figures = (
        f"{MINUTES:g} minutes: flow runs {dict(states)} {wrong}, {len(loads)} pages, {busy} of them busy, "
        f"seconds a page: median {seconds[len(seconds) // 2]:.2f}, "
        f"95 % {seconds[int(0.95 * len(seconds))]:.2f}, longest {seconds[-1]:.2f}"
    )
    print(figures)  # noqa: T201 (what a soak of ten minutes has shown, with `-s`)
    assert wrong == [], figures
    assert len(ended) >= len(TICKERS) * (MINUTES - 2), figures  # the first start and the last run are left out
    assert busy <= 0.2 * len(loads), figures  # such a page says when to come again


def look_around(page: Any, url: str, seconds: float) -> list[tuple[int, float]]:
    """Load the pages one after another. Return the status of each load and the seconds that it took."""
    paths = ["", "pipelines/ticker", "NEWEST RUN", "pipelines/ticker-2", "halted", "quarantine", "models", "explain"]
    paths += ["explain?pipeline=ticker&key=7", "pipelines/ticker/try"]
    until, loads, newest = time.monotonic() + seconds, [], ""
    for path in cycle(paths):
        begun = time.monotonic()
        if begun > until:
            return loads
        answer = page.goto(f"{url}/{newest if path == 'NEWEST RUN' else path}")
        loads.append((answer.status, time.monotonic() - begun))
        assert answer.status in (200, BUSY), page.locator("main").inner_text()
        runs = page.locator('main a[href*="/runs/"]')
        newest = runs.first.get_attribute("href").removeprefix("/ui/") if runs.count() else ""
        page.wait_for_timeout(1_000 * PAUSE_SECONDS)
    raise AssertionError("a cycle does not end")
