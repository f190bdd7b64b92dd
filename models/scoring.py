"""Score one validated partition with one verified model version, and judge the scores."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from penstock.database.unstorable import unstorable_rows
from penstock.errors import FeaturesError, MissingColumns
from penstock.privacy.masking import MaskingPolicy
from penstock.quality import columns_needed, judge_rows
from penstock.run.history_table import check_names
from penstock.run.validate import Quarantiner, count_released, failed_expectations, sample_rows
from penstock.run_types import Features, Misfit, Partition, ScoredRows, ScoringRun
from penstock.spec.pipeline import MODEL, SCORES, Pipeline
from penstock.spec.steps import SCORE

if TYPE_CHECKING:
    from penstock.models.booster import ModelVersion


def score_features(
    run: ScoringRun,
    partition: Partition,
    features: Features,
    model: "ModelVersion",
    sample_share: float,
    masking: MaskingPolicy,
) -> ScoredRows:
    """Score the rows that passed the gates; rows that the model cannot take go to quarantine.

    Args:
        sample_share: share of the rows that the audit gets to see, 1.0 for all.
        masking: what of refused rows may be kept.

    Returns:
        Key, score and kept columns; no rows at all where a gate has halted the partition.

    Raises:
        ModelMismatch: the features lack a column of the manifest.
        MissingColumns: a kept column is nowhere.
        FeaturesError: a column bears a name that the live view needs.
        ExpressionError: a column of `decide:` cannot be made.
    """
    pipeline = run.pipeline
    if features.halts:
        return leave_unscored(features)
    model.check_columns(features.table.column_names)
    misfits = add_unstorable(pipeline, features.table, model.refused_rows(features.table))
    taken, refused = Quarantiner(pipeline, masking, {}).refuse(MODEL, features.table, misfits)
    scores = Scores(model.score(taken), model.manifest.outputs[0])
    passed = replace(features, table=taken, refusals=features.refusals + refused)
    return judge_scores(run, partition, passed, scores, sample_share, masking)


@dataclass(frozen=True)
class Scores:
    """What the models gave, a row for each row of the features."""

    table: pa.Table
    deciding: str
    """The column whose values a run is known by: the histogram shows them, and they are compared with earlier ones."""


def leave_unscored(features: Features) -> ScoredRows:
    """Return no rows, and what was found, of a partition that a gate has halted."""
    empty = features.table.slice(0, 0)
    return ScoredRows(
        empty, features, features.refusals, features.validations, features.halts, features.audit, features.columns
    )


def judge_scores(
    run: ScoringRun,
    partition: Partition,
    features: Features,
    scores: Scores,
    sample_share: float,
    masking: MaskingPolicy,
) -> ScoredRows:
    """Make what `decide:` asks for, put the rows together that are loaded, and judge them."""
    pipeline = run.pipeline
    rows, deciding = _assemble(run, features.table, scores)
    verdict = judge_rows(SCORES, rows, pipeline.expectations_of(SCORES), partition.index, masking)
    failed = failed_expectations(verdict)
    kept, late = Quarantiner(pipeline, masking, features.waivers).refuse(SCORES, rows, failed)
    judged = rows.select([c for c in columns_needed(pipeline.expectations_of(SCORES)) if c in rows.column_names])
    return ScoredRows(
        table=kept,
        features=features,
        refusals=features.refusals + late,
        validations=features.validations + count_released(verdict.validations, late),
        halts=verdict.halts,
        audit=features.audit | ({SCORES: sample_rows(judged, sample_share)} if judged.num_columns else {}),
        columns=features.columns | {SCORES: tuple(rows.column_names)},
        quantiles=_quantiles(kept, deciding),
    )


def add_unstorable(
    pipeline: Pipeline, features: pa.Table, refused: dict[int, tuple[Misfit, ...]]
) -> dict[int, tuple[Misfit, ...]]:
    """Add the rows whose key or kept columns not every warehouse can store."""
    found = unstorable_rows(features, (*pipeline.key, *pipeline.destination.keep))
    return refused | {row: (*refused.get(row, ()), *reasons) for row, reasons in found.items()}


def _assemble(run: ScoringRun, features: pa.Table, scores: Scores) -> tuple[pa.Table, str]:
    """Return key, outputs, decided and kept columns, and which of them the run is known by."""
    pipeline, outputs, deciding = run.pipeline, scores.table, scores.deciding
    if pipeline.decide:
        decided = decide(pipeline, features, outputs)
        deciding = SCORE if SCORE in decided.column_names else deciding
        outputs = _joined(outputs, decided)
    kept = [c for c in pipeline.destination.keep if c not in pipeline.key]
    lacking = tuple(c for c in kept if c not in features.column_names)
    if lacking:
        raise MissingColumns("the features, for `destination.keep`,", lacking, tuple(features.column_names))
    table = _joined(features.select([*pipeline.key]), outputs, features.select(kept))
    taken = check_names(tuple(table.column_names))
    if taken:
        names = ", ".join(f"`{c}`" for c in taken)
        raise FeaturesError(
            pipeline.name, f"gives {names}, which the live view needs for itself. Rename it in the query."
        )
    return table, deciding


def refuse_clash(pipeline: Pipeline, features: Sequence[str], made: Sequence[str]) -> None:
    """Raise FeaturesError where a feature bears the name of a column that is made of the scores: which one is meant?"""
    taken = {name.casefold() for name in made}
    clash = [name for name in features if name.casefold() in taken]
    if clash:
        names = ", ".join(f"`{c}`" for c in clash)
        raise FeaturesError(pipeline.name, f"gives {names}, which the scores bring as well. Rename it in the query.")


def decide(pipeline: Pipeline, features: pa.Table, outputs: pa.Table) -> pa.Table:
    """Return the columns of `decide:`, a row for each row of features and outputs.

    Raises:
        FeaturesError: a feature bears the name of an output, or of what is decided.
        ExpressionError: one of them cannot be made.
    """
    from penstock.run.decisions import decide_columns

    refuse_clash(pipeline, features.column_names, (*outputs.column_names, *pipeline.decide))
    return decide_columns(pipeline, _joined(features, outputs))


def _joined(*tables: pa.Table) -> pa.Table:
    """Put the columns of tables with the same rows side by side."""
    columns = [(name, table[name]) for table in tables for name in table.column_names]
    return pa.table([column for _, column in columns], names=[name for name, _ in columns])


def _quantiles(rows: pa.Table, column: str) -> tuple[float, ...]:
    """Return the column's 101 quantiles; a row that its step skipped has none of its values."""
    if not pa.types.is_floating(rows[column].type):
        return ()
    values = rows[column].drop_null().to_numpy()
    return tuple(float(v) for v in np.quantile(values, np.linspace(0, 1, 101))) if len(values) else ()
