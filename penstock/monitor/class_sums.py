"""The performance of a model with several classes, as sums that add up over partitions and runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.monitor.binned_scores import BinnedScores, bin_scores
from penstock.monitor.estimates import LEAST_OF_A_LABEL, LEAST_ROWS, Estimate, mean, wilson

_LEAST_PROBABILITY = float(np.finfo(np.float32).eps)
"""The log loss of a probability of 0 would be infinite. Scores are float32, and scikit-learn cuts them here."""


@dataclass(frozen=True)
class ClassSums:
    """Sums over rows with a probability of each class, and the class that each row turned out to be."""

    classes: tuple[str, ...]
    bins: tuple[BinnedScores, ...]
    """By class: the rows by its probability. Rows of the class are positive, all others negative."""
    log_losses: float
    log_losses_squared: float
    distances: float
    """Sum over rows of (p - y)², added up over the classes."""
    distances_squared: float
    confusion: tuple[tuple[int, ...], ...]
    """Rows by their class, and in each by the class of the highest probability."""
    no_class: int = 0
    """Rows that are left out, because their label is no class of the model."""

    @property
    def count(self) -> int:
        return sum(map(sum, self.confusion))

    def __add__(self, other: "ClassSums") -> "ClassSums":
        """Add up rows of the same classes."""
        pairs = zip(self.confusion, other.confusion, strict=True)
        return ClassSums(
            self.classes,
            tuple(one + two for one, two in zip(self.bins, other.bins, strict=True)),
            self.log_losses + other.log_losses,
            self.log_losses_squared + other.log_losses_squared,
            self.distances + other.distances,
            self.distances_squared + other.distances_squared,
            tuple(tuple(a + b for a, b in zip(one, two, strict=True)) for one, two in pairs),
            self.no_class + other.no_class,
        )

    def metrics(self) -> dict[str, Estimate]:
        """Return the metrics that the rows allow.

        `auc` is the mean over the classes of one class against all others. With few rows of a class `log_loss` and
        `brier` have no interval, and neither has `accuracy` with few rows.
        """
        n, right = self.count, sum(row[i] for i, row in enumerate(self.confusion))
        accuracy = wilson(right, n)
        found = {
            "auc": self._macro_auc(),
            "log_loss": self._mean(self.log_losses, self.log_losses_squared),
            "brier": self._mean(self.distances, self.distances_squared),
            "accuracy": accuracy if accuracy is None or n >= LEAST_ROWS else accuracy.without_interval(),
        }
        for place, name in enumerate(self.classes):
            hits = self.confusion[place][place]
            found[f"precision of {name}"] = wilson(hits, sum(row[place] for row in self.confusion))
            found[f"recall of {name}"] = wilson(hits, sum(self.confusion[place]))
        return {name: estimate for name, estimate in found.items() if estimate is not None}

    def _mean(self, total: float, squares: float) -> Estimate | None:
        found = mean(total, squares, self.count)
        rarest = min(map(sum, self.confusion), default=0)
        return found.without_interval() if found and rarest < LEAST_OF_A_LABEL else found

    def _macro_auc(self) -> Estimate | None:
        """Return the mean of the classes' AUC. None if a class has no row.

        The classes' errors go together in an unknown way, and the error of a mean is at most the mean of the errors.
        So the ends are the means of the classes' ends.
        """
        each = [found for bins in self.bins if (found := bins.auc())]
        if not each or len(each) < len(self.bins):
            return None
        value = sum(one.value for one in each) / len(each)
        lows = [one.low for one in each if one.low is not None]
        highs = [one.high for one in each if one.high is not None]
        if len(lows) < len(each) or len(highs) < len(each):
            return Estimate(value, None, None)
        return Estimate(value, sum(lows) / len(each), sum(highs) / len(each))

    def as_json(self) -> dict[str, Any]:
        return {
            "problem": "multiclass",
            "classes": list(self.classes),
            "bins": [bins.as_json() for bins in self.bins],
            "log_losses": self.log_losses,
            "log_losses_squared": self.log_losses_squared,
            "distances": self.distances,
            "distances_squared": self.distances_squared,
            "confusion": [list(row) for row in self.confusion],
            "no_class": self.no_class,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ClassSums":
        plain = {name: v for name, v in value.items() if name not in ("problem", "classes", "bins", "confusion")}
        bins = tuple(BinnedScores.from_json(each) for each in value["bins"])
        return cls(tuple(value["classes"]), bins, **plain, confusion=tuple(map(tuple, value["confusion"])))


def sum_classes(
    probabilities: "np.ndarray[Any, Any]", labels: "np.ndarray[Any, Any]", classes: Sequence[str]
) -> ClassSums:
    """Sum up rows.

    Args:
        probabilities: Of each class, shape (n, k), without NaN.
        labels: The number of each row's class, shape (n,), without NaN.
        classes: Their k names.
    """
    probabilities, labels = probabilities.astype(np.float64), labels.astype(np.int64)
    k, rows = len(classes), np.arange(len(labels))
    losses = -np.log(np.clip(probabilities[rows, labels], _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY))
    distances = ((probabilities - np.eye(k)[labels]) ** 2).sum(axis=1)
    predicted = probabilities.argmax(axis=1) if len(labels) else labels
    confusion = np.bincount(labels * k + predicted, minlength=k * k).reshape(k, k)
    bins = tuple(bin_scores(probabilities[:, place], labels == place) for place in range(k))
    of_losses, of_distances = ((float(values.sum()), float((values**2).sum())) for values in (losses, distances))
    counted = tuple(tuple(int(number) for number in row) for row in confusion)
    return ClassSums(tuple(classes), bins, *of_losses, *of_distances, counted)
