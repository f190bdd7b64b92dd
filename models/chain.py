"""Score one partition's rows with several models, one step after the other: each adds its outputs as columns.

Rows that a step's `when:` leaves out have NULL in its columns. A row that a step's model cannot take is quarantined,
and its outputs of earlier steps are dropped.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from penstock.errors import ModelMismatch
from penstock.models.manifest import Manifest
from penstock.models.profile import count_columns, read_scores, watched_bins
from penstock.models.registry import Registry
from penstock.models.scoring import (
    Scores,
    add_unstorable,
    judge_scores,
    note_large_integers,
    refuse_clash,
    skip_scoring,
)
from penstock.models.slices import count_slices, slice_rows
from penstock.run.partition_options import PartitionOptions
from penstock.run.validate import Quarantiner
from penstock.run_types import Features, Misfit, Partition, ScoredRows, ScoringRun, add_slices
from penstock.spec.pipeline import Pipeline
from penstock.spec.stages import FEATURES, MODEL, SCORES
from penstock.spec.steps import ScoreStep

if TYPE_CHECKING:
    from penstock.models.booster import ModelVersion


def score_step(
    pipeline: Pipeline, features: Features, step: ScoreStep, model: "ModelVersion", options: PartitionOptions
) -> Features:
    """Return the rows with the step's outputs, without those that its model cannot take.

    Raises:
        ModelMismatch: an input of the model is neither a feature nor an output of an earlier step.
        FeaturesError: a feature has the name of one of the outputs.
        ExpressionError: the step's condition cannot be evaluated.
    """
    rows = features.table
    names = {output: pipeline.name_output(step, output) for output in model.manifest.outputs}
    refuse_clash(pipeline, rows.column_names, tuple(names.values()))
    places = _places(pipeline, step, rows, options.statement_seconds)
    taken = take_inputs(step, model.manifest, _at(rows, places))
    inputs = model.read_inputs(taken)
    slicing = slice_rows(pipeline, _at(rows, places))
    bins = watched_bins(pipeline, step, model.manifest, FEATURES)
    profile, slices = count_columns(inputs.columns, bins), count_slices(inputs.columns, bins, slicing)
    misfits = add_unstorable(pipeline, rows, _name_misfits(step, inputs.refused_rows(), places))
    rows, refused = Quarantiner(pipeline, options.masking, {}).refuse(MODEL, rows, misfits)
    if misfits:
        places = _places(pipeline, step, rows, options.statement_seconds)
        taken = take_inputs(step, model.manifest, _at(rows, places))
        inputs, slicing = model.read_inputs(taken), slice_rows(pipeline, _at(rows, places))
    notes = tuple(
        replace(n, expectation=f"step {step.name}: {n.expectation}") for n in note_large_integers(model, taken)
    )
    scores, of_scores = (
        model.score_inputs(inputs, options.threads),
        watched_bins(pipeline, step, model.manifest, SCORES),
    )
    columns = read_scores(scores, of_scores)
    counted = {**features.profile, **profile, **count_columns(columns, of_scores)}
    sliced = add_slices([features.slices, slices, count_slices(columns, of_scores, slicing)])
    for output, name in names.items():
        rows = rows.append_column(name, _spread(scores[output], places, rows.num_rows))
    return replace(
        features,
        table=rows,
        refusals=features.refusals + refused,
        validations=features.validations + notes,
        outputs={**features.outputs, step.name: tuple(names.values())},
        profile=counted,
        slices=sliced,
    )


def judge_steps(run: ScoringRun, partition: Partition, features: Features, options: PartitionOptions) -> ScoredRows:
    """Make the decisions from the steps' outputs, and judge the rows.

    Raises:
        MissingColumns: a column to keep is missing.
        DestinationMismatch: a column has a name that the live view needs, or that of another column.
        ExpressionError: a column of `decide:` cannot be evaluated.
    """
    if features.halts:
        return skip_scoring(features)
    deciding = features.outputs[run.pipeline.steps[-1].name][0]
    given = features.table.select(features.output_columns)
    validations = tuple(replace(v, partition=partition.index) for v in features.validations)  # notes of steps have none
    plain = replace(features, table=features.table.drop_columns(features.output_columns), validations=validations)
    return judge_scores(run, partition, plain, Scores(given, deciding), options)


def score_in_steps(
    run: ScoringRun, partition: Partition, features: Features, registry: Registry, options: PartitionOptions
) -> ScoredRows:
    """Score a partition with every step and make the decisions, without a task for each step."""
    for step in run.pipeline.steps if not features.halts else ():
        features = score_step(run.pipeline, features, step, registry.load(run.steps[step.name]), options)
    return judge_steps(run, partition, features, options)


def take_inputs(step: ScoreStep, manifest: Manifest, rows: pa.Table) -> pa.Table:
    """Return the columns that a step's model takes, under the names of its features and base margin.

    Raises:
        ModelMismatch: a column is missing, or `inputs` names a feature that the model does not have.
    """
    unknown = tuple(feature for feature in step.inputs if feature not in manifest.input_names)
    if unknown:
        reason = f"does not have the features that `inputs` of step `{step.name}` names"
        raise ModelMismatch(manifest.label, unknown, reason)
    taken = {feature: step.inputs.get(feature, feature) for feature in manifest.input_names}
    lacking = tuple(column for column in taken.values() if column not in rows.column_names)
    if lacking:
        reason = f"needs columns for step `{step.name}` that are neither features nor outputs of earlier steps"
        raise ModelMismatch(manifest.label, lacking, reason)
    return pa.table([rows[column] for column in taken.values()], names=list(taken))


def _places(
    pipeline: Pipeline, step: ScoreStep, rows: pa.Table, statement_seconds: int
) -> "np.ndarray[Any, Any] | None":
    """Return the positions of the rows that the step scores. None for all."""
    if step.when is None:
        return None
    from penstock.run.decisions import choose_rows

    return np.flatnonzero(choose_rows(pipeline, step, rows, statement_seconds).to_numpy())


def _name_misfits(
    step: ScoreStep, found: Mapping[int, tuple[Misfit, ...]], places: "np.ndarray[Any, Any] | None"
) -> dict[int, tuple[Misfit, ...]]:
    """Return misfits among the rows that the step scores by their positions in all rows, with step and column."""
    return {
        row if places is None else int(places[row]): tuple(
            replace(misfit, step=step.name, column=step.inputs.get(misfit.feature)) for misfit in misfits
        )
        for row, misfits in found.items()
    }


def _at(rows: pa.Table, places: "np.ndarray[Any, Any] | None") -> pa.Table:
    return rows if places is None or len(places) == rows.num_rows else rows.take(pa.array(places, pa.int64()))


def _spread(values: "pa.ChunkedArray[Any]", places: "np.ndarray[Any, Any] | None", rows: int) -> "pa.ChunkedArray[Any]":
    """Put each value in its row's position, with NULL in the others."""
    if places is None or len(places) == rows:
        return values
    index = np.full(rows, -1)
    index[places] = np.arange(len(places))
    spread: pa.ChunkedArray[Any] = values.take(pa.array(index, pa.int64(), mask=index < 0))
    return spread
