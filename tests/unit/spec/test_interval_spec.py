"""The `interval:` of a spec: grains of the calendar, time zones, and where an interval may begin."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from penstock.errors import SpecError
from penstock.interval import Grid
from penstock.spec.interval import IntervalSpec
from penstock.spec.parts import write_grain
from penstock.spec.yaml_file import parse_pipeline
from tests.shop import SPEC

LINE = "interval: {column: created_at, grain: 1d, start: 2026-01-01T00:00:00Z, lookback: 3}"


def read(**given: Any) -> IntervalSpec:
    return IntervalSpec.model_validate({"column": "created_at", "grain": "1d", "start": "2026-01-01"} | given)


def refusal(**given: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        read(**given)
    [error] = caught.value.errors()
    return str(error["msg"]).removeprefix("Value error, ")


@pytest.mark.parametrize(
    ("given", "start"),
    [
        ({}, datetime(2026, 1, 1)),  # noqa: DTZ001
        ({"start": "2026-01-01T06:00+02:00"}, datetime(2026, 1, 1, 4)),  # noqa: DTZ001 # UTC: days from any time on
        ({"timezone": "Europe/Berlin"}, datetime(2025, 12, 31, 23)),  # noqa: DTZ001
        ({"timezone": "Europe/Berlin", "start": "2026-07-01T00:00"}, datetime(2026, 6, 30, 22)),  # noqa: DTZ001
        ({"timezone": "Asia/Kathmandu", "grain": "1h"}, datetime(2025, 12, 31, 18, 15)),  # noqa: DTZ001
        ({"timezone": "Europe/Berlin", "grain": "1h", "start": "2026-01-01T00:30:00Z"}, datetime(2026, 1, 1, 0, 30)),  # noqa: DTZ001
        ({"timezone": "Europe/Berlin", "grain": "2d"}, datetime(2025, 12, 31, 23)),  # noqa: DTZ001
        ({"timezone": "America/Sao_Paulo", "start": "2018-11-04"}, datetime(2018, 11, 4, 3)),  # noqa: DTZ001 # no midnight
        ({"timezone": "America/Sao_Paulo", "start": "2018-11-04T01:00"}, datetime(2018, 11, 4, 3)),  # noqa: DTZ001
        ({"timezone": "Europe/Berlin", "start": "2025-12-31T23:00:00Z"}, datetime(2025, 12, 31, 23)),  # noqa: DTZ001
        ({"grain": "month", "start": "2026-02-01"}, datetime(2026, 2, 1)),  # noqa: DTZ001
        ({"grain": "quarter"}, datetime(2026, 1, 1)),  # noqa: DTZ001
        ({"grain": "year", "timezone": "Africa/Casablanca"}, datetime(2025, 12, 31, 23)),  # noqa: DTZ001
        ({"grain": "week", "start": "2026-01-05"}, datetime(2026, 1, 5)),  # noqa: DTZ001
        ({"grain": "week", "start": "2026-01-04", "first_day": "sunday"}, datetime(2026, 1, 4)),  # noqa: DTZ001
    ],
)
def test_a_start_without_a_zone_is_local_time_and_is_kept_in_utc(given: dict[str, Any], start: datetime) -> None:
    spec = read(**given)
    assert spec.start == start.replace(tzinfo=UTC)
    assert spec.start.tzinfo is UTC
    assert spec.grid == Grid(spec.start, spec.grain, spec.timezone)
    assert IntervalSpec.model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"timezone": "Europe/Berlin", "start": "2026-03-01T00:00:00Z"},
            "no day begins at 2026-03-01T01:00:00+01:00 in Europe/Berlin; the nearest begin at "
            "2026-03-01T00:00:00+01:00 and 2026-03-02T00:00:00+01:00",
        ),
        (
            {"timezone": "Europe/Berlin", "grain": "7d", "start": "2026-10-25T06:00"},
            "no day begins at 2026-10-25T06:00:00+01:00 in Europe/Berlin; the nearest begin at "
            "2026-10-25T00:00:00+02:00 and 2026-10-26T00:00:00+01:00",
        ),
        (
            {"grain": "month", "start": "2026-01-31"},
            "no month begins at 2026-01-31T00:00:00Z in UTC; the nearest begin at "
            "2026-01-01T00:00:00Z and 2026-02-01T00:00:00Z",
        ),
        (
            {"grain": "quarter", "start": "2026-12-01"},
            "no quarter begins at 2026-12-01T00:00:00Z in UTC; the nearest begin at "
            "2026-10-01T00:00:00Z and 2027-01-01T00:00:00Z",
        ),
        (
            {"grain": "week"},
            "no week begins at 2026-01-01T00:00:00Z in UTC; the nearest begin at "
            "2025-12-29T00:00:00Z and 2026-01-05T00:00:00Z",
        ),
        (
            {"grain": "week", "first_day": "sunday", "start": "2026-01-05"},
            "no week begins at 2026-01-05T00:00:00Z in UTC; the nearest begin at "
            "2026-01-04T00:00:00Z and 2026-01-11T00:00:00Z",
        ),
        ({"first_day": "sunday"}, "only `grain: week` has a first day; leave `first_day` out"),
        ({"timezone": "Europe"}, "there is no time zone `Europe`; write it as in `Europe/Paris`"),
        ({"timezone": "Europe/Bonn"}, "there is no time zone `Europe/Bonn`; write it as in `Europe/Paris`"),
        (
            {"timezone": "Europe/Berlin", "grain": "24h"},
            "a day in Europe/Berlin may have 23 or 25 hours; write `1d` for days",
        ),
        (
            {"grain": "1 month"},
            "`1 month` is not a duration; write a number and m, h, d or w, as in `15m` or `1d`, "
            "or one of `week`, `month`, `quarter`, `year`",
        ),
    ],
)
def test_what_a_calendar_does_not_have_is_refused_with_the_way_to_write_it(given: dict[str, Any], told: str) -> None:
    assert refusal(**given) == told


def test_a_refused_start_is_named_with_its_line() -> None:
    wrong = LINE.replace("grain: 1d", "grain: month").replace("01-01T", "01-02T")
    assert LINE in SPEC
    with pytest.raises(SpecError, match=r"line \d+: `interval.start`: no month begins at 2026-01-02T00:00:00Z in UTC"):
        parse_pipeline(SPEC.replace(LINE, wrong).encode(), "x.yaml")


def test_hours_in_utc_may_be_written_for_days_as_ever() -> None:
    assert read(grain="24h").grain == timedelta(days=1)


def test_a_zone_that_is_spelled_out_as_utc_changes_nothing() -> None:
    spelled = LINE.replace("grain: 1d", "grain: 1d, timezone: UTC, first_day: monday")
    plain, other = (parse_pipeline(text.encode(), "x.yaml") for text in (SPEC, SPEC.replace(LINE, spelled)))
    assert plain.fingerprint == other.fingerprint


@pytest.mark.parametrize("text", ["15m", "8h", "1d", "7d", "week", "month", "quarter", "year"])
def test_a_grain_is_written_as_it_was_read(text: str) -> None:
    assert write_grain(read(grain=text, start="2024-01-01").grain) == text
