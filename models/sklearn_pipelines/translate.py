"""Write the steps before a Pipeline's last one as SQL expressions, and refuse by name what has none."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from penstock.models.sklearn_pipelines.category_steps import translate_one_hot, translate_ordinal
from penstock.models.sklearn_pipelines.numeric_steps import (
    translate_bins,
    translate_imputer,
    translate_indicator,
    translate_max_abs_scaler,
    translate_min_max_scaler,
    translate_robust_scaler,
    translate_standard_scaler,
)
from penstock.models.sklearn_pipelines.sql_columns import SqlColumn, UntranslatedError, number, untranslated

_Translate = Callable[[Any, Sequence[SqlColumn]], list[SqlColumn]]


def translate_step(name: str, step: Any, columns: Sequence[SqlColumn]) -> list[SqlColumn]:
    """Return the columns that a fitted step makes of its input.

    Raises:
        UntranslatedError: it has no SQL. It names the step with those around it.
    """
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return list(columns)
    kind = type(step).__name__
    translate = _STEPS.get(kind) if type(step).__module__.startswith("sklearn.") else None
    try:
        if translate is None:
            untranslated(f"has no translation into SQL; those that have are {', '.join(sorted(_STEPS))}")
        return translate(step, columns)
    except UntranslatedError as error:
        raise error.inside(name, kind) from None


def translate_pipeline(step: Any, columns: Sequence[SqlColumn]) -> list[SqlColumn]:
    for name, inner in step.steps:
        columns = translate_step(name, inner, columns)
    return list(columns)


def _translate_columns(step: Any, columns: Sequence[SqlColumn]) -> list[SqlColumn]:
    """Write a ColumnTransformer: the outputs of its transformers, one after the other."""
    made: list[SqlColumn] = []
    indices = step._transformer_to_input_indices
    weights = step.transformer_weights or {}
    for name, inner, _ in step.transformers_:
        chosen = [columns[int(position)] for position in indices[name]]
        if not chosen or (isinstance(inner, str) and inner == "drop"):
            continue
        made += _weighted(translate_step(name, inner, chosen), weights.get(name))
    return made


def _translate_union(step: Any, columns: Sequence[SqlColumn]) -> list[SqlColumn]:
    weights = step.transformer_weights or {}
    made: list[SqlColumn] = []
    for name, inner in step.transformer_list:
        if inner is not None and not (isinstance(inner, str) and inner == "drop"):
            made += _weighted(translate_step(name, inner, columns), weights.get(name))
    return made


def _weighted(columns: list[SqlColumn], weight: float | None) -> list[SqlColumn]:
    if weight is None:
        return columns
    return [SqlColumn(c.name, f"({c.sql} * {number(weight)})") for c in columns]


def _translate_function(step: Any, columns: Sequence[SqlColumn]) -> list[SqlColumn]:
    """Pass columns through where there is no function, as scikit-learn writes `passthrough` itself."""
    if step.func is not None:
        called = getattr(step.func, "__name__", str(step.func))
        untranslated(f"calls `{called}`, and Python code is not translated: write it in the features query")
    return list(columns)


def missing_of(step: Any) -> set[str]:
    """Return how a Pipeline's steps know missing values in columns of text: as `None`, as `nan`, or both."""
    found: set[str] = set()
    inner = [s for _, s in getattr(step, "steps", ())] + [s for _, s in getattr(step, "transformer_list", ())]
    inner += [s for _, s, _ in getattr(step, "transformers_", ())]
    for child in inner:
        found |= missing_of(child)
    for known in getattr(step, "categories_", ()):
        if np.asarray(known).dtype == object:
            found |= {"None" if v is None else "nan" for v in known if v is None or v != v}  # NaN
    if type(step).__name__ in ("SimpleImputer", "MissingIndicator") and step.missing_values is None:
        found.add("None")
    return found


_STEPS: dict[str, _Translate] = {
    "ColumnTransformer": _translate_columns,
    "FeatureUnion": _translate_union,
    "FunctionTransformer": _translate_function,
    "KBinsDiscretizer": translate_bins,
    "MaxAbsScaler": translate_max_abs_scaler,
    "MinMaxScaler": translate_min_max_scaler,
    "MissingIndicator": translate_indicator,
    "OneHotEncoder": translate_one_hot,
    "OrdinalEncoder": translate_ordinal,
    "Pipeline": translate_pipeline,
    "RobustScaler": translate_robust_scaler,
    "SimpleImputer": translate_imputer,
    "StandardScaler": translate_standard_scaler,
}
