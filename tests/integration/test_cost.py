"""What runs cost: measured by each, told by ledger, card and command line."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from penstock.ledger.reader import list_runs, partitions_of
from penstock.report.card import run_card
from penstock.resources.usage import GB
from tests.outcomes import outcome_of
from tests.shop import Place

pytestmark = pytest.mark.usefixtures("prefect_api")


def run_score(place: Place, **parameters: Any) -> Any:
    from penstock.flows.score import score

    return score(str(place.spec), **parameters, return_state=True)


def tell(*arguments: str) -> str:
    from penstock.cli.app import app

    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0, told.output
    return told.stdout


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PRICE_CPU_HOUR", "3600")  # a unit for a second
    monkeypatch.setenv("PENSTOCK_PRICE_GB_HOUR", "1")


def test_a_run_tells_what_it_read_wrote_and_took_and_its_partitions_add_up(
    priced: None, make_place: Callable[..., Place]
) -> None:
    place = make_place()

    assert run_score(place, end="2026-01-02").is_completed()

    [run] = list_runs(place.warehouse)
    loaded = partitions_of(place.warehouse, run.run_id)
    assert run.bytes_read == sum(p.bytes_read for p in loaded)
    assert run.bytes_written == sum(p.bytes_written for p in loaded)
    assert 250 * 40 < run.bytes_read < 250 * 200  # seven columns, most of them of eight bytes
    assert 0 < run.bytes_written < run.bytes_read
    assert {p.process for p in loaded} == {run.lease_owner}
    assert run.processes == 1
    assert run.peak_bytes >= max(p.peak_bytes for p in loaded) > 2**20
    assert 0 < max(p.cpu_seconds for p in loaded) <= run.cpu_seconds
    rented = run.peak_bytes / GB * run.seconds / 3600
    assert run.cost == pytest.approx(run.cpu_seconds + rented, rel=0.05)


def test_cost_is_told_by_the_card_and_the_command_line(priced: None, make_place: Callable[..., Place]) -> None:
    place = make_place()
    run_score(place, end="2026-01-02")
    [run] = list_runs(place.warehouse)

    card, page = run_card(place.warehouse, run.run_id), tell("show", run.run_id)
    [listed], details = json.loads(tell("runs", "--json")), json.loads(tell("show", run.run_id, "--json"))

    for text in (card, page):
        assert "peak memory" in text
        assert f"{run.cost:.4g}" in text
        assert f"{run.cost_per_million:.4g}" in text
    for told in (listed, details):
        assert (told["cpu_seconds"], told["cost"]) == (run.cpu_seconds, run.cost)
        assert told["cost_per_million"] == run.cost / 250 * 1e6
    assert details["loaded_partitions"][0]["bytes_read"] > 0
    assert max(map(len, page.splitlines())) <= 100


def test_without_prices_and_rows_nothing_is_made_up(make_place: Callable[..., Place]) -> None:
    place = make_place(days=1)

    assert outcome_of(run_score(place, start="2026-01-02", end="2026-01-03")) == "halted"

    [run] = list_runs(place.warehouse)
    assert run.cpu_seconds > 0
    assert (run.bytes_read, run.cost, run.cost_per_million) == (0, None, None)
    assert "cost" not in run_card(place.warehouse, run.run_id)
