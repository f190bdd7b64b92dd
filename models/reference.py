"""Distributions of the features and scores of the reference rows, the baseline for drift."""

from typing import Any

import numpy as np
import pyarrow as pa

from penstock.models.columns import FeatureColumn, read_column
from penstock.models.manifest import QUANTILES, Distribution, Feature
from penstock.models.profile import count_column, find_edges


def describe_column(column: FeatureColumn) -> Distribution:
    """Return quantiles of numbers, or frequencies of categories and bools, without rows that the model cannot take.

    The counts are of all rows, those that the model cannot take in the last bin.
    """
    fits = np.ones(len(column.values), np.bool_)
    fits[list(column.misfits)] = False
    values = column.values[fits]
    is_category = column.feature.dtype == "category"
    present = values[values >= 0] if is_category else values[~np.isnan(values)]
    quantiles: tuple[float, ...] = ()
    frequencies: dict[str, float] = {}
    if is_category:
        known = np.bincount(present, minlength=len(column.feature.categories))
        frequencies = _shares(column.feature.categories, known.tolist())
    elif column.feature.dtype == "bool":
        true = int((present == 1).sum())
        frequencies = _shares(("false", "true"), [len(present) - true, true])
    elif len(present):
        quantiles = tuple(np.quantile(present, QUANTILES).astype(float).tolist())
    counted = count_column(column, find_edges(quantiles))
    return Distribution(
        null_share=1 - len(present) / len(values) if len(values) else 0.0,
        quantiles=quantiles,
        frequencies=frequencies,
        counts=counted.counts,
        nulls=counted.nulls,
    )


def describe_output(name: str, column: "pa.ChunkedArray[Any]") -> Distribution:
    """Return the distribution of a numeric output."""
    return describe_column(read_column(Feature(name=name, dtype="float"), column))


def _shares(names: tuple[str, ...], counts: list[int]) -> dict[str, float]:
    total = sum(counts)
    return {name: count / total for name, count in zip(names, counts, strict=True)} if total else {}
