"""Drive a run in the order of `flows/score.py`, without Prefect, one step at a time.

A run is a generator: who asks for no more steps has killed it, and who asks two by turns has them overlap. The ledger
is told nothing of a kill, as with a real one; the lease stays until `lapse_leases` ends it.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import Halted, IntervalBusy, PenstockError
from penstock.ledger import writer
from penstock.ledger.reader import find_run, settled_intervals
from penstock.ledger.releases import pending_releases
from penstock.ledger.tables import runs
from penstock.models.chain import judge_steps, score_step
from penstock.models.registry import Registry
from penstock.models.scoring import score_features
from penstock.privacy.masking import NO_MASKING, MaskingPolicy
from penstock.run.audit import AuditResult, audit_interval
from penstock.run.extract import (
    count_malformed,
    extract_partition,
    land_logs,
    plan_partitions,
    source_fingerprint,
    source_horizon,
)
from penstock.run.load import count_rows, load_partition
from penstock.run.planning import Mode, Plan, PlannedInterval, PlanRequest, plan_intervals
from penstock.run.schema_contract import keep_contract
from penstock.run.validate import validate_partition
from penstock.run_types import Partition, Pins, Receipt, ScoringRun, deciding_model
from penstock.sources import Connect
from penstock.spec.pipeline import Pipeline


@dataclass(frozen=True)
class Driver:
    """What the steps of a pipeline's runs need."""

    pipeline: Pipeline
    connect: Connect
    registry: Registry
    lease_seconds: float = 3600.0
    masking: MaskingPolicy = NO_MASKING

    @property
    def warehouse(self) -> Database:
        return self.connect(self.pipeline.destination.connection)

    def run(
        self, now: datetime, mode: Mode = "due", start: datetime | None = None, end: datetime | None = None
    ) -> list[str]:
        """Do all steps; return their names."""
        return list(self.steps(now, mode, start, end))

    def kill(self, now: datetime, after: int) -> list[str]:
        """Do so many steps of a run over what is due, and no more; return their names."""
        steps = self.steps(now)
        done = list(islice(steps, after))
        steps.close()
        return done

    def plan(self, now: datetime, mode: Mode, start: datetime | None, end: datetime | None) -> Plan:
        settled = settled_intervals(self.warehouse, self.pipeline.name)
        horizon = source_horizon(self.pipeline, self.connect)

        def fingerprint_of(interval):
            return source_fingerprint(self.pipeline, interval, self.connect, self.masking)

        released = pending_releases(self.warehouse, self.pipeline.name)
        return plan_intervals(
            PlanRequest(
                self.pipeline, settled, now, fingerprint_of, mode, start, end, released=released, horizon=horizon
            )
        )

    def steps(
        self, now: datetime, mode: Mode = "due", start: datetime | None = None, end: datetime | None = None
    ) -> Iterator[str]:
        """Score what `mode` asks for; the name of each step comes when it is done."""
        pins = {step.name: self.registry.resolve(step.model) for step in self.pipeline.steps}
        yield "resolve"
        land_logs(self.pipeline, self.connect)
        yield "collect logs"
        todo = self.plan(now, mode, start, end)
        yield "plan"
        for planned in todo.intervals:
            yield from self._interval(planned, pins)

    def _interval(self, planned: PlannedInterval, pins: Pins) -> Iterator[str]:
        try:
            request = writer.ClaimRequest(
                self.pipeline,
                planned.interval,
                deciding_model(pins),
                planned.reason,
                self.lease_seconds,
                again=planned.again,
                steps=pins if self.pipeline.models else {},
            )
            run = writer.claim(self.warehouse, request)
        except IntervalBusy:
            yield "busy"
            return
        if run is None:
            yield "published already"
            return
        yield "claim"
        try:
            yield from self._held(run)
        except PenstockError as error:
            state = "halted" if isinstance(error, Halted) else "failed"
            writer.end_run(self.warehouse, run, state, str(error))
            yield f"{state}: {error}"

    def _held(self, run: ScoringRun) -> Iterator[str]:
        receipts: list[Receipt] = []
        manifest = self.registry.manifest(run.model.name, run.model.version)
        keep_contract(run, self.connect, manifest.feature_names)
        with ExitStack() as snapshots:
            source_plan = plan_partitions(run, self.connect, self.masking, held=snapshots)
            yield "count"
            writer.record_plan(self.warehouse, run, source_plan)
            yield "plan partitions"
            share = min(1.0, self.pipeline.audit_rows / max(source_plan.rows, 1))
            for partition in source_plan.partitions:
                yield from self._partition(run, partition, share, receipts)
        result = self._audit(run, receipts)
        yield "audit"
        if result.halts:
            raise Halted(self.pipeline.name, run.label, result.halts)
        writer.publish(self.warehouse, run, result.totals, result.score_quantiles)
        yield "publish"

    def _partition(self, run: ScoringRun, partition: Partition, share: float, receipts: list[Receipt]) -> Iterator[str]:
        extracted = extract_partition(run, partition, self.connect)
        yield f"extract {partition.label}"
        features = validate_partition(run, partition, extracted, share, self.masking)
        yield f"validate {partition.label}"
        if run.steps:
            for step in self.pipeline.steps:
                features = score_step(
                    self.pipeline, features, step, self.registry.load(run.steps[step.name]), self.masking
                )
            scored = judge_steps(run, partition, features, share, self.masking)
        else:
            scored = score_features(run, partition, features, self.registry.load(run.model), share, self.masking)
        yield f"score {partition.label}"
        receipts.append(load_partition(self.warehouse, run, partition, scored, {}, 1))
        yield f"load {partition.label}"

    def _audit(self, run: ScoringRun, receipts: list[Receipt]) -> AuditResult:
        malformed = count_malformed(self.pipeline, run.interval, self.connect)
        planned = find_run(self.warehouse, run.run_id).rows_planned
        result = audit_interval(run, receipts, count_rows(self.warehouse, run), malformed, planned)
        writer.record_validations(self.warehouse, run, result.validations)
        return result


def lapse_leases(warehouse: Database) -> None:
    """End the leases of all runs, as time would."""
    with warehouse.writing() as connection:
        over = sa.update(runs).where(runs.c.state == "running").values(lease_until=datetime(2000, 1, 1, tzinfo=UTC))
        connection.execute(over)
