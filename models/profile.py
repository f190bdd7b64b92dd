"""Count a model's features and scores in the bins of its manifest.

Numbers are compared with the edges in 32 bits, as XGBoost reads them: whether a partition's column comes as integers,
or as floats because one of its rows is NULL, the counts are the same. So they add up over partitions.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.errors import DriftRefused
from penstock.models.columns import FeatureColumn, Numbers, read_column
from penstock.models.manifest import Distribution, Feature, Manifest
from penstock.run_types import BinCounts, ColumnBins, Profile
from penstock.run_types.profiles import ProfileStage
from penstock.spec.pipeline import Pipeline
from penstock.spec.stages import FEATURES, SCORES
from penstock.spec.steps import ScoreStep

_BLOCK_ROWS = 32_768
"""Rows that are compared at once: a block and its comparisons stay in the processor's cache."""


def find_edges(quantiles: Sequence[float]) -> npt.NDArray[np.float32]:
    """Return the upper ends of the bins of numbers, ascending. The last bin has no end.

    They are the quantiles without the smallest and the largest value. A value of several quantiles has a bin of its
    own, so that a move from it to a smaller value is seen.
    """
    with np.errstate(over="ignore"):
        values = np.asarray(quantiles, np.float32)
    unique, times = np.unique(values, return_counts=True)
    below = np.nextafter(unique[times > 1], np.float32(-np.inf))
    return np.unique(np.concatenate([values[1:-1], below]))


def count_column(column: FeatureColumn, edges: npt.NDArray[np.float32]) -> BinCounts:
    """Count a column's rows by bin. Values that the model cannot take as a number or category are in the last bin."""
    if column.feature.dtype == "category":
        return _count_categories(column)
    unread = int(np.count_nonzero(np.isnan(column.values[list(column.misfits)]))) if column.misfits else 0
    if column.feature.dtype == "bool":
        return _count_bools(column.values, unread)
    return _count_numbers(column.values, edges, unread)


def _count_categories(column: FeatureColumn) -> BinCounts:
    known = column.values[column.values >= 0]
    counts = np.bincount(known, minlength=len(column.feature.categories)).tolist()
    unseen = len(column.misfits)
    return BinCounts((*counts, unseen), len(column.values) - len(known) - unseen)


def _count_bools(values: Numbers, unread: int) -> BinCounts:
    false, true = (int(np.count_nonzero(values == value)) for value in (0, 1))
    missing = int(np.count_nonzero(np.isnan(values)))
    return BinCounts((false, true, len(values) - false - true - missing + unread), missing - unread)


def _count_numbers(values: Numbers, edges: npt.NDArray[np.float32], unread: int) -> BinCounts:
    upto, missing = np.zeros(len(edges), np.int64), 0
    for start in range(0, len(values), _BLOCK_ROWS):
        with np.errstate(over="ignore"):
            block = values[start : start + _BLOCK_ROWS].astype(np.float32, copy=False)
        missing += int(np.count_nonzero(np.isnan(block)))
        for at, edge in enumerate(edges):
            upto[at] += np.count_nonzero(block <= edge)
    counts = np.diff(upto, prepend=0, append=len(values) - missing).tolist()
    return BinCounts((*counts, unread), missing - unread)


def describe_bins(pipeline: Pipeline, step: ScoreStep, manifest: Manifest) -> tuple[ColumnBins, ...]:
    """Return the bins of the features and numeric outputs of a step's version, with its reference rows in them.

    Raises:
        DriftRefused: the version was registered without them.
    """
    described: list[tuple[ProfileStage, Feature, Distribution | None]] = [
        (FEATURES, feature, manifest.reference.get(feature.name)) for feature in manifest.features
    ]
    described += [
        (SCORES, _output_feature(name), manifest.reference_scores.get(name)) for name in manifest.score_columns
    ]
    found = []
    for stage, feature, distribution in described:
        if distribution is None or not distribution.counts:
            raise DriftRefused(
                manifest.label,
                f"has no counts of its reference rows for `{feature.name}`, which drift is compared with",
                "Register the model file again with its reference rows: "
                f"`penstock models register {manifest.name} FILE --reference ROWS`.",
            )
        name = name_profile(pipeline, step, feature.name, stage)
        found.append(_column_bins(name, step.name, manifest.label, stage, feature, distribution))
    return tuple(found)


