"""A run that would take more than its spec allows halts before it reads a row, on a schedule as by hand."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from penstock.ledger.reader import RunRecord, list_runs, partitions_of
from tests.outcomes import outcome_of
from tests.shop import SPEC, Place

pytestmark = pytest.mark.usefixtures("prefect_api")


def run_score(place: Place, **parameters: Any) -> Any:
    from penstock.flows.score import score

    return score(str(place.spec), **parameters, return_state=True)


def allow(place: Place, budget: str) -> None:
    place.spec.write_text(f"{SPEC}budget: {budget}\n")


def tell(*arguments: str, code: int = 0) -> str:
    from penstock.cli.app import app

    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == code, told.output
    return told.output


def slow_down(place: Place) -> None:
    """Let the past runs have taken an hour each, and much of the processor."""
    hour = sa.text("update penstock_runs set started_at = datetime(finished_at, '-1 hour'), cpu_seconds = 3600")
    with place.warehouse.writing() as connection:
        connection.execute(hour)


def newest(place: Place) -> RunRecord:
    return list_runs(place.warehouse)[0]


def test_too_many_rows_halt_before_a_row_is_read_and_a_raised_budget_lets_them_through(
    make_place: Callable[..., Place],
) -> None:
    place = make_place(days=1)
    allow(place, "{rows: 249}")

    state = run_score(place, end="2026-01-02")

    run = newest(place)
    assert (outcome_of(state), run.state) == ("halted", "halted")
    for told in (state.message, run.error):
        assert "250 rows are more than the 249 of `budget.rows`" in told
        assert "No row was read" in told
        assert "raise `budget:`" in told
    assert (run.rows_planned, run.bytes_read, partitions_of(place.warehouse, run.run_id)) == (250, 0, [])

    allow(place, "{rows: 250}")
    assert run_score(place, end="2026-01-02").is_completed()
    assert newest(place).state == "published"


def test_time_and_cost_are_held_to_what_past_runs_took(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.tasks.process_resources import settings

    monkeypatch.setenv("PENSTOCK_PRICE_CPU_HOUR", "2")
    place = make_place()
    allow(place, "{minutes: 1, cost: 1.5}")
    assert run_score(place, end="2026-01-02").is_completed()  # nothing is known yet of how long it takes
    slow_down(place)

    state = run_score(place, end="2026-01-03")

    assert outcome_of(state) == "halted"
    assert "it would take 60 min, by 1 past run, and `budget.minutes` is 1" in state.message
    assert "it would cost 2, by 1 past run, and `budget.cost` is 1.5" in state.message

    allow(place, "{minutes: 61, cost: 1.5}")
    monkeypatch.delenv("PENSTOCK_PRICE_CPU_HOUR")
    settings.cache_clear()
    unpriced = run_score(place, end="2026-01-03")
    assert unpriced.name == "Failed"
    assert "PENSTOCK_PRICE_CPU_HOUR" in newest(place).error


def test_a_plan_tells_time_and_cost_from_past_runs_and_what_exceeds_the_budget(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_PRICE_CPU_HOUR", "2")
    place = make_place()
    allow(place, "{rows: 300}")
    assert "no estimate: no past run" in tell("plan", str(place.spec))
    run_score(place, end="2026-01-02")
    slow_down(place)
    allow(place, "{rows: 300, minutes: 59.5}")

    told, plan = tell("plan", str(place.spec)), json.loads(tell("plan", str(place.spec), "--json"))

    assert "estimate: 2.0 h" in told
    assert "2.0 h CPU" in told
    assert "cost 4 (from 1 past run)" in told
    assert told.count("would halt over budget: it would take 60 min") == 2
    assert max(map(len, (line for line in told.splitlines() if "budget" not in line))) <= 100
    first = plan["intervals"][0]
    assert first["estimate"]["cpu_seconds"] == 3600.0
    assert first["estimate"]["cost"] == 2.0
    assert len(first["over_budget"]) == 1


def test_the_command_ends_with_3_where_the_budget_halts(make_place: Callable[..., Place]) -> None:
    place = make_place(days=1)
    allow(place, "{rows: 10}")

    told = tell("run", str(place.spec), "--end", "2026-01-02", code=3)

    assert "budget.rows" in told
    assert "raise `budget:`" in told
