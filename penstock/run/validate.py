"""Validate one partition: judge its rows, quarantine, build the features, judge those."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.database.types import compute
from penstock.database.unstorable import to_records
from penstock.ledger.quarantine import digest_row
from penstock.privacy.masking import MaskingPolicy
from penstock.quality import columns_needed, judge_rows
from penstock.run.cut_check import check_cut
from penstock.run.features import build_features
from penstock.run.keys import halt_on_duplicates
from penstock.run.partition_options import PartitionOptions
from penstock.run_types import (
    ExtractedRows,
    FailedExpectation,
    Features,
    NullKey,
    Partition,
    Reason,
    Refusal,
    ScoringRun,
    Validation,
    Verdict,
    Waivers,
    interval_label,
)
from penstock.spec.pipeline import Pipeline
from penstock.spec.stages import FEATURES


def validate_partition(
    run: ScoringRun, partition: Partition, extracted: ExtractedRows, options: PartitionOptions
) -> Features:
    """Judge one partition's rows and build its features.

    Rows that fail a warning, and rows without a key, go to quarantine. Critical expectations that fail are listed in
    `halts`; the caller stops the run.

    Raises:
        Halted: the key is not unique.
        FeaturesError: the features query fails, or depends on how rows are cut into partitions.
        SpecError: an expectation cannot be evaluated.
    """
    pipeline, name = run.pipeline, run.pipeline.primary
    primary = extracted.primary
    judge = partial(judge_stage, Quarantiner(pipeline, options.masking, extracted.waivers), partition)
    _halt_on_duplicates(run, primary)
    accepted, refusals, validations, halts = judge(name, primary, _null_keys(pipeline, primary))
    others: dict[str, pa.Table] = {}
    for other, table in extracted.others.items():
        others[other], refused, found, stops = judge(other, table, {})
        halts += stops
        if partition.index == 0:  # every partition reads the same rows of the other sources: recorded once
            refusals, validations = refusals + refused, validations + found
    label, seconds = interval_label(run.interval), options.statement_seconds
    if partition.compare_cut:
        check_cut(pipeline, label, accepted, others, seconds)
    features = build_features(pipeline, label, accepted, others, seconds, others_stand=options.others_stand)
    passed, late, found, stops = judge(FEATURES, features, {}, rows_of=accepted)
    audit = {
        stage: _sample(table, columns_needed(pipeline.expectations_of(stage)), options.sample_share)
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
        waivers=extracted.waivers,
    )


@dataclass(frozen=True)
class Quarantiner:
    """Makes a pipeline's refusals: masks private values, and lets released rows pass."""

    pipeline: Pipeline
    masking: MaskingPolicy
    waivers: Waivers

    def refuse(
        self, stage: str, table: pa.Table, refused: Mapping[int, Sequence[Reason]], rows_of: pa.Table | None = None
    ) -> tuple[pa.Table, tuple[Refusal, ...]]:
        """Split a table into the rows that stay and the refusals of the others.

        Args:
            refused: position and reasons of each refused row.
            rows_of: primary rows; the one with the same key is kept in quarantine instead.
        """
        keep, refusals = self.split(stage, table, refused, rows_of)
        return table if keep is None else table.filter(keep), refusals

    def split(
        self, stage: str, table: pa.Table, refused: Mapping[int, Sequence[Reason]], rows_of: pa.Table | None = None
    ) -> "tuple[pa.Array[Any] | None, tuple[Refusal, ...]]":
        """Return which rows of a table stay, None for all, and the refusals of the others."""
        if not refused:
            return None, ()
        positions = sorted(refused)
        keep = np.ones(table.num_rows, dtype=bool)
        key = [c for c in self.pipeline.key if c in table.column_names]
        taken = table.take(pa.array(positions, pa.int64()))
        originals = _rows_by_key(rows_of, taken, key) if rows_of is not None else {}
        refusals = []
        for position, row in zip(positions, to_records(taken), strict=True):
            original = originals.get(tuple(row[c] for c in key), row)
            refusal = self._refuse_row(stage, key, row, original, refused[position])
            if refusal is not None:
                keep[position] = False
                refusals.append(refusal)
        return pa.array(keep), tuple(refusals)

    def _refuse_row(
        self,
        stage: str,
        key: Sequence[str],
        judged: Mapping[str, Any],
        original: Mapping[str, Any],
        why: Sequence[Reason],
    ) -> Refusal | None:
        """Return the refusal. None where a release of this unchanged row waives every reason."""
        source = stage if stage in self.pipeline.sources else self.pipeline.primary
        named = to_json(self.masking.mask({c: judged[c] for c in sorted(key)}))
        row = to_json(self.masking.mask(judged))
        digest = digest_row(stage, source, named, row)
        waived = self._find_waived(stage, source, key, judged) if self.waivers else frozenset()
        masked = (self.masking.mask_reason(reason) for reason in why)
        reasons = tuple(reason for reason in masked if reason.text not in waived)
        kept = row if original is judged else to_json(self.masking.mask(original))
        return Refusal(stage, source, named, reasons, kept, digest) if reasons else None

    def _find_waived(self, stage: str, source: str, key: Sequence[str], judged: Mapping[str, Any]) -> frozenset[str]:
        """Return what releases waive for a row.

        They may have its hashes under the former key. Those of 0.1 have the key in the order of the spec.
        """
        found: frozenset[str] = frozenset()
        for masking, names in product(self.masking.variants, (sorted(key), key)):
            named, row = to_json(masking.mask({c: judged[c] for c in names})), to_json(masking.mask(judged))
            found |= self.waivers.get(digest_row(stage, source, named, row), frozenset())
        return found


