"""Score one validated partition with one verified model version, and judge the scores."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from penstock.carriers import Features, Partition, Scored, ScoringRun
from penstock.errors import FeaturesError, MissingColumns
from penstock.gates import Refusing, sample_rows, tell_released
from penstock.history import check_names
from penstock.privacy import HIDDEN, Veil
from penstock.quality import columns_needed, judge_rows
from penstock.spec import MODEL, SCORES

if TYPE_CHECKING:
    from models.booster import ModelVersion


def score_features(
    run: ScoringRun,
    partition: Partition,
    features: Features,
    model: "ModelVersion",
    sample_share: float,
    veil: Veil,
) -> Scored:
    """Score the rows that passed the gates; rows that the model cannot take go to quarantine.

    Args:
        sample_share: share of the rows that the audit gets to see, 1.0 for all.
        veil: what of refused rows may be kept.

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
    misfits = hide_values(model.refused_rows(features.table), veil)
    taken, refused = Refusing(pipeline, veil, {}).refuse(MODEL, features.table, misfits)
    rows = _assemble(run, taken, model.score(taken))
    verdict = judge_rows(SCORES, rows, pipeline.expectations_of(SCORES), partition.index, veil)
    kept, late = Refusing(pipeline, veil, features.waivers).refuse(SCORES, rows, verdict.refused)
    judged = rows.select([c for c in columns_needed(pipeline.expectations_of(SCORES)) if c in rows.column_names])
    return Scored(
        table=kept,
        features=features,
        refusals=features.refusals + refused + late,
        validations=features.validations + tell_released(verdict.validations, late),
        halts=verdict.halts,
        audit=features.audit | ({SCORES: sample_rows(judged, sample_share)} if judged.num_columns else {}),
        columns=features.columns | {SCORES: tuple(rows.column_names)},
        quantiles=_quantiles(kept, model.manifest.outputs[0]),
    )


def hide_values(refused: dict[int, tuple[str, ...]], veil: Veil) -> dict[int, tuple[str, ...]]:
    """Keep the values of private features out of the reasons, which name them as in `country`: unseen category 'XX'."""
    if not veil.columns:
        return refused
    return {row: tuple(_hide_value(reason, veil) for reason in reasons) for row, reasons in refused.items()}


def _hide_value(reason: str, veil: Veil) -> str:
    told, quoted, _ = reason.partition(" '")
    return f"{told} {HIDDEN}" if quoted and veil.hides([told.split("`")[1]]) else reason


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
