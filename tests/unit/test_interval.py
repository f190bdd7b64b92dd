"""The algebra of data intervals."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.interval import (
    DataInterval,
    align_down,
    as_utc,
    covering,
    gaps,
    is_covered,
    merge,
    parse_duration,
    parse_key,
    split,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hours(start: int, end: int) -> DataInterval:
    return DataInterval(T0 + start * HOUR, T0 + end * HOUR)


spans = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 8)).map(lambda p: hours(p[0], p[0] + p[1])), max_size=12)


def test_a_duration_is_a_number_and_a_unit() -> None:
    assert parse_duration("15m") == timedelta(minutes=15)
    assert parse_duration("7d") == timedelta(days=7)
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration("1 month")


def test_a_naive_moment_is_taken_as_utc() -> None:
    assert as_utc(datetime(2026, 1, 1)) == T0  # noqa: DTZ001 # naive on purpose


def test_an_interval_needs_zones_and_a_length() -> None:
    with pytest.raises(ValueError, match="aware"):
        DataInterval(datetime(2026, 1, 1), T0)  # noqa: DTZ001 # naive on purpose
    with pytest.raises(ValueError, match="not before"):
        DataInterval(T0, T0)


@pytest.mark.parametrize(
    ("interval", "label"),
    [
        (hours(0, 24), "2026-01-01 → 01-02"),
        (hours(1, 2), "2026-01-01 01:00 → 02:00"),
        (hours(23, 24), "2026-01-01 23:00 → 01-02 00:00"),
        (DataInterval(datetime(2025, 12, 31, tzinfo=UTC), T0), "2025-12-31 → 2026-01-01"),
    ],
)
def test_a_label_says_no_more_than_it_must(interval: DataInterval, label: str) -> None:
    assert interval.label == label


def test_a_piece_shorter_than_a_grain_is_left_out() -> None:
    assert split(T0, T0 + timedelta(hours=2, minutes=59), HOUR) == [hours(0, 1), hours(1, 2)]


def test_covering_takes_every_grid_interval_that_is_touched() -> None:
    assert covering(T0 + timedelta(minutes=30), T0 + timedelta(hours=2), T0, HOUR) == [hours(0, 1), hours(1, 2)]
    assert covering(T0 - 5 * HOUR, T0 + HOUR, T0, HOUR) == [hours(0, 1)]


def test_a_leap_day_and_a_daylight_change_are_grains_like_any_other() -> None:
    day = timedelta(days=1)
    grid = split(datetime(2028, 2, 28, tzinfo=UTC), datetime(2028, 3, 2, tzinfo=UTC), day)
    assert [i.start.day for i in grid] == [28, 29, 1]
    spring = split(datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 3, 30, tzinfo=UTC), day)
    assert all(i.end - i.start == day for i in spring)


@given(spans)
def test_merged_intervals_do_not_touch_and_cover_the_same_hours(intervals: list[DataInterval]) -> None:
    def covered(items: list[DataInterval]) -> set[int]:
        return {h for h in range(60) for i in items if i.start <= T0 + h * HOUR < i.end}

    merged = merge(intervals)

    assert covered(merged) == covered(intervals)
    assert all(a.end < b.start for a, b in pairwise(merged))


@given(spans)
def test_gaps_and_done_spans_tile_the_range(done: list[DataInterval]) -> None:
    end = T0 + 60 * HOUR

    open_parts = gaps(T0, end, done)

    for hour in split(T0, end, HOUR):
        is_done = any(d.covers(hour) for d in done)
        assert is_covered(hour, open_parts) != is_done
    assert all(a.end < b.start for a, b in pairwise(open_parts))


@given(spans)
def test_an_interval_is_read_back_from_its_key(intervals: list[DataInterval]) -> None:
    assert [parse_key(i.key) for i in intervals] == intervals
    assert parse_key("snapshot") is None


@given(st.integers(-1000, 1000), st.integers(1, 500))
def test_align_down_finds_the_last_grid_point(minutes: int, grain: int) -> None:
    moment, size = T0 + timedelta(minutes=minutes), timedelta(minutes=grain)
    point = align_down(moment, T0, size)
    assert point <= moment < point + size
    assert (point - T0) % size == timedelta(0)
