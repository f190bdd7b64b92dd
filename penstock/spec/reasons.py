"""Which rows get reasons for their scores, how many reasons, and what that may cost."""

from typing import Annotated, Literal

from pydantic import Field

from penstock.spec.parts import Part
from penstock.spec.steps import SqlExpression

Direction = Literal["raises", "lowers", "both"]


class ReasonsBudget(Part):
    """What the reasons of one run may cost. If `when` chooses more rows, the hashes of their keys decide."""

    seconds: float = Field(default=120, gt=0, allow_inf_nan=False, examples=[120])
    """Most CPU seconds, estimated from the trees of the model."""
    rows: int = Field(default=50_000, ge=0, examples=[50_000])
    """Most rows."""


class Reasons(Part):
    """Reasons of scores: the features that moved a row's score most, by exact TreeSHAP."""

    when: SqlExpression = Field(examples=["decision = 'block'"])
    """Rows for which this condition is true get reasons. It may use features, outputs and columns of `decide`."""
    top: int = Field(default=4, ge=1, le=100, examples=[4])
    """Most reasons of a row, the largest contribution first."""
    direction: Direction = Field(default="both", examples=["raises"])
    """Whether reasons are features that raise the raw score, lower it, or both."""
    budget: ReasonsBudget = Field(default=ReasonsBudget(), examples=[{"seconds": 120, "rows": 50_000}])
    """What the reasons of one run may cost. Rows beyond it have one reason, the text `budget`."""
    over_budget: Literal["note", "halt"] = Field(default="note", examples=["halt"])
    """What a run does with rows beyond the budget: note their number, or halt before it publishes."""
    texts: dict[Annotated[str, Field(min_length=1)], Annotated[str, Field(min_length=1, max_length=500)]] = Field(
        default_factory=dict, examples=[{"utilisation": "Balances are high against limits"}]
    )
    """By feature of the model: the text of its reason. Without one the text is the feature's name."""
