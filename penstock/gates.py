"""One partition's rows between reading and scoring: judged, refused, turned into features, judged again."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.carriers import Extracted, Features, Partition, Refusal, ScoringRun, Validation, interval_label
from penstock.errors import Halted
from penstock.features import build_features, duplicate_keys
from penstock.quality import columns_needed, judge_rows
from penstock.spec import FEATURES, Pipeline
from penstock.types import compute

KEY_IS_NULL = "the key is NULL"


def pass_gates(run: ScoringRun, partition: Partition, extracted: Extracted, sample_share: float) -> Features:
    """Judge one partition's rows and build its features.

    Rows that a warning refuses, and rows without a key, go to quarantine; a critical expectation that fails is told in
    `halts`, for the run to react to.

    Args:
        sample_share: share of the rows that the audit gets to see, 1.0 for all.

    Raises:
        Halted: the key is not unique.
        FeaturesError: the features query fails.
        SpecError: an expectation cannot be evaluated.
    """
    pipeline, name = run.pipeline, run.pipeline.primary
    primary = extracted.primary
    _refuse_duplicates(run, primary)
    accepted, refusals, validations, halts = _judge(pipeline, name, primary, partition, _null_keys(pipeline, primary))
    others: dict[str, pa.Table] = {}
    for other, table in extracted.others.items():
        others[other], refused, found, stops = _judge(pipeline, other, table, partition, {})
        halts += stops
        if partition.index == 0:  # every partition reads the same rows of the other sources: told once
            refusals, validations = refusals + refused, validations + found
    features = build_features(pipeline, interval_label(run.interval), accepted, others)
    passed, late, found, stops = _judge(pipeline, FEATURES, features, partition, {}, rows_of=accepted)
    audit = {
        stage: _sample(table, columns_needed(pipeline.expectations_of(stage)), sample_share)
        for stage, table in ((name, primary), (FEATURES, features))
    }
    return Features(
        table=passed,
        extracted=primary.num_rows,
        excluded=accepted.num_rows - features.num_rows,
        refusals=refusals + late,
        validations=validations + found,
        halts=halts + stops,
        audit={stage: table for stage, table in audit.items() if table.num_columns},
        columns={name: tuple(primary.column_names), FEATURES: tuple(features.column_names)},
    )


def refuse(
    pipeline: Pipeline,
    stage: str,
    table: pa.Table,
    refused: Mapping[int, Sequence[str]],
    rows_of: pa.Table | None = None,
) -> tuple[pa.Table, tuple[Refusal, ...]]:
    """Split a table into the rows that stay and the refusals of the others.

    Args:
        refused: position and reasons of each refused row.
        rows_of: the primary rows to keep in quarantine instead, found by key.
    """
    if not refused:
        return table, ()
    positions = sorted(refused)
    keep = np.ones(table.num_rows, dtype=bool)
    keep[positions] = False
    key = [c for c in pipeline.key if c in table.column_names]
    taken = table.take(pa.array(positions, pa.int64()))
    originals = _rows_by_key(rows_of, taken, key) if rows_of is not None else {}
    refusals = []
    for position, row in zip(positions, taken.to_pylist(), strict=True):
        named = {c: row[c] for c in key}
        original = originals.get(tuple(named.values()), row)
        source = stage if stage in pipeline.sources else pipeline.primary
        refusals.append(Refusal(stage, source, to_json(named), tuple(refused[position]), to_json(original)))
    return table.filter(pa.array(keep)), tuple(refusals)


def to_json(row: Mapping[str, Any]) -> str:
    """Write a row's values as they were read; what JSON has no form for becomes text."""
    return json.dumps(row, ensure_ascii=False, default=str)


def sample_rows(table: pa.Table, share: float) -> pa.Table:
    """Return evenly spaced rows, so many that all partitions together make up the share."""
    if share >= 1.0:
        return table
    count = max(round(table.num_rows * share), min(table.num_rows, 1))
    return (
        table.take(pa.array([i * table.num_rows // count for i in range(count)], pa.int64()))
        if count
        else table.slice(0, 0)
    )


def _judge(
    pipeline: Pipeline,
    stage: str,
    table: pa.Table,
    partition: Partition,
    refused: dict[int, tuple[str, ...]],
    rows_of: pa.Table | None = None,
) -> tuple[pa.Table, tuple[Refusal, ...], tuple[Validation, ...], tuple[str, ...]]:
    verdict = judge_rows(stage, table, pipeline.expectations_of(stage), partition.index)
    for position, reasons in verdict.refused.items():
        refused[position] = (*refused.get(position, ()), *reasons)
    accepted, refusals = refuse(pipeline, stage, table, refused, rows_of)
    return accepted, refusals, verdict.validations, verdict.halts


def _refuse_duplicates(run: ScoringRun, primary: pa.Table) -> None:
    keys = primary.select(list(run.pipeline.key))
    twice = duplicate_keys(keys.filter(compute.invert(_any_null(keys, run.pipeline.key))), run.pipeline.key)
    if twice:
        key = ", ".join(f"`{c}`" for c in run.pipeline.key)
        reason = f"the key {key} of source `{run.pipeline.primary}` is not unique: {', '.join(twice)}"
        raise Halted(run.pipeline.name, interval_label(run.interval), (reason,))


def _null_keys(pipeline: Pipeline, primary: pa.Table) -> dict[int, tuple[str, ...]]:
    positions = compute.indices_nonzero(_any_null(primary, pipeline.key)).to_pylist()
    return dict.fromkeys(positions, (KEY_IS_NULL,))


def _any_null(table: pa.Table, key: tuple[str, ...]) -> "pa.ChunkedArray[Any]":
    mask: pa.ChunkedArray[Any] = compute.is_null(table[key[0]])
    for column in key[1:]:
        mask = compute.or_(mask, compute.is_null(table[column]))
    return mask


def _rows_by_key(table: pa.Table, wanted: pa.Table, key: list[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    near = table.filter(compute.is_in(table[key[0]], value_set=wanted[key[0]].combine_chunks()))
    return {tuple(row[c] for c in key): row for row in near.to_pylist()}


def _sample(table: pa.Table, columns: Sequence[str], share: float) -> pa.Table:
    return sample_rows(table.select([c for c in columns if c in table.column_names]), share)
