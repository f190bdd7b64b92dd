"""Judge recorded rows of whole intervals as the audit of a run judges its rows: volume, whole columns, drift.

Several processes record rows of one interval, each in a run of its own. They are judged together, and the first of
these runs has what was found. A recorded row is not taken back: what would halt a run is only shown.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby

import pyarrow as pa

from penstock.database.connections import Database
from penstock.interval import DataInterval
from penstock.ledger import writer
from penstock.ledger.reader import find_run
from penstock.ledger.served_rows import ServedRows, ServedRun, list_served_runs, read_served_rows
from penstock.models.profile import find_drift_bins
from penstock.models.registry import Registry
from penstock.quality import columns_needed
from penstock.run.audit import audit_interval, sum_counts
from penstock.run.drift import judge_drift
from penstock.run.load import make_receipt
from penstock.run.partition_options import PartitionOptions
from penstock.run.validate import sample_rows
from penstock.run_types import ColumnProfile, Features, Partition, Receipt, ScoringRun, Validation
from penstock.serving.scorer import Scorer
from penstock.spec.pipeline import Pipeline
from penstock.spec.stages import FEATURES


@dataclass(frozen=True)
class JudgedGrain:
    """What was found in the recorded rows of one interval that one set of model versions has scored."""

    run_id: str
    """The run that has the findings."""
    interval: DataInterval
    rows: int
    failed: tuple[Validation, ...]
    """Of the findings, those that a run would halt for, and the alarms of drift."""

    @property
    def text(self) -> str:
        """What was found, in one line for people."""
        found = "; ".join(f"{each.stage}: {each.expectation}" for each in self.failed) or "nothing to tell"
        return f"{self.interval.label}, {self.rows:,} recorded rows of run {self.run_id}: {found}"


def judge_grains(
    pipeline: Pipeline,
    warehouse: Database,
    registry: Registry,
    options: PartitionOptions,
    since: datetime,
    now: datetime,
) -> list[JudgedGrain]:
    """Judge the intervals that have ended between two times, and store what was found with their runs. A second call
    replaces it.

    Rows that another spec has scored, and those with private features, are not judged.

    Raises:
        DriftRefused: the model version has no reference, or not a column that is watched.
    """
    runs = [run for run in list_served_runs(warehouse, pipeline.name, since, now) if _may_judge(run, pipeline, now)]
    runs.sort(key=_grain_of)
    judged = []
    for _, together in groupby(runs, key=_grain_of):
        judged.append(_judge_grain(pipeline, warehouse, registry, options, list(together)))
    return judged


def _may_judge(run: ServedRun, pipeline: Pipeline, now: datetime) -> bool:
    ended = run.interval is not None and run.interval.end <= now
    return ended and run.keeps_features and run.scoring == pipeline.scoring_fingerprint


def _grain_of(run: ServedRun) -> tuple[datetime, str, str]:
    assert run.interval is not None
    return run.interval.start, run.destination, str(sorted((step, str(pin)) for step, pin in run.pins.items()))


def _judge_grain(
    pipeline: Pipeline,
    warehouse: Database,
    registry: Registry,
    options: PartitionOptions,
    runs: Sequence[ServedRun],
) -> JudgedGrain:
    first, judged = runs[0], _as_judged(pipeline)
    models = {step: registry.load(pin) for step, pin in first.pins.items()}
    options = replace(options, sample_share=min(1.0, pipeline.audit_rows / max(sum(run.rows for run in runs), 1)))
    scorer = Scorer(judged, first.pins, models, {}, options)
    steps = first.pins if pipeline.models else {}
    run = ScoringRun(first.run_id, judged, first.interval, first.model, "", "served", steps=steps)
    receipts = list(_make_receipts(scorer, run, warehouse, runs))
    found = audit_interval(run, receipts, sum_counts(receipts).scored, {})
    validations = found.validations
    profiles: tuple[ColumnProfile, ...] = ()
    if pipeline.drift is not None:
        bins = find_drift_bins(judged, {step: model.manifest for step, model in models.items()})
        drift = judge_drift(warehouse, run, find_run(warehouse, first.run_id), receipts, bins)
        validations, profiles = (*validations, *drift.validations), drift.profiles
    writer.record_audit(warehouse, run, validations, profiles, ())
    failed = tuple(each for each in validations if each.outcome == "halted" or _warns(each))
    assert first.interval is not None
    return JudgedGrain(first.run_id, first.interval, found.totals.extracted, failed)


def _warns(found: Validation) -> bool:
    return found.severity == "warning" and found.outcome not in ("passed", "vacuous")


def _as_judged(pipeline: Pipeline) -> Pipeline:
    """Return the pipeline as it judges recorded rows: as requests, and whole columns as in a run."""
    judged = {stage: tuple(each.for_requests for each in listed) for stage, listed in pipeline.expectations.items()}
    return pipeline.for_requests.model_copy(update={"expectations": judged, "drift": pipeline.drift})


def _make_receipts(
    scorer: Scorer, run: ScoringRun, warehouse: Database, runs: Sequence[ServedRun]
) -> Iterator[Receipt]:
    """Score the recorded features, which counts them, and yield what the audit of a run takes."""
    for recorded in runs:
        for rows in read_served_rows(warehouse, recorded):
            yield _make_receipt(scorer, run, rows)


def _make_receipt(scorer: Scorer, run: ScoringRun, rows: ServedRows) -> Receipt:
    pipeline, primary = run.pipeline, run.pipeline.primary
    statuses = [row.status for row in rows.rows]
    refused, excluded = statuses.count("refused"), statuses.count("excluded")
    tables: Mapping[str, pa.Table] = {primary: rows.primary, FEATURES: rows.features}
    audit = {
        stage: sample_rows(table.select(_audited(pipeline, stage, table)), scorer.options.sample_share)
        for stage, table in tables.items()
    }
    features = Features(
        table=rows.features,
        extracted=len(rows.rows),
        excluded=excluded,
        refusals=(),
        validations=(),
        audit={stage: table for stage, table in audit.items() if table.num_columns},
        columns={stage: tuple(table.column_names) for stage, table in tables.items()},
    )
    partition = Partition(0, 1, None, None, len(rows.rows))
    receipt = make_receipt(run, partition, scorer.score_features(partition, features), {})
    again = receipt.quarantined  # rows that a score's expectation refuses: they were not recorded as scored
    return replace(receipt, quarantined=refused + again, refused_at_source=refused)


def _audited(pipeline: Pipeline, stage: str, table: pa.Table) -> list[str]:
    return [column for column in columns_needed(pipeline.expectations_of(stage)) if column in table.column_names]
