"""What is chosen as a reason, and how the budget is divided."""

from decimal import Decimal

import numpy as np
import pytest

from penstock.explain.budget import plan_reasons, within_share
from penstock.explain.reasons import choose_features
from penstock.models.booster import Contributions
from penstock.spec.reasons import Direction, Reasons, ReasonsBudget

FOUND = Contributions(np.array([[0.5, -0.9, 0.0], [-0.1, 0.2, 0.2], [-1.0, -2.0, -3.0]], np.float32), np.zeros(3))


@pytest.mark.parametrize(
    ("direction", "top", "chosen"),
    [
        ("both", 3, [(0, 1), (0, 0), (1, 1), (1, 2), (1, 0), (2, 2), (2, 1), (2, 0)]),
        ("raises", 3, [(0, 0), (1, 1), (1, 2)]),
        ("lowers", 1, [(0, 1), (1, 0), (2, 2)]),
    ],
)
def test_the_largest_contributions_in_the_direction_come_first(
    direction: Direction, top: int, chosen: list[tuple[int, int]]
) -> None:
    places, features = choose_features(FOUND, top, direction)

    assert list(zip(places.tolist(), features.tolist(), strict=True)) == chosen


def budget(**given: float) -> Reasons:
    return Reasons(when="true", budget=ReasonsBudget.model_validate(given))


def test_a_run_within_its_budget_explains_every_row() -> None:
    plan = plan_reasons(budget(rows=1000, seconds=2.0), 1000, 0.001)

    assert (plan.share, plan.seconds) == (1.0, 1.0)
    assert plan.describe() == "1,000 rows at most, 1.0 s CPU (1 ms CPU a row)"


@pytest.mark.parametrize(("rows", "seconds", "most"), [(400, 10_000.0, 400), (50_000, 0.4, 400)])
def test_the_smaller_limit_counts(rows: int, seconds: float, most: int) -> None:
    plan = plan_reasons(budget(rows=rows, seconds=seconds), 100_000, 0.001)

    assert plan.most_rows == most
    assert plan.share == pytest.approx((400 - 3 * 20) / 100_000)
    assert "the budget pays for 400 rows, and the interval has 100,000" in plan.describe()


def test_a_budget_without_rows_explains_none() -> None:
    assert plan_reasons(budget(rows=0), 10, 0.001).share == 0.0


def test_the_share_is_kept_and_another_interval_chooses_other_keys() -> None:
    keys = [{"customer": number} for number in range(20_000)]

    first, second = (within_share(keys, interval, 0.1) for interval in ("monday", "tuesday"))

    assert 1850 < sum(first) < 2150
    assert first != second
    assert first == within_share(keys, "monday", 0.1)


def test_equal_numbers_are_chosen_alike_whatever_their_type() -> None:
    typed = [[{"n": kind(number)} for number in range(500)] for kind in (int, float, Decimal)]

    assert len({tuple(within_share(keys, "monday", 0.5)) for keys in typed}) == 1
