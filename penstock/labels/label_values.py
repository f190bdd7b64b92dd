"""Check that the labels and the scores of rows are what the model's problem needs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from penstock.errors import LabelValue, NotMeasured
from penstock.monitor.performance_sums import SURVIVAL, Problem
from penstock.spec.pipeline import Pipeline
from penstock.spec.steps import SCORE
from penstock.wording import plural

Array = np.ndarray[Any, Any]
NO_CLASS = -1.0
"""The number of a label that is no class of the model."""
_SHOWN = 10


def number_labels(
    pipeline: Pipeline, problem: Problem, values: Sequence[float | str | None], classes: Sequence[str] = ()
) -> Array:
    """Return labels as numbers, with NaN for None. Of a model with several classes it is the number of the class.

    Raises:
        LabelValue: a label is text.
    """
    if problem != "multiclass":
        if (text := next((value for value in values if isinstance(value, str)), None)) is not None:
            raise LabelValue(pipeline.name, f"gives the text `{text}`")
        return np.array([np.nan if value is None else float(value) for value in values], np.float64)
    places = {name: place for place, name in enumerate(classes)}
    return np.array([np.nan if v is None else places.get(_name_class(v), NO_CLASS) for v in values], np.float64)


def _name_class(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return str(int(value)) if value.is_integer() else str(value)


def count_no_class(pipeline: Pipeline, values: Sequence[float | str], classes: Sequence[str]) -> int:
    """Count the labels that are no class of the model.

    Raises:
        LabelValue: all of them are.
    """
    strange = [name for value in values if (name := _name_class(value)) not in classes]
    if strange and len(strange) == len(values):
        known = ", ".join(f"`{name}`" for name in classes[:_SHOWN])
        more = f" and {plural(len(classes) - _SHOWN, 'other')}" if len(classes) > _SHOWN else ""
        raise LabelValue(pipeline.name, f"gives `{strange[0]}`, which is no class of the model: it has {known}{more}")
    return len(strange)


def check_values(pipeline: Pipeline, problem: Problem, labels: Array) -> None:
    """Check that a model can be measured with labels.

    Args:
        labels: without NaN.

    Raises:
        LabelValue: a label of a binary model is neither 0 nor 1, a relevance is negative, or a time is 0.
    """
    if problem in SURVIVAL and (labels == 0).any():
        raise LabelValue(pipeline.name, "gives 0, which is no time of an event and none that a row has outlasted")
    if problem == "ranking" and (labels < 0).any():
        raise LabelValue(pipeline.name, f"gives {labels.min():g}, which is no relevance")
    strange = labels[(labels != 0) & (labels != 1)]
    if problem == "classification" and len(strange):
        raise LabelValue(pipeline.name, f"gives {strange[0]:g}")


def check_rows(pipeline: Pipeline, problem: Problem, scores: Array, labels: Array) -> None:
    """Check that a model can be measured with the scores and labels of some rows. NaN: there is none.

    Raises:
        LabelValue: as `check_values`.
        NotMeasured: the scores are no probabilities, or `missing: negative` does not say what a row without a label is.
    """
    refuse_negative(pipeline, problem)
    check_values(pipeline, problem, labels[~np.isnan(labels)])
    if problem not in ("classification", "multiclass"):
        return
    known = scores[~np.isnan(scores)]
    outside = known[(known < 0) | (known > 1)]
    if len(outside):
        what, why = f"`{pipeline.name}`", f"a score is {outside[0]:g}, which is no probability"
        raise NotMeasured(what, why, "Let `decide:` make a `score` between 0 and 1, or register the model with a link.")


def refuse_made_score(pipeline: Pipeline, problem: Problem, model: str) -> None:
    """Refuse a main score that `decide` makes in place of the classes' probabilities.

    Raises:
        NotMeasured: the model has several classes.
    """
    if problem == "multiclass" and SCORE in pipeline.decide:
        why = f"`decide` makes a `score`, and its model `{model}` has several classes"
        raise NotMeasured(f"`{pipeline.name}`", why, "Give that column another name, so that the classes are judged.")


def refuse_negative(pipeline: Pipeline, problem: Problem) -> None:
    """Refuse `missing: negative` where it does not say what a row without a label is.

    Raises:
        NotMeasured: the model gives times or several classes.
    """
    if pipeline.labels is None or pipeline.labels.missing != "negative":
        return
    if problem in SURVIVAL:
        reason = "`missing: negative` does not say for how long a row was without its event"
        remedy = "Let `value` give that time as a number below 0, and take `missing` out."
        raise NotMeasured(f"`{pipeline.name}`", reason, remedy)
    if problem == "multiclass":
        reason = "`missing: negative` does not say which class a row without a label is"
        raise NotMeasured(f"`{pipeline.name}`", reason, "Take `missing` out, or let `value` give the class.")
