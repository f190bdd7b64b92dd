"""Distributions of the features in the reference rows, the baseline for drift."""

import numpy as np

from penstock.models.columns import FeatureColumn
from penstock.models.manifest import QUANTILES, Distribution


def describe_column(column: FeatureColumn) -> Distribution:
    """Return quantiles of numbers, or frequencies of categories and bools, without rows that the model cannot take."""
    fits = np.ones(len(column.values), np.bool_)
    fits[list(column.misfits)] = False
    values = column.values[fits]
    is_category = column.feature.dtype == "category"
    present = values[values >= 0] if is_category else values[~np.isnan(values)]
    null_share = 1 - len(present) / len(values) if len(values) else 0.0
    if is_category:
        counts = np.bincount(present, minlength=len(column.feature.categories))
        return Distribution(null_share=null_share, frequencies=_shares(column.feature.categories, counts.tolist()))
    if column.feature.dtype == "bool":
        true = int((present == 1).sum())
        return Distribution(null_share=null_share, frequencies=_shares(("false", "true"), [len(present) - true, true]))
    if not len(present):
        return Distribution(null_share=null_share)
    return Distribution(null_share=null_share, quantiles=tuple(np.quantile(present, QUANTILES).astype(float).tolist()))


def _shares(names: tuple[str, ...], counts: list[int]) -> dict[str, float]:
    total = sum(counts)
    return {name: count / total for name, count in zip(names, counts, strict=True)} if total else {}
