"""Which intervals of a range a backfill still has to score."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock.errors import SettingsError
from penstock.interval import DataInterval
from penstock.ledger.coverage import NOTHING_DONE
from penstock.ledger.destinations import PlacedRun
from penstock.run.planning import Plan, plan_range
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import parse_pipeline
from tests.shop import SPEC
from tests.unit.run.test_planning import GRID, cover, coverage, placed

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
NOW = START + 100 * DAY


def pipeline(**changed: Any) -> Pipeline:
    data = parse_pipeline(SPEC.encode(), "x").model_dump(mode="json", by_alias=True)
    return Pipeline.model_validate(data | changed)


def record(day: int, started: datetime = START) -> PlacedRun:
    return placed(DataInterval(START + day * DAY, START + (day + 1) * DAY), started=started)


def days_of(plan: Plan) -> list[int]:
    return [(each.interval.start - START).days for each in plan.intervals if each.interval]


def test_a_backfill_takes_all_that_is_missing_beyond_the_intervals_of_one_run() -> None:
    plan = plan_range(pipeline(), cover(record(3)), NOW, None, None, None)

    assert days_of(plan) == [day for day in range(100) if day != 3]
    assert (plan.published, plan.left_over) == (1, 0)


def test_a_backfill_leaves_withdrawn_intervals_alone() -> None:
    plan = plan_range(pipeline(), coverage(withdrawn=[1]), NOW, START, START + 3 * DAY, None)

    assert (days_of(plan), plan.withdrawn) == ([0, 2], 1)


def test_a_restate_takes_what_was_not_scored_since_it_was_asked_for() -> None:
    records = cover(record(0, NOW - DAY), record(1, NOW), withdrawn=[GRID[2]])

    plan = plan_range(pipeline(), records, NOW, START, START + 4 * DAY, NOW)

    assert (days_of(plan), plan.published) == ([0, 2, 3], 1)


def test_a_snapshot_pipeline_has_no_range() -> None:
    with pytest.raises(SettingsError, match=r"is a snapshot pipeline and has no intervals\. Score its whole source"):
        plan_range(pipeline(interval=None), NOTHING_DONE, NOW, START, NOW, None)


def test_a_restate_needs_a_range() -> None:
    with pytest.raises(SettingsError, match="a restate needs a range"):
        plan_range(pipeline(), NOTHING_DONE, NOW, START, None, NOW)
