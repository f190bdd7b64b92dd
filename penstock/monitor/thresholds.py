"""Replay the threshold of a decision over labelled scores: how many rows flip, and what the errors cost."""

from collections.abc import Iterable
from dataclasses import dataclass

from penstock.monitor.binned_scores import BinnedScores


@dataclass(frozen=True)
class Costs:
    """What one row costs by how it was decided."""

    false_positive: float = 0.0
    false_negative: float = 0.0
    true_positive: float = 0.0
    true_negative: float = 0.0


@dataclass(frozen=True)
class ThresholdOutcome:
    """What would have happened if rows with a score of at least the threshold had been decided as positive."""

    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    cost: float
    flips: int | None
    """Rows that the present threshold decides otherwise. None if that is not known."""


def replay_threshold(
    scores: BinnedScores, threshold: float, costs: Costs, present: float | None = None
) -> ThresholdOutcome:
    """Count the decisions of a threshold. It is rounded to the edge of a bin.

    Args:
        present: The threshold in force.
    """
    rows, positives = scores.counts_from(threshold)
    false_positives, false_negatives = rows - positives, scores.positive_count - positives
    true_negatives = scores.negative_count - false_positives
    cost = (
        costs.false_positive * false_positives
        + costs.false_negative * false_negatives
        + costs.true_positive * positives
        + costs.true_negative * true_negatives
    )
    flips = None if present is None else abs(rows - scores.counts_from(present)[0])
    return ThresholdOutcome(threshold, positives, false_positives, true_negatives, false_negatives, cost, flips)


def replay_thresholds(
    scores: BinnedScores, thresholds: Iterable[float], costs: Costs, present: float | None = None
) -> list[ThresholdOutcome]:
    """Count the decisions of several thresholds, the lowest first."""
    return [replay_threshold(scores, each, costs, present) for each in sorted(set(thresholds))]


def find_cheapest(scores: BinnedScores, costs: Costs, present: float | None = None) -> ThresholdOutcome:
    """Return the cheapest threshold of all: one at each edge of a bin with rows, or none that any row reaches.

    Of equal costs, the threshold that decides fewest rows as positive is taken.
    """
    positives, negatives = scores.positives, scores.rows - scores.positives
    # What a row adds if it is decided as positive, summed over the bins from each one up.
    added = positives * (costs.true_positive - costs.false_negative) + negatives * (
        costs.false_positive - costs.true_negative
    )
    from_bin = [*added[::-1].cumsum()[::-1].tolist(), 0.0]
    cheapest = min(range(len(from_bin)), key=lambda place: (from_bin[place], -place))
    if cheapest == len(scores.bins):
        return _no_positives(scores, costs, present)
    return replay_threshold(scores, scores.lower_edge(cheapest), costs, present)


def _no_positives(scores: BinnedScores, costs: Costs, present: float | None) -> ThresholdOutcome:
    """Return the outcome of a threshold that no row reaches."""
    negatives, positives = scores.negative_count, scores.positive_count
    cost = costs.false_negative * positives + costs.true_negative * negatives
    flips = None if present is None else scores.counts_from(present)[0]
    return ThresholdOutcome(float("inf"), 0, 0, negatives, positives, cost, flips)
