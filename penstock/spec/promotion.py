"""The `promotion:` of a spec: what a challenger must show before the alias of the model moves to it."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from penstock.spec.parts import Duration, Part, Schedule
from penstock.spec.steps import ModelRef

ComparedMetric = Literal["auc", "pr_auc", "log_loss", "brier", "mae", "rmse"]
HIGHER_IS_BETTER = frozenset({"auc", "pr_auc"})
"""Of the other metrics a lower value is better."""
AliasName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,99}$")]


class NotWorse(Part):
    """A limit of how much worse than the champion the challenger may be."""

    not_worse_by: float = Field(ge=0, allow_inf_nan=False, examples=[0.005])
    """The challenger passes if its metric is worse by no more than this, on the same labelled rows."""


class AtMost(Part):
    """A limit of a share."""

    at_most: float = Field(ge=0, le=1, examples=[0.02])
    """Largest share of the rows that both scored."""


class Requirements(Part):
    """What the challenger must show in one pipeline. What is left out is not required."""

    intervals: int = Field(default=1, ge=1, examples=[14])
    """Fewest intervals that have a published run of the champion and one of the challenger."""
    labelled: int | None = Field(default=None, ge=1, examples=[2000])
    """Fewest rows of these intervals that both scored and whose label counts. Needs `labels:`."""
    auc: NotWorse | None = Field(default=None, examples=[{"not_worse_by": 0.005}])
    """Area under the ROC curve. Needs `labels:`, as the other metrics do."""
    pr_auc: NotWorse | None = Field(default=None, examples=[{"not_worse_by": 0.01}])
    """Average precision."""
    log_loss: NotWorse | None = Field(default=None, examples=[{"not_worse_by": 0.01}])
    """Log loss."""
    brier: NotWorse | None = Field(default=None, examples=[{"not_worse_by": 0.002}])
    """Brier score."""
    mae: NotWorse | None = Field(default=None, examples=[{"not_worse_by": 0.5}])
    """Mean absolute error of a regression."""
    rmse: NotWorse | None = Field(default=None, examples=[{"not_worse_by": 0.5}])
    """Root mean squared error of a regression."""
    flips: AtMost | None = Field(default=None, examples=[{"at_most": 0.02}])
    """Share of the rows of which a decision differs. Needs `decide:`."""
    drift: Literal["none"] | None = Field(default=None, examples=["none"])
    """`none`: no column had an alarm in a run of these intervals. Needs `drift:`."""

    @property
    def metrics(self) -> dict[ComparedMetric, float]:
        """By metric: how much worse the challenger may be."""
        limits: dict[ComparedMetric, NotWorse | None] = {
            "auc": self.auc,
            "pr_auc": self.pr_auc,
            "log_loss": self.log_loss,
            "brier": self.brier,
            "mae": self.mae,
            "rmse": self.rmse,
        }
        return {metric: limit.not_worse_by for metric, limit in limits.items() if limit is not None}

    @property
    def needs_labels(self) -> tuple[str, ...]:
        """The requirements that need labels."""
        return (*(("labelled",) if self.labelled else ()), *self.metrics)


class Promotion(Part):
    """When the alias that the pipeline's `model` names moves to its challenger.

    Pipelines that share a model must agree in everything but `require`: one flow serves them all.
    """

    alias: AliasName = Field(default="champion", examples=["champion"])
    """The alias that moves. It is the one that `model` names."""
    challenger: ModelRef | None = Field(default=None, examples=["card-risk@challenger"])
    """The entry of `challengers` that is to be promoted. Without it there must be exactly one of the same model."""
    require: Requirements = Field(examples=[{"intervals": 14, "labelled": 2000, "auc": {"not_worse_by": 0.005}}])
    """What the challenger must show."""
    approval: Literal["person", "none"] = Field(default="person", examples=["none"])
    """`person`: somebody must approve in a form. `none`: the alias moves as soon as all requirements are met."""
    answer_within: Duration = Field(default=timedelta(days=3), ge=timedelta(minutes=1), examples=["3d"])
    """How long the form waits. After that the question lapses, and the next run of the flow asks again."""
    schedule: Schedule = Field(default=Schedule(cron="0 7 * * *"), examples=[{"cron": "0 7 * * *"}])
    """When the requirements are checked. The default is every day at 07:00 UTC."""
