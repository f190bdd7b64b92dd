"""The `drift:` of a spec: which columns are compared with which rows, and what an alarm does."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from penstock.spec.expectation_types import Severity
from penstock.spec.parts import Column, Part

MODEL, PREVIOUS, SAME_WEEKDAY = "model", "previous", "same_weekday"
OTHERS = "*"
"""In `watch`: all columns that it does not name."""
_RUN = r"[0-9a-f]{8,32}"
_BASELINE = rf"^({MODEL}|{PREVIOUS}|{SAME_WEEKDAY}|{_RUN})$"


def _check_baseline(text: str) -> str:
    if not re.fullmatch(_BASELINE, text):
        raise ValueError(
            f"`{text}` is nothing to compare with; write `{MODEL}`, `{PREVIOUS}`, `{SAME_WEEKDAY}`, or the first eight "
            "or more characters of a run's ID in quotation marks"
        )
    return text


BaselineName = Annotated[str, AfterValidator(_check_baseline), WithJsonSchema({"type": "string", "pattern": _BASELINE})]


class Distance(Part):
    """How far a column may be from the rows that it is compared with."""

    psi: float = Field(default=0.25, gt=0, allow_inf_nan=False, examples=[0.1])
    """Population stability index of the values that are not NULL, from which a column has drifted."""
    nulls: float = Field(default=0.05, gt=0, le=1, examples=[0.02])
    """Change of the share of NULLs from which a column has drifted: 0.05 is from 1 % to 6 %, or back."""


class Drift(Part):
    """Compare the features and the scores of each run with earlier rows, before the run is published.

    A column has drifted if its distance is beyond a limit and chance does not explain it.
    """

    against: BaselineName = Field(default=MODEL, examples=[PREVIOUS])
    """The rows to compare with. `model`: the reference rows of the model version. `previous`: the published run of the
    newest interval before. `same_weekday`: the published run of seven days before. Or the ID of a run."""
    watch: dict[Column, Severity] = Field(
        default={OTHERS: "warning"}, min_length=1, examples=[{"amount": "warning", "country": "critical", "*": "info"}]
    )
    """What drift of a feature or a score column does: critical halts the run, warning and info make a note. `*` is for
    all columns that have no entry. With `models:` a feature is named with its step, as in `screen.amount`."""
    distance: Distance = Field(default=Distance(), examples=[{"psi": 0.25}])
    """The limits."""
    slices: tuple[Column, ...] = Field(default=(), max_length=4, examples=[["country"]])
    """Columns of the features by whose values the rows are counted too, to say where the drift of a column comes from.
    A column with more than 50 values in a run is left out."""
    least_rows: int = Field(default=500, ge=1, examples=[2000])
    """Fewest rows of the run, and of the rows that it is compared with. With fewer nothing is judged."""

    def with_psi(self, psi: float) -> "Drift":
        """Return the same watch with another limit of PSI."""
        return self.model_copy(update={"distance": self.distance.model_copy(update={"psi": psi})})

    @property
    def names_run(self) -> bool:
        """Whether `against` is the ID of a run."""
        return self.against not in (MODEL, PREVIOUS, SAME_WEEKDAY)

    @property
    def named_columns(self) -> tuple[str, ...]:
        """The columns that `watch` names."""
        return tuple(column for column in self.watch if column != OTHERS)

    def severity_of(self, column: str) -> Severity | None:
        """Return what drift of a column does. None if it is not watched."""
        return self.watch.get(column, self.watch.get(OTHERS))