def to_json(row: Mapping[str, Any]) -> str:
    """Write a row's values as they were read. A value that JSON cannot store becomes text."""
    return json.dumps(row, ensure_ascii=False, default=str)


def sample_rows(table: pa.Table, share: float) -> pa.Table:
    """Return the share of the rows, evenly spaced."""
    if share >= 1.0:
        return table
    count = max(round(table.num_rows * share), min(table.num_rows, 1))
    return table.take(np.arange(count) * table.num_rows // count) if count else table.slice(0, 0)


def judge_stage(
    refusing: Quarantiner,
    partition: Partition,
    stage: str,
    table: pa.Table,
    refused: dict[int, tuple[Reason, ...]],
    rows_of: pa.Table | None = None,
) -> tuple[pa.Table, tuple[Refusal, ...], tuple[Validation, ...], tuple[str, ...]]:
    """Judge the rows of a stage. Return those that are accepted, the refusals, the validations and what halts a run.

    Args:
        refused: position and reasons of rows that are refused already. Those that fail are added.
        rows_of: primary rows; the one with the same key is kept in quarantine instead.
    """
    verdict = judge_rows(stage, table, refusing.pipeline.expectations_of(stage), partition.index, refusing.masking)
    for position, failed in failed_expectations(verdict).items():
        refused[position] = (*refused.get(position, ()), *failed)
    accepted, refusals = refusing.refuse(stage, table, refused, rows_of)
    return accepted, refusals, count_released(verdict.validations, refusals), verdict.halts


def failed_expectations(verdict: Verdict) -> dict[int, tuple[FailedExpectation, ...]]:
    """Return position and reasons of the rows that a verdict refuses."""
    return {row: tuple(FailedExpectation(label) for label in labels) for row, labels in verdict.refused.items()}


def count_released(validations: Sequence[Validation], refusals: Sequence[Refusal]) -> tuple[Validation, ...]:
    """Add to each validation that quarantines how many of its rows stay, because they were released before."""
    failed = (reason for refusal in refusals for reason in refusal.reasons if isinstance(reason, FailedExpectation))
    refused = Counter(reason.label for reason in failed)
    return tuple(_count_released(v, refused[v.expectation]) for v in validations)


def _count_released(validation: Validation, refused: int) -> Validation:
    released = validation.unexpected - refused
    if validation.outcome != "quarantined" or not released:
        return validation
    return replace(validation, outcome="quarantined" if refused else "noted", released=released)


def _halt_on_duplicates(run: ScoringRun, primary: pa.Table) -> None:
    keys = primary.select(list(run.pipeline.key))
    incomplete = _any_null(keys, run.pipeline.key)
    if compute.any(incomplete).as_py():
        keys = keys.filter(compute.invert(incomplete))
    halt_on_duplicates(run, keys)


def _null_keys(pipeline: Pipeline, primary: pa.Table) -> dict[int, tuple[Reason, ...]]:
    positions = compute.indices_nonzero(_any_null(primary, pipeline.key)).to_pylist()
    return dict.fromkeys(positions, (NullKey(),))


def _any_null(table: pa.Table, key: tuple[str, ...]) -> "pa.ChunkedArray[Any]":
    mask: pa.ChunkedArray[Any] = compute.is_null(table[key[0]], nan_is_null=True)
    for column in key[1:]:
        mask = compute.or_(mask, compute.is_null(table[column], nan_is_null=True))
    return mask


def _rows_by_key(table: pa.Table, wanted: pa.Table, key: list[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    near = table.filter(compute.is_in(table[key[0]], value_set=wanted[key[0]].combine_chunks()))
    return {tuple(row[c] for c in key): row for row in to_records(near)}


def _sample(table: pa.Table, columns: Sequence[str], share: float) -> pa.Table:
    return sample_rows(table.select([c for c in columns if c in table.column_names]), share)
