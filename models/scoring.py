"""Score one validated partition with one verified model version, and judge the scores."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from penstock.database.decimals import to_float
from penstock.database.unstorable import unstorable_rows
from penstock.errors import DestinationMismatch, FeaturesError, MissingColumns
from penstock.models.columns import count_large_integers
from penstock.models.profile import count_columns, read_scores, watched_bins
from penstock.models.slices import count_slices, slice_rows
from penstock.quality import columns_needed, judge_rows
from penstock.run.partition_options import PartitionOptions
from penstock.run.validate import Quarantiner, count_released, failed_expectations, sample_rows
from penstock.run_types import Features, Misfit, Partition, ScoredRows, ScoringRun, Validation, add_slices
from penstock.spec.column_names import find_taken
from penstock.spec.pipeline import Pipeline
from penstock.spec.stages import FEATURES, MODEL, SCORES
from penstock.spec.steps import SCORE

if TYPE_CHECKING:
    from penstock.models.booster import ModelVersion


def score_features(
    run: ScoringRun,
    partition: Partition,
    features: Features,
    model: "ModelVersion",
    options: PartitionOptions,
) -> ScoredRows:
    """Score the rows that passed validation. Rows that the model cannot take go to quarantine.

    Returns:
        Key, score and kept columns; no rows if validation has halted the partition.

    Raises:
        ModelMismatch: a feature of the manifest is missing.
        MissingColumns: a column to keep is missing.
        DestinationMismatch: a column has a name that the live view needs, or that of another column.
        ExpressionError: a column of `decide:` cannot be evaluated.
    """
    pipeline = run.pipeline
    if features.halts:
        return skip_scoring(features)
    model.check_columns(features.table.column_names)
    inputs = model.read_inputs(features.table)
    bins = {stage: watched_bins(pipeline, pipeline.steps[0], model.manifest, stage) for stage in (FEATURES, SCORES)}
    profile = count_columns(inputs.columns, bins[FEATURES])  # before rows with unseen categories are refused
    slices = count_slices(inputs.columns, bins[FEATURES], slice_rows(pipeline, features.table))
    misfits = add_unstorable(pipeline, features.table, inputs.refused_rows())
    taken, refused = Quarantiner(pipeline, options.masking, {}).refuse(MODEL, features.table, misfits)
    if misfits:
        inputs = model.read_inputs(taken)
    scores = Scores(model.score_inputs(inputs, options.threads), model.manifest.outputs[0])
    notes = (replace(note, partition=partition.index) for note in note_large_integers(model, taken))
    noted = (*features.validations, *notes)
    passed = replace(features, table=taken, refusals=features.refusals + refused, validations=noted)
    scored = judge_scores(run, partition, passed, scores, options)
    columns = read_scores(scored.table, bins[SCORES])
    of_scores = count_slices(columns, bins[SCORES], slice_rows(pipeline, scored.features.table))
    profile = {**profile, **count_columns(columns, bins[SCORES])}
    return replace(scored, profile=profile, slices=add_slices([slices, of_scores]))


@dataclass(frozen=True)
class Scores:
    """The models' outputs, one row for each row of the features."""

    table: pa.Table
    deciding: str
    """The column that the histogram shows, and that is compared with earlier runs."""


def skip_scoring(features: Features) -> ScoredRows:
    """Return no rows and all findings of a partition that validation has halted."""
    empty = features.table.slice(0, 0)
    return ScoredRows(
        empty, features, features.refusals, features.validations, features.halts, features.audit, features.columns
    )


def judge_scores(
    run: ScoringRun,
    partition: Partition,
    features: Features,
    scores: Scores,
    options: PartitionOptions,
) -> ScoredRows:
    """Evaluate `decide:`, assemble the rows to load, and judge them."""
    pipeline = run.pipeline
    rows, deciding = _assemble(run, features.table, scores, options.statement_seconds)
    verdict = judge_rows(SCORES, rows, pipeline.expectations_of(SCORES), partition.index, options.masking)
    failed = failed_expectations(verdict)
    staying, late = Quarantiner(pipeline, options.masking, features.waivers).split(SCORES, rows, failed)
    kept = rows if staying is None else rows.filter(staying)
    of_kept = features if staying is None else replace(features, table=features.table.filter(staying))
    judged = rows.select([c for c in columns_needed(pipeline.expectations_of(SCORES)) if c in rows.column_names])
    return ScoredRows(
        table=kept,
        features=of_kept,
        refusals=features.refusals + late,
        validations=features.validations + count_released(verdict.validations, late),
        halts=verdict.halts,
        audit=features.audit | ({SCORES: sample_rows(judged, options.sample_share)} if judged.num_columns else {}),
        columns=features.columns | {SCORES: tuple(rows.column_names)},
        quantiles=_quantiles(kept, deciding),
        profile=features.profile,
        slices=features.slices,
    )


