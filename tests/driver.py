"""Drive a run in the order of `flows/score.py`, without Prefect, one step at a time.

A run is a generator. To kill it, take no more steps; to overlap two runs, take their steps by turns. As with a real
kill, nothing is written to the ledger, and the lease stays until `lapse_leases` ends it.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Connector, Database
from penstock.errors import Halted, IntervalBusy, PenstockError
from penstock.ledger import writer
from penstock.ledger.migrations import has_ledger
from penstock.ledger.tables import delivery_targets, runs
from penstock.models.registry import Registry
from penstock.privacy.masking import NO_MASKING, MaskingPolicy
from penstock.run.audit import AuditResult
from penstock.run.challengers import try_challenger
from penstock.run.extract import land_logs
from penstock.run.planning import Mode, PlannedInterval
from penstock.run_types import Challengers, ChosenRows, Partition, Pins, Receipt, ScoringRun
from penstock.scoring_steps import ScoringSteps
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline

SETTINGS = Settings(_env_file=None, home=Path(os.devnull, "home"), lease_seconds=3600)
"""The home cannot exist, so runs on one warehouse after another do not know of the one before."""


STAGING = Path(tempfile.gettempdir(), f"penstock-staged-{os.getpid()}")


@dataclass(frozen=True)
class Driver:
    """What the steps of a pipeline's runs need."""

    pipeline: Pipeline
    connect: Callable[[str], Database]
    registry: Registry
    masking: MaskingPolicy = NO_MASKING
    settings: Settings = SETTINGS

    @property
    def does(self) -> ScoringSteps:
        """The steps, as tasks and the Python face call them."""
        read_value = getattr(self.connect, "read_value", None)
        connector = Connector(self.connect, self.settings.allowed_roots, STAGING, read_value=read_value)
        return ScoringSteps(self.pipeline, self.settings, connector, self.registry, self.masking)

    @property
    def warehouse(self) -> Database:
        return self.connect(self.pipeline.destination.connection)

    def run(self, now: datetime, *asked: Any, **named: Any) -> list[str]:
        """Do all steps, as `steps` does; return their names."""
        return list(self.steps(now, *asked, **named))

    def kill(self, now: datetime, after: int) -> list[str]:
        """Do so many steps of a run over the due intervals, then stop; return their names."""
        steps = self.steps(now)
        done = list(islice(steps, after))
        steps.close()
        return done

    def steps(
        self,
        now: datetime,
        mode: Mode = "due",
        start: datetime | None = None,
        end: datetime | None = None,
        scored_by: str = "",
    ) -> Iterator[str]:
        """Score the intervals of `mode`; yield the name of each step when it is done."""
        self.does.open_ledger()
        pins = {step.name: self.registry.resolve(step.model) for step in self.pipeline.steps}
        challengers = self.does.pin_challengers(pins)
        yield "resolve"
        land_logs(self.pipeline, self.does.connect)
        yield "collect logs"
        self.does.abandon_dead_runs()
        self.does.settle_served()
        todo = self.does.plan(now, mode, start, end, scored_by)
        yield "plan"
        for planned in todo.intervals:
            yield from self._interval(planned, pins, challengers)

    def _interval(self, planned: PlannedInterval, pins: Pins, challengers: Challengers) -> Iterator[str]:
        try:
            run = self.does.claim(planned, pins, challengers=challengers)
        except IntervalBusy:
            yield "busy"
            return
        if run is None:
            yield "published already"
            return
        yield "claim"
        audited: list[AuditResult] = []
        try:
            yield from self._held(run, audited)
        except PenstockError as error:
            state = "halted" if isinstance(error, Halted) else "failed"
            counted = (audited[0].totals, None, audited[0].score_quantiles) if audited else ()
            writer.end_run(self.warehouse, run, state, str(error), *counted)
            yield f"{state}: {error}"

    def _held(self, run: ScoringRun, audited: list[AuditResult]) -> Iterator[str]:
        receipts: list[Receipt] = []
        chosen = ChosenRows()
        claimed = run
        with ExitStack() as snapshots:
            source_plan = self.does.prepare(run, None, snapshots)
            yield "plan partitions"
            share = min(1.0, self.pipeline.audit_rows / max(source_plan.rows, 1))
            for partition in source_plan.partitions:
                yield from self._partition(run, partition, share, receipts)
                chosen = chosen.add(receipts[-1].chosen)
                receipts[-1] = replace(receipts[-1], chosen=None)
                if receipts[-1].halts:
                    break
                run = run.drop_challengers(receipts[-1].lost_challengers)
        if self.does.explain(run, receipts, chosen) is not None:
            yield "explain"
        result = self.does.audit(run, receipts)
        audited.append(result)
        yield "audit"
        if result.halts:
            raise Halted(self.pipeline.name, run.label, result.halts)
        self.does.publish(run, result)
        yield "publish"
        for ended in self.does.finish_challengers(claimed, receipts):
            yield f"challenger {ended.state}{f': {ended.error}' if ended.error else ''}"

    def _partition(self, run: ScoringRun, partition: Partition, share: float, receipts: list[Receipt]) -> Iterator[str]:
        extracted = self.does.extract(run, partition)
        yield f"extract {partition.label}"
        features = self.does.validate(run, partition, extracted, share)
        yield f"validate {partition.label}"
        if run.steps:
            for step in self.pipeline.steps:
                features = self.does.add_step(run, features, step)
            scored = self.does.decide(run, partition, features, share)
        else:
            scored = self.does.score(run, partition, features, share)
        yield f"score {partition.label}"
        receipt = self.does.load(run, partition, scored, {})
        yield f"load {partition.label}"
        results = []
        for each in run.challengers if not scored.halts else ():
            score = partial(self.does.score_challenger, each, partition, features, scored.table.schema, share)
            results.append(try_challenger(each, score))
            yield f"challenger {each.model} {partition.label}"
        receipts.append(replace(receipt, challengers=tuple(results)))


def lapse_leases(warehouse: Database) -> None:
    """End the leases of all runs and of all targets of deliveries, as time would."""
    if not has_ledger(warehouse):
        return
    with warehouse.writing() as connection:
        past = datetime(2000, 1, 1, tzinfo=UTC)
        connection.execute(sa.update(runs).where(runs.c.state == "running").values(lease_until=past))
        taken = delivery_targets.c.lease_token.is_not(None)
        connection.execute(sa.update(delivery_targets).where(taken).values(lease_until=past))
