"""Estimates at the edge of what floats hold."""

import pytest

from penstock.monitor.estimates import LEAST_OF_A_LABEL, LEAST_ROWS, logit_interval, mean, share_of_pairs


@pytest.mark.parametrize("share", [1e-9, 5e-6, 1 - 5e-6])
def test_the_interval_of_an_extreme_share_is_computed_and_holds_it(share: float) -> None:
    found = logit_interval(share, 10)

    assert found.low is not None
    assert found.high is not None
    assert 0.0 <= found.low <= share <= found.high <= 1.0


def test_the_interval_of_a_usual_share_is_symmetric_on_the_logit_scale() -> None:
    found = logit_interval(0.5, 100)

    assert found.low is not None
    assert found.high is not None
    assert found.low == pytest.approx(1 - found.high)
    assert found.low == pytest.approx(0.40324, abs=1e-4)


@pytest.mark.parametrize("count", [1, 2, LEAST_ROWS - 1])
def test_a_mean_of_few_values_has_no_interval(count: int) -> None:
    found = mean(0.5 * count, 0.25 * count, count)

    assert found is not None
    assert (found.value, found.low, found.high) == (0.5, None, None)
    assert found.describe_range() == "too few rows"


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_without_exception_has_a_width(share: float) -> None:
    for found in (share_of_pairs(share, 0.0, 20), logit_interval(share, 20)):
        assert found.low is not None
        assert found.high is not None
        assert found.high - found.low == pytest.approx(0.161, abs=0.001)  # Wilson's of 20 of 20
    assert share_of_pairs(share, 0.0, LEAST_OF_A_LABEL - 1).low is None
