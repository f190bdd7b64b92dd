"""Try the features query on a sample, whole and cut: both must give the same features.

The parse tree of the query has been checked before (`spec.features_query`). This is a second net, for what no tree
shows.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from penstock.database.unstorable import to_records
from penstock.errors import FeaturesError
from penstock.run.features import build_features
from penstock.spec.pipeline import Pipeline

SAMPLE_ROWS = 200
_TOLERANCE = 1e-9
"""Sums of floats may differ in their last digits, because rows are added in another order."""


def check_cut(
    pipeline: Pipeline, interval_label: str, primary: pa.Table, others: dict[str, pa.Table], statement_seconds: int
) -> None:
    """Compare the features of the first rows with those of their halves, and of every other one.

    Raises:
        FeaturesError: a column differs; the error names it.
        Halted: a key has two rows, or is not in the primary source.
    """
    if pipeline.features is None:
        return
    sample = primary.slice(0, SAMPLE_ROWS)
    groups = _groups(pipeline, sample)
    last = max(groups, default=0)
    if last == 0:
        return

    def build(positions: Sequence[int] | None) -> dict[str, dict[str, Any]]:
        rows = sample if positions is None else sample.take(pa.array(positions, pa.int64()))
        features = build_features(pipeline, interval_label, rows, others, statement_seconds)
        return {repr([row[c] for c in pipeline.key]): row for row in to_records(features)}

    whole = build(None)
    for first in (range(last // 2 + 1), range(0, last + 1, 2)):
        parts = [[i for i, group in enumerate(groups) if (group in first) is side] for side in (True, False)]
        cut = {key: row for part in parts for key, row in build(part).items()}
        if changed := _differences(pipeline, whole, cut):
            raise FeaturesError(pipeline.name, _describe(pipeline, changed))


def _groups(pipeline: Pipeline, sample: pa.Table) -> list[int]:
    """Return the number of each row's group: of its value of `partition_by`, or its own."""
    if pipeline.partition_by is None:
        return list(range(sample.num_rows))
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in sample[pipeline.partition_by].to_pylist()]


def _differences(
    pipeline: Pipeline, whole: Mapping[str, Mapping[str, Any]], cut: Mapping[str, Mapping[str, Any]]
) -> tuple[str, ...]:
    """Return the columns whose values differ, or the key's columns where rows come or go."""
    if whole.keys() != cut.keys():
        return pipeline.key
    columns = dict.fromkeys(c for rows in (whole, cut) for row in rows.values() for c in row)
    return tuple(c for c in columns if not all(_is_same(whole[k].get(c), cut[k].get(c)) for k in whole))


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE) or (one != one and other != other)
    return bool(one == other)


def _describe(pipeline: Pipeline, columns: Sequence[str]) -> str:
    names = ", ".join(f"`{c}`" for c in columns)
    together = f"the key or `{pipeline.partition_by}`" if pipeline.partition_by else "the key, or set `partition_by:`"
    return (
        f"gives other values of {names} for the same rows when they are cut into partitions. It looks at other rows of "
        f"`{pipeline.primary}`, at their order or at chance. Group, partition and join by {together}."
    )
