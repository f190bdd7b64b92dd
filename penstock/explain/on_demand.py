"""Make the reasons of one stored score now: only if the same model still gives the same score, to the bit."""

import struct
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from penstock.database.connections import Connector
from penstock.errors import PenstockError
from penstock.explain.reasons import explain_rows, join_scores
from penstock.explain.scores import KeyScore, StoredReason
from penstock.models.chain import score_in_steps
from penstock.models.registry import Registry
from penstock.models.scoring import score_features
from penstock.privacy.masking import NO_MASKING
from penstock.privacy.row_key import RowKey
from penstock.run.extract import extract_partition, plan_partitions
from penstock.run.partition_options import PartitionOptions
from penstock.run.reasons_table import REASON
from penstock.run.validate import validate_partition
from penstock.run_types import Partition, ScoredRows, ScoringRun, deciding_model
from penstock.sources import fix_versions
from penstock.spec.pipeline import Pipeline
from penstock.spec.reasons import Reasons


@dataclass(frozen=True)
class MadeReasons:
    """Reasons that were made now, or why there are none."""

    reasons: tuple[StoredReason, ...] = ()
    refused: str = ""
    """Why no reasons are given. Empty: they are."""


def make_reasons(
    pipeline: Pipeline,
    row_key: RowKey,
    score: KeyScore,
    connect: Connector,
    registry: Registry,
    options: PartitionOptions,
    *,
    chosen: bool,
) -> MadeReasons:
    """Score the row again from its source, with the model of its run, and explain it if nothing has changed.

    It reads the row's interval, partition by partition. Nothing is written.

    Args:
        chosen: whether `reasons.when` chose the row, and the budget left it out. Other rows get both directions.
    """
    record = score.run
    run = ScoringRun(
        record.run_id,
        pipeline,
        record.interval,
        deciding_model(record.pins),
        "",
        record.variant,
        steps=record.step_models,
    )
    if {step.name for step in pipeline.steps} != set(record.pins):
        return MadeReasons(refused="the pipeline has other steps now than the run had")
    try:
        found = _score_again(run, row_key, fix_versions(pipeline, connect), registry, options)
        if found is None:
            return MadeReasons(refused="the source has no row of this key in the interval any more")
        if not found.table.num_rows:
            return MadeReasons(refused=f"the row is no longer scored{_describe_refusal(found)}")
        changed = _find_change(pipeline, found, score, registry, run)
        if changed:
            return MadeReasons(refused=f"the source or the spec has changed since: {changed}")
        wanted = pipeline.reasons or Reasons(when="true")
        wanted = wanted if chosen else wanted.model_copy(update={"direction": "both"})
        table = explain_rows(pipeline, wanted, join_scores(found), registry.load(run.model), options.masking)
    except PenstockError as error:
        return MadeReasons(refused=str(error))
    return MadeReasons(tuple(StoredReason(**row) for row in table.select(list(REASON)).to_pylist()))


def _score_again(
    run: ScoringRun, row_key: RowKey, connect: Connector, registry: Registry, options: PartitionOptions
) -> ScoredRows | None:
    """Return the row of the key, scored now: no row if it is refused or excluded. None if the source has none."""
    pipeline = run.pipeline
    for partition in plan_partitions(run, connect, options.masking).partitions:
        extracted = extract_partition(run, partition, connect)
        mine = _mask(extracted.primary, row_key)
        if not any(mine):
            continue
        if pipeline.partition_by is None:  # otherwise its features need the other rows of its group
            extracted = replace(extracted, primary=extracted.primary.filter(pa.array(mine, pa.bool_())))
        scored = _score(run, partition, replace(extracted, refused={}, stray=None), registry, options)
        if scored.halts:
            return replace(scored, table=scored.table.slice(0, 0))
        kept = pa.array(_mask(scored.table, row_key), pa.bool_())
        features = replace(scored.features, table=scored.features.table.filter(kept))
        return replace(scored, table=scored.table.filter(kept), features=features)
    return None


def _describe_refusal(found: ScoredRows) -> str:
    reasons = [*found.halts, *(reason.text for refusal in found.refusals for reason in refusal.reasons)]
    return f": {reasons[0]}" if reasons else ", because `features` leaves it out"


def _score(
    run: ScoringRun, partition: Partition, extracted: Any, registry: Registry, options: PartitionOptions
) -> ScoredRows:
    features = validate_partition(run, partition, extracted, options)
    if run.steps:
        return score_in_steps(run, partition, features, registry, options)
    return score_features(run, partition, features, registry.load(run.model), options)


def _mask(rows: pa.Table, row_key: RowKey) -> list[bool]:
    """Return which rows have the key."""
    mine = [True] * rows.num_rows
    for column in row_key.values:
        is_mine = row_key.typed(column).matcher(NO_MASKING)
        mine = [there and is_mine(value) for there, value in zip(mine, rows[column].to_pylist(), strict=True)]
    return mine


def _find_change(pipeline: Pipeline, found: ScoredRows, score: KeyScore, registry: Registry, run: ScoringRun) -> str:
    """Name the first output of a model that is not the stored one, to the bit. Empty: all are."""
    [row] = found.table.to_pylist()
    for step in pipeline.steps:
        pin = run.steps.get(step.name, run.model)
        for output in registry.manifest(pin.name, pin.version).outputs:
            column = pipeline.name_output(step, output)
            stored = score.columns.get(column)
            if not _is_same(row[column], stored):
                return f"`{column}` is {row[column]!r} now, and {stored!r} is stored"
    return ""


def _is_same(now: object, stored: object) -> bool:
    if isinstance(now, float) and isinstance(stored, float):
        return struct.pack("d", now) == struct.pack("d", stored)
    return now == stored
