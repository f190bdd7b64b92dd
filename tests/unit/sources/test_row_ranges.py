"""Ranges of about equal size from counts in equal steps."""

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from penstock.sources.row_ranges import RowRange, cut_ranges


def cut(rows: list[int], end: int, size: int) -> tuple[list[RowRange], int]:
    """Return the ranges, and how often rows were counted."""
    counted = 0

    def count(first: int, last: int, step: int) -> Mapping[int, int]:
        nonlocal counted
        counted += 1
        return Counter((row - first) // step for row in rows if first <= row < last)

    return cut_ranges(0, end, size, count), counted


@given(st.lists(st.integers(0, 86_399) | st.sampled_from([0, 1, 43_200, 86_399]), max_size=80), st.integers(1, 30))
def test_each_row_is_in_one_range_and_a_range_is_larger_only_if_it_is_one_unit(rows: list[int], size: int) -> None:
    ranges, _ = cut(rows, 86_400, size)

    assert [each.rows for each in ranges] == [sum(each.first <= row < each.end for row in rows) for each in ranges]
    assert sum(each.rows for each in ranges) == len(rows)
    assert all(one.end <= other.first for one, other in pairwise(ranges))
    assert all(each.rows <= size or each.end - each.first == 1 for each in ranges)
    if len(set(rows)) == len(rows):
        assert len(ranges) <= -(-len(rows) // size)


def test_even_rows_are_counted_once_and_shared_evenly() -> None:
    ranges, counted = cut(list(range(0, 86_400, 2)), 86_400, 10_800)

    assert (len(ranges), counted) == (4, 1)
    assert all(abs(each.rows - 10_800) <= 216 for each in ranges)


def test_a_burst_is_counted_again_in_smaller_steps() -> None:
    burst = [1000 + second for second in range(500) for _ in range(10)]

    ranges, counted = cut([*range(0, 31_536_000, 3_000_000), *burst], 31_536_000, 1000)

    assert [each.rows <= 1020 for each in ranges] == [True] * 5
    assert counted == 6  # the year, the burst, and the step at each of four boundaries


def test_nothing_has_no_ranges() -> None:
    assert cut([], 86_400, 10) == ([], 1)
    assert cut([], 0, 10) == ([], 0)
