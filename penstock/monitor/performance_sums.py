"""The performance of scores against labels, as sums that add up over partitions and runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from penstock.monitor.binned_scores import BinnedScores, bin_scores
from penstock.monitor.class_sums import ClassSums
from penstock.monitor.estimates import LEAST_OF_A_LABEL, Estimate, mean
from penstock.monitor.ranking_sums import RankingSums
from penstock.monitor.survival_sums import SurvivalSums

Problem = Literal["classification", "multiclass", "regression", "ranking", "hazard", "lifetime"]
"""What a model solves: it gives the probability of the label 1 or that of each class, a number, an order within groups,
or of the time of an event the risk or the time itself."""
SURVIVAL: tuple[Problem, ...] = ("hazard", "lifetime")
_LEAST_PROBABILITY = float(np.finfo(np.float32).eps)
"""The log loss of a probability of 0 would be infinite. Scores are float32, and scikit-learn cuts them here."""


@dataclass(frozen=True)
class ClassificationSums:
    """Sums over rows with a probability p and a label y of 0 or 1."""

    bins: BinnedScores
    log_losses: float
    log_losses_squared: float
    errors: float
    """Sum of p - y."""
    errors_squared: float
    errors_to_fourth: float

    @property
    def count(self) -> int:
        return self.bins.count

    def __add__(self, other: "ClassificationSums") -> "ClassificationSums":
        return ClassificationSums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def metrics(self) -> dict[str, Estimate]:
        """Return the metrics that the rows allow. `calibration` is the mean of p - y.

        With few rows of one label none has an interval, for each of them is an approximation.
        """
        n = self.count
        found = {
            "auc": self.bins.auc(),
            "pr_auc": self.bins.average_precision(),
            "log_loss": mean(self.log_losses, self.log_losses_squared, n),
            "brier": mean(self.errors_squared, self.errors_to_fourth, n),
            "calibration": mean(self.errors, self.errors_squared, n),
        }
        known = {name: estimate for name, estimate in found.items() if estimate is not None}
        if min(self.bins.positive_count, self.bins.negative_count) >= LEAST_OF_A_LABEL:
            return known
        return {name: estimate.without_interval() for name, estimate in known.items()}

    def as_json(self) -> dict[str, Any]:
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "bins"}
        return {"problem": "classification", "bins": self.bins.as_json(), **plain}


@dataclass(frozen=True)
class RegressionSums:
    """Sums over rows with a score and a label, where e = score - label."""

    count: int
    errors: float
    errors_absolute: float
    errors_squared: float
    errors_to_fourth: float
    pinball: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By quantile: the sum of the losses, and of their squares."""

    def __add__(self, other: "RegressionSums") -> "RegressionSums":
        both = {
            q: (loss + other.pinball[q][0], square + other.pinball[q][1])
            for q, (loss, square) in self.pinball.items()
            if q in other.pinball
        }
        return RegressionSums(
            self.count + other.count,
            self.errors + other.errors,
            self.errors_absolute + other.errors_absolute,
            self.errors_squared + other.errors_squared,
            self.errors_to_fourth + other.errors_to_fourth,
            both,
        )

    def metrics(self) -> dict[str, Estimate]:
        """Return the metrics. `bias` is the mean of e."""
        if self.count == 0:
            return {}
        found = {
            "mae": mean(self.errors_absolute, self.errors_squared, self.count),
            "rmse": self._root_mean_square(),
            "bias": mean(self.errors, self.errors_squared, self.count),
            **{f"pinball_{q}": mean(*sums, self.count) for q, sums in self.pinball.items()},
        }
        return {name: estimate for name, estimate in found.items() if estimate is not None}

    def _root_mean_square(self) -> Estimate | None:
        """Return the RMSE. Its error follows from that of the mean of e², divided by twice the root (delta method)."""
        squares = mean(self.errors_squared, self.errors_to_fourth, self.count)
        if squares is None or squares.value == 0:
            return squares
        root, cut = math.sqrt(squares.value), squares.cut(0.0)
        if cut.low is None or cut.high is None:
            return Estimate(root, None, None)
        return Estimate(root, math.sqrt(cut.low), math.sqrt(cut.high))

    def as_json(self) -> dict[str, Any]:
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "pinball"}
        return {"problem": "regression", "pinball": {q: list(s) for q, s in self.pinball.items()}, **plain}


def sum_rows(
    problem: Literal["classification", "regression"],
    scores: "np.ndarray[Any, Any]",
    labels: "np.ndarray[Any, Any]",
    quantiles: Sequence[float] = (),
) -> ClassificationSums | RegressionSums:
    """Sum up rows.

    Args:
        scores: Probabilities of the label 1, or numbers, shape (n,), without NaN.
        labels: Of a classification 0 or 1, shape (n,), without NaN.
        quantiles: Of a regression: where the pinball loss is measured.
    """
    scores, labels = scores.astype(np.float64), labels.astype(np.float64)
    errors = scores - labels
    if problem == "regression":
        pinball = {f"{q:g}": _sums_of(np.maximum(-q * errors, (1 - q) * errors)) for q in quantiles}
        absolute, squared = _sums_of(np.abs(errors))
        return RegressionSums(len(errors), float(errors.sum()), absolute, squared, float((errors**4).sum()), pinball)
    cut = np.clip(scores, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    losses = -np.where(labels == 1, np.log(cut), np.log1p(-cut))
    sums = [*_sums_of(losses), *(float(power.sum()) for power in (errors, errors**2, errors**4))]
    return ClassificationSums(bin_scores(scores, labels == 1), *sums)


def _sums_of(values: "np.ndarray[Any, Any]") -> tuple[float, float]:
    return float(values.sum()), float((values**2).sum())


PerformanceSums = ClassificationSums | ClassSums | RegressionSums | RankingSums | SurvivalSums


def read_sums(value: Mapping[str, Any]) -> PerformanceSums:
    """Read what `as_json` returned."""
    if value["problem"] == "multiclass":
        return ClassSums.from_json(value)
    plain = {name: v for name, v in value.items() if name not in ("problem", "bins", "pinball")}
    if value["problem"] == "ranking":
        return RankingSums(**plain)
    if value["problem"] == "survival":
        return SurvivalSums(**plain)
    if value["problem"] == "classification":
        return ClassificationSums(BinnedScores.from_json(value["bins"]), **plain)
    return RegressionSums(**plain, pinball={q: (s[0], s[1]) for q, s in value["pinball"].items()})
