"""Plan and score without Prefect: the steps of `flows/score.py`, one after another, by the same functions."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from penstock.database.connections import Connector, Database
from penstock.errors import Halted, SourceError
from penstock.ledger import writer
from penstock.ledger.reader import find_run, settled_intervals
from penstock.ledger.releases import pending_releases
from penstock.ledger.run_lease import ActiveRun, run_lease
from penstock.models.needs import needed_columns
from penstock.models.registry import Registry
from penstock.privacy.masking import MaskingPolicy
from penstock.resources.memory import MemoryPlan, RequestedLoad, fit_partitions
from penstock.resources.usage import PartitionMeter
from penstock.run.budget import keep_budget
from penstock.run.extract import (
    count_malformed,
    extract_partition,
    plan_partitions,
    source_fingerprint,
    source_horizon,
)
from penstock.run.load import count_rows, load_partition
from penstock.run.partition_options import PartitionOptions
from penstock.run.planning import Mode, Plan, PlannedInterval, PlanRequest, plan_intervals
from penstock.run.schema_contract import compare_sources, keep_contract, refuse_breaks
from penstock.run_types import (
    Features,
    Partition,
    Pins,
    Receipt,
    ScoredRows,
    ScoringRun,
    SourcePlan,
    deciding_model,
    interval_label,
)
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline

if TYPE_CHECKING:
    from penstock.run.audit import AuditResult


@dataclass(frozen=True)
class Scorer:
    """One pipeline with all that its runs need."""

    pipeline: Pipeline
    settings: Settings
    connect: Connector
    registry: Registry
    masking: MaskingPolicy

    @property
    def warehouse(self) -> Database:
        return self.connect(self.pipeline.destination.connection)

    def _options(self, sample_share: float = 1.0) -> PartitionOptions:
        return PartitionOptions(self.masking, self.settings.statement_seconds, sample_share)

    def plan(self, now: datetime, mode: Mode, start: datetime | None, end: datetime | None) -> Plan:
        """Decide which intervals to score.

        Raises:
            Halted: a column of the source has gone or changed its type.
        """
        pipeline, connect = self.pipeline, self.connect
        horizon = source_horizon(pipeline, connect)  # before any rows are looked at
        settled = settled_intervals(self.warehouse, pipeline.name)
        released = pending_releases(self.warehouse, pipeline.name)
        seen = partial(source_fingerprint, pipeline, connect=connect, masking=self.masking)
        try:
            request = PlanRequest(pipeline, settled, now, seen, mode, start, end, released=released, horizon=horizon)
            return plan_intervals(request)
        except SourceError:
            refuse_breaks(pipeline, None, list(compare_sources(pipeline, None, connect, ())))
            raise

    def claim(self, planned: PlannedInterval, pins: Pins) -> ScoringRun | None:
        """Take an interval under a lease; None where it is published already.

        Raises:
            IntervalBusy: another run holds it.
        """
        request = writer.ClaimRequest(
            self.pipeline,
            planned.interval,
            deciding_model(pins),
            planned.reason,
            self.settings.lease_seconds,
            again=planned.again,
            steps=pins if self.pipeline.models else {},
        )
        return writer.claim(self.warehouse, request)

    def score(self, run: ScoringRun, partition_rows: int | None = None) -> None:
        """Score a claimed interval and publish it.

        Raises:
            Halted: a gate refused the interval; nothing was published.
            TakenOver: the lease was lost and another run took over; nothing was published.
        """
        with run_lease(self.warehouse, run, self.settings.lease_seconds, self.settings.prices) as active:
            result = self._audit(run, self._score_partitions(run, partition_rows, active))
            active.totals = result.totals
            if result.halts:
                raise Halted(self.pipeline.name, interval_label(run.interval), result.halts)
            writer.publish(self.warehouse, run, result.totals, result.score_quantiles, active.meter.read())

    def _score_partitions(self, run: ScoringRun, partition_rows: int | None, active: ActiveRun) -> list[Receipt]:
        """Score one partition after another; stop at the first that a gate halts."""
        receipts: list[Receipt] = []
        with ExitStack() as snapshots:
            source_plan = self._plan_partitions(run, partition_rows, snapshots)
            share = min(1.0, self.pipeline.audit_rows / max(source_plan.rows, 1))
            for partition in source_plan.partitions:
                receipts.append(self._score_partition(run, partition, share))
                active.meter.add(receipts[-1].spent)
                active.check()
                if receipts[-1].halts:
                    break
        return receipts

    def _plan_partitions(self, run: ScoringRun, partition_rows: int | None, snapshots: ExitStack) -> SourcePlan:
        """Compare the sources with their contract; count the interval's rows, cut them, store what was seen."""
        pins = run.steps or {self.pipeline.steps[0].name: run.model}
        manifests = {step: self.registry.manifest(pin.name, pin.version) for step, pin in pins.items()}
        keep_contract(run, self.connect, needed_columns(self.pipeline, manifests))

        def consider(source_plan: SourcePlan, at_most: int) -> MemoryPlan | None:
            writer.record_plan(self.warehouse, run, source_plan)
            keep_budget(run, source_plan.rows, self.warehouse, self.settings.prices)
            return self._fit_memory(run, source_plan.rows, at_most)

        source_plan = plan_partitions(run, self.connect, self.masking, partition_rows, snapshots, consider)
        if source_plan.fit:
            writer.record_plan(self.warehouse, run, source_plan)
        return source_plan

    def _fit_memory(self, run: ScoringRun, rows: int, partition_rows: int) -> MemoryPlan | None:
        limit = self.settings.memory
        if limit is None or not rows:
            return None
        from penstock.models.memory_profile import SampleRun, measure_memory_profile

        wanted = RequestedLoad(self.pipeline.name, rows, partition_rows, 1, self.pipeline.audit_rows)
        sample = SampleRun(run, self.connect, self.registry, self._options())
        return fit_partitions(limit, measure_memory_profile(sample, limit), wanted)

    def _score_partition(self, run: ScoringRun, partition: Partition, share: float) -> Receipt:
        """Take one partition from its source into the history table."""
        from penstock.run.validate import validate_partition

        seconds: dict[str, float] = {}
        meter = PartitionMeter()
        with _timed(seconds, "extract"):
            extracted = extract_partition(run, partition, self.connect)
            meter.bytes_read = extracted.nbytes
        with _timed(seconds, "validate"):
            features = validate_partition(run, partition, extracted, self._options(share))
        scored = self._score_features(run, partition, features, share, seconds)
        return load_partition(self.warehouse, run, partition, scored, seconds, 1, meter)

    def _score_features(
        self, run: ScoringRun, partition: Partition, features: Features, share: float, seconds: dict[str, float]
    ) -> ScoredRows:
        from penstock.models.chain import judge_steps, score_step
        from penstock.models.scoring import score_features

        if not run.steps:
            with _timed(seconds, "score"):
                model = self.registry.load(run.model)
                return score_features(run, partition, features, model, self._options(share))
        for step in self.pipeline.steps if not features.halts else ():
            with _timed(seconds, step.name):
                model = self.registry.load(run.steps[step.name])
                features = score_step(self.pipeline, features, step, model, self._options(share))
        with _timed(seconds, "decide"):
            return judge_steps(run, partition, features, self._options(share))

    def _audit(self, run: ScoringRun, receipts: list[Receipt]) -> "AuditResult":
        """Reconcile the counts, judge the interval as a whole, store what was found."""
        from penstock.run.audit import audit_interval

        malformed = count_malformed(self.pipeline, run.interval, self.connect)
        planned = find_run(self.warehouse, run.run_id).rows_planned
        result = audit_interval(run, receipts, count_rows(self.warehouse, run), malformed, planned)
        writer.record_validations(self.warehouse, run, result.validations)
        return result


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - begun
