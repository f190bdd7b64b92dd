"""Fit a booster on columns, with early stopping on the last rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xgboost as xgb

from penstock.errors import ModelRefused
from penstock.models.booster.frames import first_line, kind_of
from penstock.models.columns import FeatureColumn, Numbers

_TYPES = {"float": "float", "int": "int", "bool": "i", "category": "c"}


@dataclass(frozen=True)
class Fitted:
    """A fitted booster as a UBJSON file, with its holdout metrics at the best iteration."""

    content: bytes
    best_iteration: int | None
    metrics: dict[str, float]
    predicted: Numbers
    """What the booster predicts of the rows that it was fitted on, with the best iteration."""


def fit_booster(
    columns: Sequence[FeatureColumn],
    label: npt.NDArray[np.float32],
    holdout: int,
    rounds: int,
    early_stopping: int | None,
    params: Mapping[str, Any],
    groups: npt.NDArray[np.int64] | None = None,
) -> Fitted:
    """Fit on all rows but the last `holdout`, which evaluate each round. Stop when the last metric stops improving.

    Args:
        groups: for a ranking objective, the number of each row's group, ascending.

    Raises:
        ModelRefused: XGBoost refuses the names, the labels or the parameters.
    """
    types = [_TYPES[c.feature.dtype] for c in columns]
    cut = len(label) - holdout
    evaluations: dict[str, dict[str, list[float]]] = {}
    try:
        training, evaluating = (
            xgb.DMatrix(
                _arrow_table(columns, part),
                label[part],
                feature_types=types,
                enable_categorical=True,
                qid=None if groups is None else groups[part],
            )
            for part in (slice(0, cut), slice(cut, None))
        )
        booster = xgb.train(
            dict(params),
            training,
            rounds,
            evals=[(evaluating, "holdout")] if holdout else [],
            evals_result=evaluations,
            early_stopping_rounds=early_stopping if holdout else None,
            verbose_eval=False,
        )
    except (xgb.core.XGBoostError, ValueError) as error:
        raise ModelRefused("to be trained", f"XGBoost says: {first_line(error)}") from None
    best = booster.attr("best_iteration")
    at = -1 if best is None else int(best)
    values = {name: float(series[at]) for name, series in evaluations.get("holdout", {}).items()}
    used = 0 if best is None or kind_of(booster) == "gblinear" else at + 1
    return Fitted(
        content=bytes(booster.save_raw("ubj")),
        best_iteration=None if best is None else at,
        metrics={name: value for name, value in values.items() if np.isfinite(value)},
        predicted=np.asarray(booster.predict(training, iteration_range=(0, used))),
    )


def _arrow_table(columns: Sequence[FeatureColumn], part: slice) -> pa.Table:
    """Build a table of some rows to fit on. XGBoost cuts the category names of a pandas frame, but not of Arrow's."""

    def array_of(column: FeatureColumn) -> "pa.Array[Any]":
        values = column.values[part]
        if column.feature.dtype != "category":
            return pa.array(values)
        codes = pa.array(values, pa.int32(), mask=values < 0)
        return pa.DictionaryArray.from_arrays(codes, pa.array(column.feature.categories, pa.string()))

    return pa.table({c.feature.name: array_of(c) for c in columns})
