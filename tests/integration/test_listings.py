"""Listings say what they cut, name the zone of each time, and stay readable on a narrow terminal."""

import json
import re
from collections.abc import Callable

import pytest
from rich.console import Console
from typer.testing import CliRunner

from penstock.cli import runs as runs_command
from penstock.cli.app import app
from penstock.spec.yaml_file import parse_pipeline
from tests.large_ledger import fill_ledger
from tests.shop import SPEC, Place

QUARTERS = parse_pipeline(SPEC.replace("grain: 1d", "grain: 15m").encode(), "x")
COUNT = 300


@pytest.fixture
def place(make_place: Callable[..., Place]) -> Place:
    """A place whose ledger has three hundred runs."""
    made = make_place(a_day=1)
    fill_ledger(made.warehouse, QUARTERS, COUNT, parts=False)
    return made


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_cut_listing_says_how_many_runs_there_are(place: Place) -> None:
    assert "30 of 300 runs, the newest; `--limit 300` shows all" in invoke("runs")
    assert "30 of 300 runs" in invoke("runs", "card-risk")
    assert "30 of 300 runs" in invoke("runs", "--state", "published")
    assert " of 300" not in invoke("runs", "--limit", "301")
    assert "all 300 runs" in invoke("runs", "--limit", "300")


def test_every_time_has_its_zone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    [run] = json.loads(invoke("runs", "--limit", "1", "--json"))
    listed = ("runs", "--limit", "1")

    assert re.search(r"\d\d:\d\d UTC$", invoke(*listed), re.MULTILINE)
    assert re.search(r"\d\d:\d\d \+0545$", invoke(*listed, "--timezone", "Asia/Kathmandu"), re.MULTILINE)
    assert re.search(r"Started .* \+0545", invoke("show", run["run_id"], "--timezone", "Asia/Kathmandu"))
    monkeypatch.setenv("PENSTOCK_TIMEZONE", "Asia/Tokyo")
    assert re.search(r"\d\d:\d\d JST$", invoke(*listed), re.MULTILINE)
    assert re.search(r"\d\d:\d\d UTC$", invoke(*listed, "--timezone", "UTC"), re.MULTILINE)
    assert run["started_at"].endswith("Z")


def test_a_wrong_zone_is_refused_with_the_nearest_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = CliRunner().invoke(app, ["runs", "--timezone", "Europe/Pari"])
    assert refused.exit_code == 2
    assert "Europe/Paris" in refused.stderr
    monkeypatch.setenv("PENSTOCK_TIMEZONE", "Mars")
    named = CliRunner().invoke(app, ["runs"])
    assert named.exit_code == 2
    assert "PENSTOCK_TIMEZONE cannot be read" in named.stderr


@pytest.mark.parametrize("width", [80, 100])
def test_a_run_stays_in_one_line(place: Place, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    def terminal() -> Console:
        return Console(width=width, force_terminal=True, no_color=True, highlight=False)

    monkeypatch.setattr(runs_command, "console", terminal)

    lines = [line for line in invoke("runs", "--limit", "300").splitlines() if re.match(r"[0-9a-f]{8} ", line)]

    assert len(lines) == COUNT
    assert all(len(line.rstrip()) <= width and "UTC" in line for line in lines)