def name_profile(pipeline: Pipeline, step: ScoreStep, name: str, stage: ProfileStage) -> str:
    """Return the name of a profile. Several steps may have a feature of one name."""
    if stage == SCORES:
        return pipeline.name_output(step, name)
    return f"{step.name}.{name}" if pipeline.models else name


def _column_bins(
    column: str, step: str, model: str, stage: ProfileStage, feature: Feature, distribution: Distribution
) -> ColumnBins:
    reference, about = BinCounts(distribution.counts, distribution.nulls), (column, step, feature.name, model, stage)
    if feature.dtype in ("category", "bool"):
        names = feature.categories if feature.dtype == "category" else ("false", "true")
        return ColumnBins(*about, "category", names, reference)
    edges = tuple(find_edges(distribution.quantiles).astype(float).tolist())
    return ColumnBins(*about, "number", edges, reference)


def find_drift_bins(pipeline: Pipeline, manifests: Mapping[str, Manifest]) -> tuple[ColumnBins, ...]:
    """Return the bins of the columns that a pipeline's `drift` watches. Empty without `drift`.

    Args:
        manifests: by step.

    Raises:
        DriftRefused: a version has no reference, or `watch` names a column that is no feature and no score.
    """
    if pipeline.drift is None:
        return ()
    bins = [each for step in pipeline.steps for each in describe_bins(pipeline, step, manifests[step.name])]
    known = tuple(each.column for each in bins)
    unknown = [column for column in pipeline.drift.named_columns if column not in known]
    if unknown:
        raise DriftRefused(
            ", ".join(dict.fromkeys(each.model for each in bins)),
            f"has no feature and no score `{unknown[0]}`, which `drift.watch` names",
            "Correct the name in the spec.",
            known,
            unknown[0],
        )
    return tuple(each for each in bins if pipeline.drift.severity_of(each.column))


def watched_bins(
    pipeline: Pipeline, step: ScoreStep, manifest: Manifest, stage: ProfileStage
) -> tuple[ColumnBins, ...]:
    """Return the bins of a step's features or scores that a pipeline's `drift` watches. Empty without `drift`.

    Raises:
        DriftRefused: the version has no reference.
    """
    drift = pipeline.drift
    if drift is None:
        return ()
    bins = (each for each in describe_bins(pipeline, step, manifest) if each.stage == stage)
    return tuple(each for each in bins if drift.severity_of(each.column))


def count_columns(columns: Iterable[FeatureColumn], bins: Iterable[ColumnBins]) -> Profile:
    """Count the rows of converted columns that have bins."""
    return {each.column: count_column(column, edges_of(each)) for column, each in match_bins(columns, bins)}


def match_bins(
    columns: Iterable[FeatureColumn], bins: Iterable[ColumnBins]
) -> Iterator[tuple[FeatureColumn, ColumnBins]]:
    """Yield the converted columns that have bins."""
    watched = {each.feature: each for each in bins}
    for column in columns:
        if column.feature.name in watched:
            yield column, watched[column.feature.name]


def edges_of(bins: ColumnBins) -> npt.NDArray[np.float32]:
    """Return the edges of numbers, and none for categories."""
    return np.asarray(bins.edges if bins.kind == "number" else (), np.float32)


def read_scores(rows: pa.Table, bins: Iterable[ColumnBins]) -> list[FeatureColumn]:
    """Convert the watched outputs of a model."""
    return [read_column(_output_feature(each.feature), rows[each.feature]) for each in bins]


def _output_feature(name: str) -> Feature:
    return Feature(name=name, dtype="float")
