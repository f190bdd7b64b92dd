"""Labels: what the scored rows turned out to be, which source has it, and which performance raises an alert."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from penstock.spec.parts import Column, Duration, Part, Schedule
from penstock.spec.sources import FilesSource, SqlSource
from penstock.spec.steps import SqlExpression

Metric = Literal[
    "auc",
    "pr_auc",
    "log_loss",
    "brier",
    "calibration",
    "accuracy",
    "mae",
    "rmse",
    "bias",
    "ndcg",
    "concordance",
]
"""What an alert can watch. `penstock.monitor` computes them."""

LabelSource = Annotated[SqlSource | FilesSource, Field(discriminator="kind")]


class Limit(Part):
    """The limit of one metric. Give exactly one of `below`, `above` and `beyond`."""

    below: float | None = Field(default=None, allow_inf_nan=False, examples=[0.72])
    """Alert when the metric is below this."""
    above: float | None = Field(default=None, allow_inf_nan=False, examples=[0.4])
    """Alert when the metric is above this."""
    beyond: float | None = Field(default=None, ge=0, allow_inf_nan=False, examples=[0.05])
    """Alert when the metric is farther than this from zero."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(limit is not None for limit in (self.below, self.above, self.beyond)) != 1:
            raise ValueError("give exactly one of `below`, `above` and `beyond`")
        return self


class Labels(Part):
    """Where the labels of scored rows are, and how performance is measured with them."""

    source: LabelSource = Field(
        examples=[{"kind": "sql", "connection": "shop", "table": "chargebacks", "key": ["payment_id"]}]
    )
    """A source with one row for each label. Its `key` has the columns of the pipeline's key."""
    value: SqlExpression = Field(examples=["case when status = 'fraud' then 1 else 0 end"])
    """The label of a row of the source, as a DuckDB expression over its columns. A NULL takes an earlier label back.
    For a binary model it is 1 or 0, or a boolean, for a model with several classes the class as text or number, for a
    ranking the relevance, and for a survival model the time of the event, or less than 0 where none was seen until that
    time."""
    seen_at: Column = Field(examples=["reported_at"])
    """Column of the source with the time at which the label became known. A later row of a key replaces its label."""
    lookback: Duration = Field(default=timedelta(days=1), examples=["7d"])
    """How far before the newest `seen_at` each collection reads again, because rows may be committed late."""
    mature: Duration = Field(default=timedelta(0), examples=["45d"])
    """Age at which an interval has its labels, counted from its end. Younger intervals are provisional."""
    missing: Literal["negative", "unknown"] = Field(default="unknown", examples=["negative"])
    """What a row without a label means once its interval is mature: `negative` counts it with the label 0, `unknown`
    leaves it out. With `negative` only mature intervals are measured: labels of younger ones are mostly positive."""
    slices: tuple[Column, ...] = Field(default=(), max_length=8, examples=[["country"]])
    """Columns of the destination by whose values performance is shown too."""
    quantiles: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(default=(), max_length=9, examples=[[0.1, 0.9]])
    """Of a regression: quantiles at which the pinball loss of the score is measured."""
    alert: dict[Metric, Limit] = Field(
        default_factory=dict, examples=[{"auc": {"below": 0.72}, "calibration": {"beyond": 0.05}}]
    )
    """Limits by metric. An alert needs the metric's whole 95 % interval on the wrong side."""
    over: Duration = Field(default=timedelta(days=30), examples=["14d"])
    """Span of intervals, back from the newest measured one, whose performance an alert judges."""
    schedule: Schedule = Field(default=Schedule(cron="0 6 * * *"), examples=[{"cron": "0 6 * * *"}])
    """When labels are collected. The default is every day at 06:00 UTC."""

    @field_validator("source")
    @classmethod
    def _is_read_by_seen_at(cls, value: SqlSource | FilesSource) -> SqlSource | FilesSource:
        if isinstance(value, FilesSource) and "{interval" in value.path:
            raise ValueError(
                "labels of all days are read by `seen_at`; write a pattern such as `labels/*.csv` as `path`"
            )
        if isinstance(value, FilesSource) and value.is_documents:
            raise ValueError("documents have no labels; use `format: parquet`, `csv` or `json`")
        if isinstance(value, SqlSource) and value.query is not None and ":interval_" in value.query:
            raise ValueError("a query of labels takes no `:interval_…`; the labels are read by `seen_at`")
        return value