def add_unstorable(
    pipeline: Pipeline, features: pa.Table, refused: dict[int, tuple[Misfit, ...]]
) -> dict[int, tuple[Misfit, ...]]:
    """Add the rows whose key or kept columns not every warehouse can store."""
    found = unstorable_rows(features, (*pipeline.key, *pipeline.destination.keep))
    return refused | {row: (*refused.get(row, ()), *reasons) for row, reasons in found.items()}


def note_large_integers(model: "ModelVersion", rows: pa.Table) -> tuple[Validation, ...]:
    """Return a note for each integer feature with values that XGBoost's 32 bits may round. A run adds them up."""
    found = []
    for feature in model.manifest.features:
        large = count_large_integers(rows[feature.name]) if feature.dtype != "category" else 0
        if large:
            label, observed = f"`{feature.name}` beyond 2^24", "XGBoost rounds them to 24 bits"
            found.append(Validation(MODEL, label, "info", rows.num_rows, large, "noted", observed))
    return tuple(found)


def _assemble(run: ScoringRun, features: pa.Table, scores: Scores, statement_seconds: int) -> tuple[pa.Table, str]:
    """Return key, outputs, decided and kept columns, and the name of the deciding column."""
    pipeline, outputs, deciding = run.pipeline, scores.table, scores.deciding
    if pipeline.decide:
        decided = decide(pipeline, features, outputs, statement_seconds)
        deciding = SCORE if SCORE in decided.column_names else deciding
        outputs = _joined(outputs, decided)
    kept = [c for c in pipeline.destination.keep if c not in pipeline.key]
    lacking = tuple(c for c in kept if c not in features.column_names)
    if lacking:
        raise MissingColumns("the features, for `destination.keep`,", lacking, tuple(features.column_names))
    table = _joined(features.select([*pipeline.key]), outputs, features.select(kept))
    for taken in find_taken(table.column_names, outputs.column_names):
        raise DestinationMismatch(pipeline.destination.table, f"`{taken.column}` {taken.why}", taken.remedy)
    return table, deciding


def refuse_clash(pipeline: Pipeline, features: Sequence[str], made: Sequence[str]) -> None:
    """Raise FeaturesError if a feature has the name of a column that scoring adds: it would be ambiguous."""
    taken = {name.casefold() for name in made}
    clash = [name for name in features if name.casefold() in taken]
    if clash:
        names = ", ".join(f"`{c}`" for c in clash)
        raise FeaturesError(pipeline.name, f"gives {names}, which scoring adds as well. Rename it in the query.")


def decide(pipeline: Pipeline, features: pa.Table, outputs: pa.Table, statement_seconds: int) -> pa.Table:
    """Return the columns of `decide:`, a row for each row of features and outputs.

    Raises:
        FeaturesError: a feature has the name of an output or of a decision.
        ExpressionError: a decision cannot be evaluated.
    """
    from penstock.run.decisions import decide_columns

    refuse_clash(pipeline, features.column_names, (*outputs.column_names, *pipeline.decide))
    return decide_columns(pipeline, _joined(features, outputs), statement_seconds)


def _joined(*tables: pa.Table) -> pa.Table:
    """Put the columns of tables with the same rows side by side."""
    columns = [(name, table[name]) for table in tables for name in table.column_names]
    return pa.table([column for _, column in columns], names=[name for name, _ in columns])


def _quantiles(rows: pa.Table, column: str) -> tuple[float, ...]:
    """Return the column's 101 quantiles. Rows that its step left out do not count."""
    scores = rows[column]
    scores = to_float(scores) if pa.types.is_decimal(scores.type) else scores
    if not pa.types.is_floating(scores.type):
        return ()
    if len(scores) == 1 and not scores.null_count:
        return (float(scores[0].as_py()),) * 101
    values = np.sort(scores.drop_null().to_numpy())  # NumPy sorts in a quarter of the time that 101 selections take
    return tuple(float(v) for v in np.quantile(values, np.linspace(0, 1, 101))) if len(values) else ()
