"""Alerts of performance: one episode from the collection in which a metric breaks its limit until it is back.

The whole 95 % interval must be on the wrong side, so that chance raises few alerts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.labels.judged_rows import ALL_ROWS, Question, judged_from
from penstock.labels.performance import RunPerformance, alike, list_judged_runs, read_performance
from penstock.ledger.destinations import LIVE
from penstock.ledger.tables import performance_alerts
from penstock.monitor.estimates import Estimate
from penstock.spec.labels import Limit
from penstock.wording import plural


@dataclass(frozen=True)
class Alert:
    """A metric that is beyond its limit."""

    metric: str
    message: str
    began_at: datetime


def judge_performance(database: Database, question: Question) -> list[Alert]:
    """Begin and end the episodes of the pipeline's alerts. Return those that no message was sent about yet.

    An episode lasts while its metric cannot be measured, or has no interval. It ends if its limit is gone.
    """
    pipeline, limits = question.pipeline.name, question.labels.alert
    judged = dict(_judge_metrics(database, question))
    broken = {metric: message for metric, message in judged.items() if message}
    with database.writing() as connection:
        mine = performance_alerts.c.pipeline == pipeline
        lasting = sa.select(performance_alerts.c.metric).where(mine, performance_alerts.c.ended_at.is_(None))
        open_metrics = set(connection.execute(lasting).scalars())
        for metric in {each for each in open_metrics if each not in limits or judged.get(each) == ""}:
            same = (mine, performance_alerts.c.metric == metric, performance_alerts.c.ended_at.is_(None))
            connection.execute(sa.update(performance_alerts).where(*same).values(ended_at=question.now))
        for metric in broken.keys() - open_metrics:
            row = {"pipeline": pipeline, "metric": metric, "began_at": question.now, "message": broken[metric]}
            connection.execute(performance_alerts.insert().values(**row))
    return list_alerts(database, pipeline, only_new=True)


def list_alerts(database: Database, pipeline: str, *, only_new: bool = False) -> list[Alert]:
    """Return the episodes that last, by metric.

    Args:
        only_new: Only those that no message was sent about.
    """
    columns = performance_alerts.c
    query = sa.select(columns.metric, columns.message, columns.began_at)
    query = query.where(columns.pipeline == pipeline, columns.ended_at.is_(None))
    if only_new:
        query = query.where(columns.announced_at.is_(None))
    with database.reading() as connection:
        return [Alert(*row) for row in connection.execute(query.order_by(columns.metric))]


def mark_announced(database: Database, pipeline: str, alert: Alert, now: datetime) -> None:
    """Keep that people were told of an episode."""
    columns = performance_alerts.c
    same = (columns.pipeline == pipeline, columns.metric == alert.metric, columns.began_at == alert.began_at)
    with database.writing() as connection:
        connection.execute(sa.update(performance_alerts).where(*same).values(announced_at=now))


def _judge_metrics(database: Database, question: Question) -> Iterator[tuple[str, str]]:
    """Yield each metric that has an interval, with a message if it is beyond its limit, or else empty text.

    The newest measured intervals of the live rows count.
    """
    live = [run for run in list_judged_runs(database, question.pipeline.name) if run.variant == LIVE]
    measured = [each for each in read_performance(database, live, only=ALL_ROWS) if each.all_rows.judged]
    if not measured:
        return
    newest = max(judged_from(each.run) for each in measured)
    recent = alike([each for each in measured if judged_from(each.run) > newest - question.labels.over])
    first, *others = (each.all_rows for each in recent)
    metrics = sum(others, first).sums.metrics()
    for metric, limit in question.labels.alert.items():
        found = metrics.get(metric)
        if found and found.low is not None and found.high is not None:
            is_beyond = _is_beyond(found.low, found.high, limit)
            yield metric, _describe(metric, found, limit, recent) if is_beyond else ""


def _is_beyond(low: float, high: float, limit: Limit) -> bool:
    """Whether the whole 95 % interval is on the wrong side of the limit."""
    if limit.below is not None:
        return high < limit.below
    if limit.above is not None:
        return low > limit.above
    assert limit.beyond is not None
    return low > limit.beyond or high < -limit.beyond


def _describe(metric: str, found: Estimate, limit: Limit, recent: list[RunPerformance]) -> str:
    [(word, value)] = limit.model_dump(exclude_none=True).items()
    rows = sum(each.all_rows.judged for each in recent)
    return (
        f"{metric} is {found.value:.4f} (95 % interval {found.describe_range()}), {word} {value:g}, "
        f"by {plural(rows, 'row')} of {plural(len(recent), 'run')}"
    )
