"""Intervals of a zone's calendar in real ledgers: what is done, what overlaps, which dates people see and give."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.database.connections import Database, open_database
from penstock.errors import OverlappingRuns
from penstock.ledger.claims import ClaimRequest, claim
from penstock.ledger.coverage import read_coverage
from penstock.ledger.reader import find_run, list_runs
from penstock.ledger.writer import Totals, publish
from penstock.run.planning import Plan, PlanRequest, plan_intervals
from penstock.run_types import ModelPin
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import parse_pipeline
from tests.conftest import DIALECTS
from tests.shop import SPEC

LINE = "interval: {column: created_at, grain: 1d, start: 2026-01-01T00:00:00Z, lookback: 3}"
BERLIN = "timezone: Europe/Berlin, start: 2026-03-01T00:00"
NOW = datetime(2026, 4, 20, tzinfo=UTC)
MODEL = ModelPin("card-risk", "1", "d" * 64)


@pytest.fixture(params=DIALECTS)
def warehouse(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(warehouse=database_url(request.param, "warehouse")), "warehouse")


def spec_of(interval: str) -> str:
    assert LINE in SPEC
    return SPEC.replace(LINE, f"interval: {{column: created_at, {interval}}}")


def pipeline(interval: str) -> Pipeline:
    return parse_pipeline(spec_of(interval).encode(), "card-risk.yaml")


def plan(database: Database, spec: Pipeline, now: datetime = NOW, fingerprint: str = "same", **range_: Any) -> Plan:
    return plan_intervals(PlanRequest(spec, read_coverage(database, spec), now, lambda _: fingerprint, **range_))


def score(database: Database, spec: Pipeline, now: datetime = NOW, **range_: Any) -> list[str]:
    """Publish what is planned; return the labels in the ledger."""
    labels = []
    for planned in plan(database, spec, now, **range_).intervals:
        request = ClaimRequest(spec, planned.interval, MODEL, planned.reason, 60.0, again=planned.again)
        run = claim(database, request)
        assert run is not None
        publish(database, run, Totals(10, 9, 1, 0), [])
        recorded = find_run(database, run.run_id).interval
        assert recorded is not None
        labels.append(recorded.label)
    return labels


def test_days_of_a_zone_are_done_as_the_month_that_they_make_up(warehouse: Database) -> None:
    daily = pipeline(f"grain: 1d, {BERLIN}, max_intervals: 100")
    monthly = pipeline(f"grain: month, {BERLIN}")

    first = score(warehouse, daily, datetime(2026, 3, 30, 22, tzinfo=UTC))
    assert (len(first), first[28], first[-1]) == (30, "2026-03-29 → 03-30", "2026-03-30 → 03-31")
    assert [p.label for p in plan(warehouse, monthly).intervals] == ["2026-03-01 → 04-01"]
    score(warehouse, daily, datetime(2026, 3, 31, 22, tzinfo=UTC))

    assert plan(warehouse, monthly).intervals == ()
    assert plan(warehouse, monthly).published == 1


def test_a_changed_zone_overlaps_what_is_published_and_is_refused(warehouse: Database) -> None:
    score(warehouse, pipeline("grain: 1d, start: 2026-03-01, max_intervals: 3"))
    local = pipeline(f"grain: 1d, {BERLIN}, max_intervals: 3")

    with pytest.raises(OverlappingRuns, match=r"2026-03-0[14] → 03-0[25]"):
        plan(warehouse, local)


def test_late_rows_of_a_day_of_a_zone_are_shown_with_its_date(warehouse: Database) -> None:
    daily = pipeline(f"grain: 1d, {BERLIN}, lookback: 2, max_intervals: 100")
    score(warehouse, daily)

    late = plan(warehouse, daily, fingerprint="other")

    assert [(p.label, p.reason) for p in late.intervals] == [
        ("2026-04-18 → 04-19", "late rows"),
        ("2026-04-19 → 04-20", "late rows"),
    ]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])  # one on each side of UTC
def test_a_month_is_withdrawn_by_its_local_dates_and_no_neighbour_with_it(
    warehouse: Database, tmp_path: Path, zone: str
) -> None:
    file = tmp_path / "card-risk.yaml"
    interval = f"grain: month, timezone: {zone}, start: 2026-03-01T00:00"
    file.write_text(spec_of(interval))
    assert score(warehouse, pipeline(interval), NOW + timedelta(days=60)) == [
        "2026-03-01 → 04-01",
        "2026-04-01 → 05-01",
        "2026-05-01 → 06-01",
    ]

    asked = ["withdraw", "--pipeline", str(file), "--start", "2026-04-01", "--end", "2026-05-01", "--yes"]
    done = CliRunner().invoke(app, asked)

    assert (done.exit_code, done.exception) == (0, None), done.output
    assert "2026-04-01 → 05-01" in done.output
    gone = [run.interval for run in list_runs(warehouse, states=("withdrawn",))]
    assert [interval.label for interval in gone if interval] == ["2026-04-01 → 05-01"]
