"""A booster's own facts, and the frame that it is given: named columns in the manifest's order, never an array.

XGBoost would score an array whose columns are in the wrong order without an error.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import xgboost as xgb

from penstock.models.category_names import StoredNames
from penstock.models.columns import FeatureColumn, Numbers


def kind_of(booster: xgb.Booster) -> str:
    """Return the kind of booster: gbtree, dart or gblinear."""
    return str(json.loads(booster.save_config())["learner"]["gradient_booster"]["name"])


def read_categories(booster: xgb.Booster) -> dict[str, list[Any] | StoredNames]:
    """Return the categories of each category feature, if the file has them (frames, XGBoost 3.1 or later).

    Names beyond ASCII are given as they are stored.
    """
    if kind_of(booster) == "gblinear":
        return {}  # XGBoost raises: a linear booster has no categories
    exported = booster.get_categories(export_to_arrow=True)
    if exported is None or exported.empty():
        return {}
    return {name: _read_names(values) for name, values in exported.to_arrow() if values is not None}


def _read_names(values: "pa.Array[Any]") -> list[Any] | StoredNames:
    if pa.types.is_string(values.type):
        stored = StoredNames.of_array(values)
        if not stored.is_ascii:
            return stored
    return list(values.to_pylist())


def build_frame(columns: Sequence[FeatureColumn], indexes: "Mapping[str, pd.Index[Any]] | None") -> pd.DataFrame:
    """Build a frame of the named columns, in their order, without a copy.

    Args:
        indexes: by category feature, its categories; None for the codes as numbers.
    """

    def values_of(column: FeatureColumn) -> Any:
        if column.feature.dtype != "category":
            return column.values
        if indexes is not None:
            return pd.Categorical.from_codes(column.values, categories=indexes[column.feature.name])
        codes = column.values.astype(np.float32)
        codes[codes < 0] = np.nan
        return codes

    return pd.DataFrame({c.feature.name: values_of(c) for c in columns}, copy=False)


def build_array(columns: Sequence[FeatureColumn]) -> Numbers:
    """Build an array of shape (rows, features) of the columns, in 32 bits, with categories by their codes.

    The columns are those of the manifest, in its order. XGBoost converts each value of a frame in the same way.
    """
    array = np.empty((len(columns[0].values), len(columns)), np.float32)
    for at, column in enumerate(columns):
        array[:, at] = column.values
        if column.feature.dtype == "category":
            array[column.values < 0, at] = np.nan
    return array


def first_line(error: Exception) -> str:
    """Return XGBoost's message without its time stamp, source line and stack trace."""
    text = str(error).strip().splitlines()[0]
    return text.split(".cc:")[-1].lstrip("0123456789: ") if ".cc:" in text else text
