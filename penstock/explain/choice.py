"""Choose the rows of a partition that get reasons, and keep what their reasons are made of."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from penstock.explain.budget import limit_rows
from penstock.explain.reasons import find_scored, join_scores, state_keys
from penstock.run.decisions import choose_explained
from penstock.run.key_hash import hash_keys
from penstock.run.partition_options import PartitionOptions
from penstock.run.reasons_table import BUDGET, NOT_SCORED
from penstock.run_types import ChosenRows, ReasonRows, ScoredRows, ScoringRun, keep_rows

if TYPE_CHECKING:
    from penstock.models.booster import ModelVersion


def add_chosen(run: ScoringRun, scored: ScoredRows, model: "ModelVersion", options: PartitionOptions) -> ScoredRows:
    """Add the rows that `reasons.when` chooses, each with a line that says why it has no reasons yet.

    Of the rows that the deciding model has scored, as many are kept as the budget of the whole run explains: those
    whose keys have the lowest hashes. Another interval has other hashes.

    Raises:
        ExpressionError: the condition cannot be evaluated.
    """
    pipeline, reasons = run.pipeline, run.pipeline.reasons
    if reasons is None or scored.halts:
        return scored
    rows = join_scores(scored)
    chosen = choose_explained(pipeline, reasons.when, rows, options.statement_seconds)
    made = pc.and_(chosen, find_scored(pipeline, model, rows))
    keys = rows.select(list(pipeline.key))
    left_out = state_keys(keys.filter(pc.and_not(chosen, made)), NOT_SCORED)
    explained = keys.filter(made)
    stated = pa.concat_tables([left_out, state_keys(explained, BUDGET)]).combine_chunks()  # SQLite takes no empty batch
    if not explained.num_rows:
        return replace(scored, reasons=ReasonRows(stated, ChosenRows()))
    step = pipeline.steps[-1]
    taken = (step.inputs.get(name, name) for name in model.manifest.input_names)
    inputs = rows.select(list(dict.fromkeys((*pipeline.key, *taken)))).filter(made)
    limit = limit_rows(reasons, model.explained_row_seconds)
    return replace(scored, reasons=ReasonRows(stated, keep_rows(inputs, hash_keys(explained, run.interval_key), limit)))
