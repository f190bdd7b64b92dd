"""Estimates at the edge of what floats hold."""

import pytest

from penstock.monitor.estimates import logit_interval


@pytest.mark.parametrize("share", [1e-9, 5e-6, 1 - 5e-6])
def test_the_interval_of_an_extreme_share_is_computed_and_holds_it(share: float) -> None:
    found = logit_interval(share, 1)

    assert 0.0 <= found.low <= share <= found.high <= 1.0


def test_the_interval_of_a_usual_share_is_symmetric_on_the_logit_scale() -> None:
    found = logit_interval(0.5, 100)

    assert found.low == pytest.approx(1 - found.high)
    assert found.low == pytest.approx(0.40324, abs=1e-4)
