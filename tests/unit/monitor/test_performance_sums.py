"""Sums of performance add up, survive JSON, and give what scikit-learn gives."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    log_loss,
    mean_absolute_error,
    mean_pinball_loss,
    precision_score,
    recall_score,
    roc_auc_score,
    root_mean_squared_error,
)

from penstock.monitor.binned_scores import FINEST, MOST, bin_scores
from penstock.monitor.performance_sums import ClassificationSums, RegressionSums, read_sums, sum_rows


def draw(rows: int, middle: float, spread: float = 1.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 probabilities, and labels that are drawn with them."""
    rng = np.random.default_rng(seed)
    p = (1 / (1 + np.exp(-rng.normal(middle, spread, rows)))).astype(np.float32)
    return p, (rng.random(rows) < p).astype(float)


def values(sums: ClassificationSums | RegressionSums) -> dict[str, float]:
    return {name: estimate.value for name, estimate in sums.metrics().items()}


def expected(p: np.ndarray, y: np.ndarray) -> dict[str, float]:
    p = p.astype(float)
    return {
        "auc": roc_auc_score(y, p),
        "pr_auc": average_precision_score(y, p),
        "log_loss": log_loss(y, p),
        "brier": brier_score_loss(y, p),
        "calibration": p.mean() - y.mean(),
    }


def test_few_rows_are_counted_exactly() -> None:
    p, y = draw(2_000, 0)

    sums = sum_rows("classification", p, y)

    assert isinstance(sums, ClassificationSums)
    assert sums.bins.level == FINEST
    assert values(sums) == pytest.approx(expected(p, y), abs=1e-6)


@pytest.mark.parametrize("rows", [12_000, 600_000])
@pytest.mark.parametrize("middle", [0, -1.3, -6])
def test_many_rows_are_binned_within_a_hundred_thousandth(rows: int, middle: float) -> None:
    p, y = draw(rows, middle)

    sums = sum_rows("classification", p, y)

    assert isinstance(sums, ClassificationSums)
    assert sums.bins.level < FINEST
    assert len(sums.bins.bins) <= MOST
    within = 1e-5 if y.sum() > 100 else 1e-3  # of few positives, one in a wrong place is a large share
    assert values(sums) == pytest.approx(expected(p, y), abs=within)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 10_000).map(lambda n: n / 10_000), st.booleans(), st.integers(0, 3)),
        min_size=1,
        max_size=60,
    )
)
def test_sums_of_parts_are_the_sum_of_all_and_survive_json(rows: list[tuple[float, bool, int]]) -> None:
    p, y = np.array([row[0] for row in rows]), np.array([float(row[1]) for row in rows])
    part = np.array([row[2] for row in rows])
    whole = sum_rows("classification", p, y)

    first, *others = (sum_rows("classification", p[part == n], y[part == n]) for n in range(4))
    added = sum(others, first)  # type: ignore[arg-type]

    assert values(read_sums(json.loads(json.dumps(added.as_json())))) == pytest.approx(values(whole))
    assert whole.count == len(rows)
    if 0 < y.sum() < len(y):
        assert values(whole)["auc"] == pytest.approx(roc_auc_score(y, p))


def test_bins_of_unequal_levels_add_up() -> None:
    few, many = draw(300, 0, seed=1), draw(50_000, 0, seed=2)
    one, two = (bin_scores(p, y == 1) for p, y in (few, many))

    added = one + two

    p, y = np.concatenate([few[0], many[0]]), np.concatenate([few[1], many[1]])
    found = added.auc()
    assert found is not None
    assert added.level == two.level
    assert found.value == pytest.approx(roc_auc_score(y, p), abs=1e-5)


def test_the_interval_of_an_auc_is_as_wide_as_that_of_resampling() -> None:
    p, y = draw(3_000, -2)
    found = bin_scores(p, y == 1).auc()
    rng = np.random.default_rng(3)
    drawn = []
    for _ in range(300):
        rows = rng.integers(0, len(p), len(p))
        drawn.append(roc_auc_score(y[rows], p[rows]))

    assert found is not None
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.004)


def test_precision_and_recall_are_those_at_the_threshold() -> None:
    p, y = draw(2_000, -1)
    bins = bin_scores(p, y == 1)

    precision, recall = bins.precision(0.4), bins.recall(0.4)

    assert precision is not None
    assert recall is not None
    assert precision.value == pytest.approx(precision_score(y, p >= 0.4), abs=1e-12)
    assert recall.value == pytest.approx(recall_score(y, p >= 0.4), abs=1e-12)
    first = np.argsort(-p)[:100]
    of_top, found = bins.top(100)
    assert of_top is not None
    assert found is not None
    assert (of_top.value, found.value) == pytest.approx((y[first].mean(), y[first].sum() / y.sum()))


def test_no_rows_and_rows_of_one_label_have_the_metrics_that_exist() -> None:
    none = sum_rows("classification", np.array([]), np.array([]))
    negative = sum_rows("classification", np.array([0.1, 0.2]), np.array([0, 0]))

    assert none.metrics() == {}
    assert set(negative.metrics()) == {"log_loss", "brier", "calibration"}
    assert all(math.isfinite(value) for value in values(negative).values())


def test_a_regression_is_measured_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(4)
    y = rng.normal(10, 3, 5_000)
    score = y + rng.normal(0.5, 1, 5_000)

    sums = [sum_rows("regression", score[i::3], y[i::3], (0.1, 0.9)) for i in range(3)]
    added = read_sums(json.loads(json.dumps((sums[0] + sums[1] + sums[2]).as_json())))  # type: ignore[operator]

    assert values(added) == pytest.approx(
        {
            "mae": mean_absolute_error(y, score),
            "rmse": root_mean_squared_error(y, score),
            "bias": (score - y).mean(),
            "pinball_0.1": mean_pinball_loss(y, score, alpha=0.1),
            "pinball_0.9": mean_pinball_loss(y, score, alpha=0.9),
        },
        abs=1e-9,
    )
    assert all((e.low or -1) < e.value < (e.high or -1) for e in added.metrics().values())


@pytest.mark.parametrize(("positives", "negatives"), [(1, 1), (2, 400), (9, 9)])
def test_with_few_rows_of_a_label_no_metric_has_an_interval(positives: int, negatives: int) -> None:
    y = np.repeat([1.0, 0.0], [positives, negatives])

    found = sum_rows("classification", np.linspace(0.9, 0.1, len(y)), y).metrics()

    assert set(found) == {"auc", "pr_auc", "log_loss", "brier", "calibration"}
    assert all(each.low is each.high is None for each in found.values())
