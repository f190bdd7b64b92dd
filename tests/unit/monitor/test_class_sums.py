"""Sums of a model with several classes add up, survive JSON, and give what scikit-learn gives."""

import json
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

from penstock.monitor.binned_scores import FINEST
from penstock.monitor.class_sums import ClassSums, sum_classes
from penstock.monitor.performance_sums import read_sums

CLASSES = ("low", "mid", "high")


def draw(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 probabilities of three classes, and classes that are drawn with them."""
    rng = np.random.default_rng(seed)
    margins = rng.normal([1.5, 0, -1], 1.3, (rows, 3))
    p = (np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)).astype(np.float32)
    return p, (rng.random((rows, 1)) > np.cumsum(p, axis=1)[:, :2]).sum(axis=1)


def expected(p: np.ndarray, y: np.ndarray) -> dict[str, float]:
    p = p.astype(float)
    places = range(len(CLASSES))
    predicted = p.argmax(axis=1)
    precision = precision_score(y, predicted, average=None, labels=list(places))
    recall = recall_score(y, predicted, average=None, labels=list(places))
    return {
        "auc": roc_auc_score(y, p / p.sum(axis=1, keepdims=True), multi_class="ovr", average="macro"),
        "log_loss": log_loss(y, p),
        "brier": brier_score_loss(y, p, labels=list(places)),
        "accuracy": accuracy_score(y, predicted),
        **{f"precision of {name}": precision[place] for place, name in enumerate(CLASSES)},
        **{f"recall of {name}": recall[place] for place, name in enumerate(CLASSES)},
    }


def values(sums: object) -> dict[str, float]:
    assert isinstance(sums, ClassSums)
    return {name: estimate.value for name, estimate in sums.metrics().items()}


@pytest.mark.parametrize(("rows", "is_told"), [(1, False), (29, False), (30, True)])
def test_the_accuracy_of_few_rows_has_no_interval(rows: int, is_told: bool) -> None:
    accuracy = sum_classes(*draw(rows), CLASSES).metrics()["accuracy"]

    assert (accuracy.low is not None) is is_told


def test_labels_of_no_class_are_counted_and_added_up() -> None:
    one, other = (replace(sum_classes(*draw(5), CLASSES), no_class=number) for number in (2, 3))
    stored = one.as_json()
    del stored["no_class"]  # of an earlier version

    assert ClassSums.from_json((one + other).as_json()).no_class == 5
    assert ClassSums.from_json(stored).no_class == 0


@pytest.mark.filterwarnings("ignore:The y_prob values do not sum to one")
@pytest.mark.parametrize(("rows", "within"), [(2_000, 1e-6), (60_000, 1e-5)])
def test_the_metrics_of_added_parts_are_those_of_scikit_learn(rows: int, within: float) -> None:
    p, y = draw(rows)

    parts = [sum_classes(p[i::3], y[i::3].astype(float), CLASSES) for i in range(3)]
    added = read_sums(json.loads(json.dumps(reduce(add, parts).as_json())))

    assert isinstance(added, ClassSums)
    assert all((bins.level == FINEST) is (rows == 2_000) for bins in added.bins)
    assert added.count == rows
    assert values(added) == pytest.approx(expected(p, y), abs=within)
    assert all((each.low or -1) < each.value < (each.high or -1) for each in added.metrics().values())


def test_the_interval_of_the_macro_auc_is_at_least_as_wide_as_that_of_resampling() -> None:
    p, y = draw(1_500)
    found = sum_classes(p, y, CLASSES).metrics()["auc"]
    rng = np.random.default_rng(3)
    drawn = [sum_classes(p[rows], y[rows], CLASSES) for rows in rng.integers(0, len(p), (150, len(p)))]

    low, high = np.quantile([values(each)["auc"] for each in drawn], [0.025, 0.975])
    assert found.low is not None
    assert found.high is not None
    assert 1.0 < (found.high - found.low) / (high - low) < 2.0


def test_without_rows_of_a_class_there_is_no_auc_and_with_few_no_interval() -> None:
    p, y = draw(400)
    few = np.concatenate([np.flatnonzero(y != 1), np.flatnonzero(y == 1)[:9]])

    assert "auc" not in sum_classes(p[y != 1], y[y != 1], CLASSES).metrics()
    assert "recall of mid" not in sum_classes(p[y != 1], y[y != 1], CLASSES).metrics()
    assert sum_classes(p[:0], y[:0], CLASSES).metrics() == {}
    found = sum_classes(p[few], y[few], CLASSES).metrics()
    assert all(found[name].low is None for name in ("auc", "log_loss", "brier"))
    assert found["accuracy"].low is not None
