"""Which intervals a run takes: pure decisions, tried without a database."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock.errors import SettingsError
from penstock.interval import DataInterval, Grid, merge
from penstock.ledger.coverage import NOTHING_DONE, Coverage
from penstock.ledger.destinations import PlacedRun
from penstock.run.planning import Plan, PlanRequest, plan_intervals
from penstock.run_types import Horizon
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import parse_pipeline
from tests.shop import SPEC

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
NOW = START + 10 * DAY + timedelta(hours=3)
GRID = Grid(START, DAY).split(NOW)


def pipeline(**interval: Any) -> Pipeline:
    base = parse_pipeline(SPEC.encode(), "x")
    data = base.model_dump(mode="json", by_alias=True)
    data["interval"] |= {"lookback": 0} | interval
    return Pipeline.model_validate(data)


def coverage(
    *days: int, withdrawn: Sequence[int] = (), fingerprint: str = "same", started: datetime = START
) -> Coverage:
    """The coverage of a ledger with these days published."""
    live = [placed(GRID[day], fingerprint, started) for day in days]
    return cover(*live, withdrawn=[GRID[day] for day in withdrawn])


def placed(interval: DataInterval | None, fingerprint: str = "same", started: datetime = START) -> PlacedRun:
    run_id = interval.key if interval else "snapshot"
    return PlacedRun(run_id, "card-risk", interval, fingerprint, started, "", started)


def cover(*live: PlacedRun, withdrawn: Sequence[DataInterval] = ()) -> Coverage:
    spans = merge(run.interval for run in live if run.interval)
    return Coverage(tuple(spans), tuple(withdrawn), lambda i: [run for run in live if run.overlaps(i)])


def days_of(plan: Plan) -> list[int]:
    return [(p.interval.start - START).days for p in plan.intervals if p.interval]


def same(_: DataInterval) -> str:
    return "same"


def test_all_intervals_that_are_over_and_not_published_are_due_oldest_first() -> None:
    plan = plan_intervals(PlanRequest(pipeline(), coverage(0, 1, 5), NOW, same))
    assert days_of(plan) == [2, 3, 4, 6, 7, 8, 9]
    assert plan.published == 3


def test_an_interval_is_not_due_before_its_delay_has_passed() -> None:
    assert days_of(plan_intervals(PlanRequest(pipeline(delay="4h"), coverage(*range(9)), NOW, same))) == []
    assert days_of(plan_intervals(PlanRequest(pipeline(delay="3h"), coverage(*range(9)), NOW, same))) == [9]


def test_nothing_is_due_before_the_first_interval_is_over() -> None:
    assert plan_intervals(PlanRequest(pipeline(), NOTHING_DONE, START + timedelta(hours=5), same)).intervals == ()


def test_latest_leaves_the_missed_ones_out() -> None:
    plan = plan_intervals(PlanRequest(pipeline(catch_up="latest"), coverage(0), NOW, same))
    assert (days_of(plan), plan.published, plan.passed_over) == ([9], 1, 8)


def test_no_more_than_max_intervals_are_taken_and_the_rest_is_told() -> None:
    plan = plan_intervals(PlanRequest(pipeline(max_intervals=3), NOTHING_DONE, NOW, same))
    assert (days_of(plan), plan.left_over) == ([0, 1, 2], 7)


def test_late_rows_bring_back_only_the_watched_intervals_that_changed() -> None:
    asked: list[int] = []

    def fingerprint_of(interval: DataInterval) -> str:
        asked.append((interval.start - START).days)
        return "other" if asked[-1] == 8 else "same"

    plan = plan_intervals(PlanRequest(pipeline(lookback=3), coverage(*range(10)), NOW, fingerprint_of))

    assert [(p.reason, p.again) for p in plan.intervals] == [("late rows", True)]
    assert days_of(plan) == [8]
    assert asked == [7, 8, 9]


def test_a_late_interval_inside_a_missing_one_is_not_scored_twice() -> None:
    weeks = pipeline(grain="7d", lookback=1)
    plan = plan_intervals(PlanRequest(weeks, coverage(0, 1, 2), NOW, lambda _: "other"))
    assert [(p.label, p.reason) for p in plan.intervals] == [("2026-01-01 → 01-08", "due")]


def test_late_runs_of_a_finer_grain_before_are_not_counted_as_intervals_of_the_grid() -> None:
    weeks = pipeline(grain="7d", lookback=1)
    plan = plan_intervals(PlanRequest(weeks, coverage(*range(7)), NOW, lambda _: "other"))
    assert (len(plan.intervals), {p.reason for p in plan.intervals}, plan.published) == (7, {"late rows"}, 0)


def test_a_withdrawn_interval_waits_for_a_restate() -> None:
    records = coverage(*range(9), withdrawn=[9])
    plan = plan_intervals(PlanRequest(pipeline(lookback=3), records, NOW, lambda _: "same"))
    assert (plan.intervals, plan.withdrawn, plan.published) == ((), 1, 9)

    again = plan_intervals(PlanRequest(pipeline(), records, NOW, same, "restate", GRID[9].start, GRID[9].end))
    assert [(p.reason, p.again) for p in again.intervals] == [("restate", True)]


def test_a_range_bounds_what_is_taken_and_a_naive_bound_is_utc() -> None:
    days = datetime(2026, 1, 3), datetime(2026, 1, 5)  # noqa: DTZ001
    plan = plan_intervals(PlanRequest(pipeline(), NOTHING_DONE, NOW, same, "due", *days))
    assert days_of(plan) == [2, 3]


BERLIN = {"timezone": "Europe/Berlin", "start": "2026-01-01T00:00"}


def months_of(plan: Plan) -> list[str]:
    return [p.label for p in plan.intervals]


def test_a_month_of_a_zone_is_due_when_it_is_over_there() -> None:
    monthly = pipeline(grain="month", delay="1h", **BERLIN)
    end_of_march = datetime(2026, 3, 31, 22, tzinfo=UTC)
    before = plan_intervals(PlanRequest(monthly, NOTHING_DONE, end_of_march + timedelta(minutes=59), same))
    after = plan_intervals(PlanRequest(monthly, NOTHING_DONE, end_of_march + timedelta(minutes=60), same))
    assert months_of(before) == ["2026-01-01 → 02-01", "2026-02-01 → 03-01"]
    assert months_of(after) == [*months_of(before), "2026-03-01 → 04-01"]


def test_bounds_without_a_zone_are_in_that_of_the_pipeline_so_a_month_takes_no_neighbour() -> None:
    monthly = pipeline(grain="month", **BERLIN)
    march = datetime(2026, 3, 1), datetime(2026, 4, 1)  # noqa: DTZ001
    now = datetime(2026, 8, 1, tzinfo=UTC)
    for mode in ("due", "backfill", "restate"):
        plan = plan_intervals(PlanRequest(monthly, NOTHING_DONE, now, same, mode, *march))
        assert months_of(plan) == ["2026-03-01 → 04-01"]


def test_latest_and_lookback_count_intervals_whatever_their_length() -> None:
    spec = {"grain": "month", "catch_up": "latest", "lookback": 2} | BERLIN
    now = datetime(2026, 4, 10, tzinfo=UTC)
    done = plan_intervals(PlanRequest(pipeline(**spec), NOTHING_DONE, now, same))
    assert months_of(done) == ["2026-03-01 → 04-01"]

    grid = pipeline(**spec).interval.grid.split(now)  # type: ignore[union-attr]
    live = cover(*(placed(i) for i in grid))
    late = plan_intervals(PlanRequest(pipeline(**spec), live, now, lambda _: "other"))
    assert late.published == 1
    assert months_of(late) == ["2026-02-01 → 03-01", "2026-03-01 → 04-01"]


def test_days_across_a_change_of_clocks_are_each_planned_once() -> None:
    daily = pipeline(timezone="Europe/Berlin", start="2026-03-28T00:00")
    plan = plan_intervals(PlanRequest(daily, NOTHING_DONE, datetime(2026, 3, 30, 22, tzinfo=UTC), same))
    assert [(p.interval.end - p.interval.start).seconds // 3600 for p in plan.intervals if p.interval] == [0, 23, 0]
    assert months_of(plan) == ["2026-03-28 → 03-29", "2026-03-29 → 03-30", "2026-03-30 → 03-31"]


def test_a_backfill_takes_missing_intervals_of_its_range_only() -> None:
    plan = plan_intervals(
        PlanRequest(pipeline(catch_up="latest"), coverage(3), NOW, same, "backfill", START, START + 5 * DAY)
    )
    assert (days_of(plan), {p.reason for p in plan.intervals}) == ([0, 1, 2, 4], {"backfill"})


def test_a_restate_without_a_range_is_refused() -> None:
    with pytest.raises(SettingsError, match="needs a range"):
        plan_intervals(PlanRequest(pipeline(), NOTHING_DONE, NOW, same, "restate"))


def test_a_snapshot_is_one_interval_without_bounds() -> None:
    data = pipeline().model_dump(mode="json", by_alias=True) | {"interval": None}
    snapshot = Pipeline.model_validate(data)
    [planned] = plan_intervals(PlanRequest(snapshot, NOTHING_DONE, NOW, same)).intervals
    assert (planned.interval, planned.again) == (None, True)
    with pytest.raises(SettingsError, match="no intervals"):
        plan_intervals(PlanRequest(snapshot, NOTHING_DONE, NOW, same, "due", START, NOW))


def test_ten_thousand_pending_intervals_are_planned_at_once() -> None:
    minutes = pipeline(grain="15m", max_intervals=100)
    plan = plan_intervals(PlanRequest(minutes, NOTHING_DONE, START + timedelta(minutes=15 * 10_000), same))
    assert (len(plan.intervals), plan.left_over) == (100, 9_900)


@pytest.mark.parametrize("mode", ["due", "backfill", "restate"])
def test_intervals_beyond_the_horizon_wait_whatever_the_mode(mode: Any) -> None:
    horizon = Horizon(START + 7 * DAY + timedelta(minutes=30), "session 7 has a transaction open")

    plan = plan_intervals(PlanRequest(pipeline(delay="1h"), NOTHING_DONE, NOW, same, mode, START, NOW, horizon=horizon))

    assert days_of(plan) == [0, 1, 2, 3, 4, 5]  # the delay of the seventh was not over when the session began
    assert plan.stalled == 4
    assert plan.stall == "4 intervals wait for open transactions: session 7 has a transaction open"


def test_a_published_interval_waits_for_nobody_unless_its_rows_changed() -> None:
    horizon = Horizon(START, "session 7 has a transaction open")

    plan = plan_intervals(PlanRequest(pipeline(lookback=1), coverage(*range(9)), NOW, same, horizon=horizon))
    late = plan_intervals(
        PlanRequest(pipeline(lookback=2), coverage(*range(10)), NOW, lambda _: "other", horizon=horizon)
    )

    assert (plan.published, plan.stalled) == (9, 1)
    assert (late.intervals, late.published, late.stalled) == ((), 8, 2)


def test_only_a_sql_source_can_be_asked_for_its_horizon() -> None:
    data = pipeline(settle="horizon").model_dump(mode="json", by_alias=True)
    data["sources"] = {"payments": {"kind": "files", "path": "*.csv", "format": "csv"}}
    data["expectations"] = {}
    with pytest.raises(ValueError, match="must be `kind: sql`"):
        Pipeline.model_validate(data)
