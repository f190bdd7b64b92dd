"""What a range may be, and what people read about one that is impossible or only partly possible."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock.errors import SettingsError
from penstock.ledger.coverage import NOTHING_DONE
from penstock.run.plan_notes import describe_idle, describe_range
from penstock.run.planning import Mode, Plan, PlanRequest, plan_intervals, plan_range
from tests.unit.run.test_planning import NOW, coverage, days_of, pipeline, same

MODES: tuple[Mode, ...] = ("due", "backfill", "restate", "release")


def plan_of(start: datetime | None, end: datetime | None, mode: Mode = "backfill", **interval: Any) -> Plan:
    return plan_intervals(PlanRequest(pipeline(**interval), coverage(0), NOW, same, mode, start, end))


def day(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-01-05", "2026-01-02"),
        ("2026-01-05", "2026-01-05"),
        ("2026-01-05T00:00:00+00:00", "2026-01-05"),
        ("2030-01-05", "2030-01-02"),
        ("2020-01-05", "2020-01-02"),
    ],
)
def test_an_empty_range_is_refused_in_every_mode(mode: Mode, start: str, end: str) -> None:
    with pytest.raises(SettingsError, match=r"the range is empty: its end, .*, is not after its begin, .*T00:00:00Z"):
        plan_of(day(start), day(end), mode)


def test_an_empty_range_names_its_times_in_the_pipelines_zone() -> None:
    paris = pipeline(timezone="Europe/Paris", start="2026-01-01T00:00:00+01:00")

    with pytest.raises(SettingsError, match=r"its end, 2026-01-02T00:00:00\+01:00, .* 2026-01-05T00:00:00\+01:00"):
        plan_intervals(PlanRequest(paris, NOTHING_DONE, NOW, same, "due", day("2026-01-05"), day("2026-01-02")))


def test_an_empty_range_of_a_backfill_is_refused() -> None:
    with pytest.raises(SettingsError, match="the range is empty"):
        plan_range(pipeline(), NOTHING_DONE, NOW, day("2026-01-05"), day("2026-01-02"), None)


@pytest.mark.parametrize("mode", MODES)
def test_a_range_before_the_pipelines_start_says_so(mode: Mode) -> None:
    plan = plan_of(day("2020-01-01"), day("2026-01-01"), mode)

    assert plan.intervals == ()
    assert describe_idle(plan) == (
        "nothing to do: the whole range is before the pipeline's start, 2026-01-01T00:00:00Z"
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("start", "end"), [("2030-01-01", "2030-02-01"), ("2026-01-11", "2026-01-12")])
def test_a_range_that_is_not_over_says_so(mode: Mode, start: str, end: str) -> None:
    plan = plan_of(day(start), day(end), mode)

    assert plan.intervals == ()
    assert describe_idle(plan) == (
        "nothing to do: no interval of the range is over yet; "
        "the last one that is over ended at 2026-01-11T00:00:00Z, and the pipeline starts at 2026-01-01T00:00:00Z"
    )


def test_a_pipeline_that_has_not_started_says_when_it_does() -> None:
    request = PlanRequest(pipeline(), NOTHING_DONE, datetime(2025, 12, 1, tzinfo=UTC), same)

    assert describe_idle(plan_intervals(request)) == (
        "nothing to do: no interval is over yet; the pipeline starts at 2026-01-01T00:00:00Z"
    )


@pytest.mark.parametrize("mode", ["due", "backfill", "restate"])
def test_a_range_that_is_partly_possible_is_cut_and_says_so(mode: Mode) -> None:
    plan = plan_of(day("2025-12-30"), day("2026-03-01"), mode, max_intervals=100)

    assert days_of(plan) == list(range(0 if mode == "restate" else 1, 10))
    assert describe_range(plan) == (
        "the pipeline starts at 2026-01-01T00:00:00Z, so the range begins there; "
        "no interval after 2026-01-11T00:00:00Z is over yet, so the range ends there"
    )


def test_a_range_that_is_possible_needs_no_word() -> None:
    assert describe_range(plan_of(day("2026-01-02"), day("2026-01-11"))) == ""
    assert describe_range(plan_of(None, None, "due")) == ""


@pytest.mark.parametrize("mode", ["due", "backfill", "restate"])
def test_every_mode_takes_only_intervals_of_the_range(mode: Mode) -> None:
    assert days_of(plan_of(day("2026-01-03"), day("2026-01-05"), mode)) == [2, 3]


def test_one_bound_is_a_range_too() -> None:
    assert days_of(plan_of(day("2026-01-09"), None, "due")) == [8, 9]
    assert days_of(plan_of(None, day("2026-01-03"), "due")) == [1]


def test_a_published_range_says_what_was_cut() -> None:
    plan = plan_intervals(
        PlanRequest(pipeline(), coverage(*range(10)), NOW, same, "backfill", day("2026-01-10"), NOW + timedelta(days=9))
    )

    assert describe_idle(plan) == (
        "nothing to do: 1 interval is published already; "
        "no interval after 2026-01-11T00:00:00Z is over yet, so the range ends there"
    )
