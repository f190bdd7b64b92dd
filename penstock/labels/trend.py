"""The performance of a pipeline's live rows from interval to interval, for its status page."""

from dataclasses import dataclass

from penstock.database.connections import Database
from penstock.labels.alerts import list_alerts
from penstock.labels.judged_rows import ALL_ROWS
from penstock.labels.performance import alike, list_judged_runs, read_performance
from penstock.ledger.destinations import LIVE
from penstock.monitor.estimates import Estimate
from penstock.run_types import interval_label
from penstock.spec.pipeline import Pipeline

MOST = 40
"""Newest measured intervals of a trend."""
_USUAL = ("auc", "rmse", "ndcg", "concordance")


@dataclass(frozen=True)
class TrendPoint:
    """One interval's metric."""

    interval: str
    estimate: Estimate
    provisional: bool
    """Whether labels may still come."""


@dataclass(frozen=True)
class PerformanceTrend:
    """One metric of a pipeline over its newest measured intervals."""

    metric: str
    points: tuple[TrendPoint, ...]
    """The oldest first. There is at least one."""
    total: Estimate
    """The metric of the rows of all points."""
    coverage: float
    """The share of their scored rows that count."""
    alerts: tuple[str, ...]
    """What is beyond its limit now."""

    @property
    def provisional(self) -> bool:
        return any(point.provisional for point in self.points)


def read_trend(database: Database, pipeline: Pipeline) -> PerformanceTrend | None:
    """Return the trend of the first metric with a limit, or else of the usual one. None if nothing was measured."""
    if pipeline.labels is None:
        return None
    live = [run for run in list_judged_runs(database, pipeline.name) if run.variant == LIVE][-MOST:]
    measured = alike([each for each in read_performance(database, live, only=ALL_ROWS) if each.all_rows.judged])
    if not measured:
        return None
    known = [each.all_rows.sums.metrics() for each in measured]
    first, *others = (each.all_rows for each in measured)
    rows = sum(others, first)
    totals = rows.sums.metrics()
    metric = next((name for name in (*pipeline.labels.alert, *_USUAL) if name in totals), None)
    if metric is None:
        return None
    points = tuple(
        TrendPoint(interval_label(each.run.interval), metrics[metric], not each.mature)
        for each, metrics in zip(measured, known, strict=True)
        if metric in metrics
    )
    alerts = tuple(alert.message for alert in list_alerts(database, pipeline.name))
    return PerformanceTrend(metric, points, totals[metric], rows.judged / rows.scored, alerts) if points else None
