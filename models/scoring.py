"""Score one validated partition with one verified model version, and judge the scores."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from penstock.carriers import Features, Partition, Scored, ScoringRun
from penstock.errors import FeaturesError, MissingColumns
from penstock.gates import refuse, sample_rows
from penstock.history import check_names
from penstock.quality import columns_needed, judge_rows
from penstock.spec import SCORES

if TYPE_CHECKING:
    from models.booster import ModelVersion

MODEL = "model"
"""The stage of rows that the model itself cannot take, such as an unseen category."""


def score_features(
    run: ScoringRun, partition: Partition, features: Features, model: "ModelVersion", sample_share: float
) -> Scored:
    """Score the rows that passed the gates; rows that the model cannot take go to quarantine.

    Args:
        sample_share: share of the rows that the audit gets to see, 1.0 for all.

    Returns:
        Key, score and kept columns; no rows at all where a gate has halted the partition.

    Raises:
        ModelMismatch: the features lack a column of the manifest.
        MissingColumns: a kept column is nowhere.
        FeaturesError: a column bears a name that the live view needs.
    """
    pipeline = run.pipeline
    if features.halts:
        empty = features.table.slice(0, 0)
        return Scored(
            empty, features, features.refusals, features.validations, features.halts, features.audit, features.columns
        )
    model.check_columns(features.table.column_names)
    taken, refused = refuse(pipeline, MODEL, features.table, model.refused_rows(features.table))
    rows = _assemble(run, taken, model.score(taken))
    verdict = judge_rows(SCORES, rows, pipeline.expectations_of(SCORES), partition.index)
    kept, late = refuse(pipeline, SCORES, rows, verdict.refused)
    judged = rows.select([c for c in columns_needed(pipeline.expectations_of(SCORES)) if c in rows.column_names])
    return Scored(
        table=kept,
        features=features,
        refusals=features.refusals + refused + late,
        validations=features.validations + verdict.validations,
        halts=verdict.halts,
        audit=features.audit | ({SCORES: sample_rows(judged, sample_share)} if judged.num_columns else {}),
        columns=features.columns | {SCORES: tuple(rows.column_names)},
        quantiles=_quantiles(kept, model.manifest.outputs[0]),
    )


def _assemble(run: ScoringRun, features: pa.Table, outputs: pa.Table) -> pa.Table:
    pipeline = run.pipeline
    kept = [c for c in pipeline.destination.keep if c not in pipeline.key]
    lacking = tuple(c for c in kept if c not in features.column_names)
    if lacking:
        raise MissingColumns("the features, for `destination.keep`,", lacking, tuple(features.column_names))
    table = features.select([*pipeline.key])
    for name in outputs.column_names:
        table = table.append_column(name, outputs[name])
    for name in kept:
        table = table.append_column(name, features[name])
    taken = check_names(tuple(table.column_names))
    if taken:
        names = ", ".join(f"`{c}`" for c in taken)
        raise FeaturesError(
            pipeline.name, f"gives {names}, which the live view needs for itself. Rename it in the query."
        )
    return table


def _quantiles(rows: pa.Table, column: str) -> tuple[float, ...]:
    if not rows.num_rows or not pa.types.is_floating(rows[column].type):
        return ()
    return tuple(float(v) for v in np.quantile(rows[column].to_numpy(), np.linspace(0, 1, 101)))
