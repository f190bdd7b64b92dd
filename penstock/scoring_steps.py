"""The steps of a run, one function each. Prefect tasks, the Python face and the tests' driver call them."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING

from penstock.database.connections import Connector, Database
from penstock.errors import Halted, IntervalBusy, SourceError
from penstock.interval import DataInterval
from penstock.ledger import claims, writer
from penstock.ledger.coverage import read_coverage
from penstock.ledger.dead_runs import UnfinishedRun, abandon_dead_runs, find_unfinished
from penstock.ledger.destinations import refuse_others
from penstock.ledger.known_ledgers import KnownLedger, open_ledger, refuse_lost
from penstock.ledger.lease_wait import wait_for_lease
from penstock.ledger.reader import RunRecord, find_run, has_published, split_by_state
from penstock.ledger.releases import pending_releases
from penstock.ledger.run_lease import ActiveRun, run_lease
from penstock.ledger.schema_contracts import Contracts, read_contracts, read_published_models
from penstock.ledger.served_spool import settle_before_run
from penstock.models.manifest import Manifest
from penstock.models.needs import given_columns, needed_columns, outputs_of
from penstock.models.registry import Registry
from penstock.privacy.masking import MaskingPolicy
from penstock.privacy.secret_keys import KeyRing
from penstock.resources.free_memory import return_large_blocks
from penstock.resources.memory import MemoryPlan, RequestedLoad
from penstock.resources.usage import PartitionMeter, Usage
from penstock.run.budget import keep_budget
from penstock.run.challenger_ends import ChallengerEnd, finish_challenger
from penstock.run.challengers import note_left_out, refuse_other_columns, results_of, take_share
from penstock.run.doubled_keys import find_doubled_keys
from penstock.run.extract import (
    count_malformed,
    describe_logs,
    extract_partition,
    plan_partitions,
    possible_fingerprints,
    refuse_changed_rows,
    source_horizon,
)
from penstock.run.load import count_rows, load_partition
from penstock.run.partition_options import PartitionOptions
from penstock.run.planning import Mode, Plan, PlannedInterval, PlanRequest, plan_intervals
from penstock.run.sandbox_check import check_sandbox
from penstock.run.schema_contract import Comparison, compare_outputs, compare_sources, keep_contract, refuse_breaks
from penstock.run_types import (
    NO_CHALLENGERS,
    Challengers,
    ChosenRows,
    ExtractedRows,
    Features,
    Partition,
    Pins,
    Receipt,
    ScoredRows,
    ScoringRun,
    SourcePlan,
    Verdict,
    deciding_model,
    pin_challengers,
)
from penstock.seals.keys import read_seal_keys
from penstock.seals.stored import record_root, require_newest_key
from penstock.settings import Settings
from penstock.sources import fix_versions
from penstock.sources.text.staged_folders import remove_ended, remove_folder, staged_runs
from penstock.spec.pipeline import Pipeline
from penstock.spec.steps import ScoreStep

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.delivery.deliver import Delivered
    from penstock.run.audit import AuditResult
    from penstock.run.drift import DriftResult
    from penstock.run.explained_rows import ReasonCounts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoringSteps:
    """The steps of one pipeline's runs, with their settings, connections and models.

    The order of the steps is in `flows/score.py`, and for runs without Prefect in `penstock.api.scoring`.
    """

    pipeline: Pipeline
    settings: Settings
    connect: Connector
    registry: Registry
    masking: MaskingPolicy

    @property
    def warehouse(self) -> Database:
        return self.connect(self.pipeline.destination.connection)

    @cached_property
    def seal_keys(self) -> KeyRing | None:
        """The keys of the seals. None if the pipeline's rows are not sealed.

        Raises:
            SettingsError: the key is not set, or too short.
        """
        return read_seal_keys(self.settings, f"`{self.pipeline.name}` seals its rows") if self.pipeline.seal else None

    def options(self, sample_share: float = 1.0) -> PartitionOptions:
        """Return the options of this process for validating and scoring a partition."""
        return PartitionOptions(self.masking, self.settings.statement_seconds, sample_share)

    def open_ledger(self, recorded: Sequence[KnownLedger] = ()) -> KnownLedger:
        """Make the ledger where the project has never had one, and bring it up to this version.

        Args:
            recorded: What the Prefect server knows of it, for a deployed pipeline.

        Raises:
            LedgerLost: the project has had a ledger, and this is none or another one.
        """
        return open_ledger(self.warehouse, self.settings.home, recorded)

    def plan(
        self, now: datetime, mode: Mode, start: datetime | None, end: datetime | None, scored_by: str = ""
    ) -> Plan:
        """Decide which intervals to score. The ledger need not exist.

        Args:
            scored_by: In mode `restate`: take only intervals whose live run this version scored, as `name/version`.

        Raises:
            LedgerLost: the project has had a ledger, and this is none or another one.
            DestinationTaken: the destination belongs to another pipeline.
            SandboxRefused: a sandbox's spec has another name than the pipeline beside it, or no lines are landed.
            DestinationDisputed: live runs of the destination overlap.
            OverlappingRuns: an interval overlaps published runs that the plan does not cover.
            Halted: the source cannot be read, because a column is gone or has another type.
        """
        pipeline, connect = self.pipeline, self.connect
        refuse_lost(self.warehouse, self.settings.home)
        horizon = source_horizon(pipeline, connect)  # before any rows are read
        refuse_others(self.warehouse, pipeline)
        if pipeline.is_sandbox:
            check_sandbox(self.warehouse, pipeline)
        coverage = read_coverage(self.warehouse, pipeline)
        released = {} if pipeline.is_sandbox else pending_releases(self.warehouse, pipeline.name)

        def seen(interval: DataInterval) -> str:
            """Return the fingerprint, in the form in which a live run of the interval has it."""
            forms = possible_fingerprints(pipeline, interval, connect, self.masking)
            stored = {run.source_fingerprint for run in coverage.find_live(interval)}
            return next((form for form in forms if form in stored), forms[0])

        try:
            request = PlanRequest(pipeline, coverage, now, seen, mode, start, end, scored_by)
            found = plan_intervals(replace(request, released=released, horizon=horizon))
        except SourceError:
            contracts = read_contracts(self.warehouse, pipeline.name)
            refuse_breaks(pipeline, None, list(compare_sources(pipeline, None, connect, (), contracts)))
            raise
        return replace(found, passed_over=0) if pipeline.is_sandbox else found

    def abandon_dead_runs(self) -> list[UnfinishedRun]:
        """Mark the pipeline's runs whose lease has ended as abandoned. Return those that a person must start again."""
        abandon_dead_runs(self.warehouse, self.pipeline.name)
        if self.pipeline.is_sandbox:
            return []
        return find_unfinished(self.warehouse, self.pipeline.name)

    def settle_served(self) -> None:
        """Take in what servers on this machine have recorded, and end the recorded runs of dead servers."""
        if not self.pipeline.is_sandbox:
            settle_before_run(self.warehouse, self.settings.home, self.pipeline)

    def pin_challengers(self, pins: Pins) -> Challengers:
        """Pin a version of each challenger of the spec. One that cannot be found is left out."""
        return pin_challengers(self.pipeline.challengers, deciding_model(pins), self.registry.resolve)

    def claim(
        self,
        planned: PlannedInterval,
        pins: Pins,
        flow_run_id: str | None = None,
        log: Callable[[str], None] = logger.warning,
        challengers: Challengers = NO_CHALLENGERS,
    ) -> ScoringRun | None:
        """Take an interval under a lease. None if another run has published it since the plan.

        If another run has it, and its lease ends within a minute, wait until the lease has ended or was renewed.

        Args:
            log: Writes what is waited for.
            challengers: Versions that score the same rows, each in a run of its own.

        Raises:
            IntervalBusy: another run holds it.
            LedgerLost: the ledger has gone since the plan.
        """
        self.open_ledger()
        request = claims.ClaimRequest(
            self.pipeline,
            planned.interval,
            deciding_model(pins),
            planned.reason,
            self.settings.lease_seconds,
            again=planned.again,
            flow_run_id=flow_run_id,
            steps=pins if self.pipeline.models else {},
            challengers=challengers,
        )
        try:
            return claims.claim(self.warehouse, request)
        except IntervalBusy as busy:
            if not wait_for_lease(self.warehouse, busy.run_id, log):
                raise
        return claims.claim(self.warehouse, request)

    def lease(self, run: ScoringRun) -> AbstractContextManager[ActiveRun]:
        """Keep a claimed run's lease. An error in the block ends the run as halted or failed."""
        return run_lease(self.warehouse, run, self.settings.lease_seconds, self.settings.prices)

    def prepare(
        self, run: ScoringRun, partition_rows: int | None, snapshots: ExitStack | None, in_flight: int = 1
    ) -> SourcePlan:
        """Compare the sources' columns with their contract, count the interval's rows and cut them into partitions.

        Args:
            snapshots: Keeps a snapshot of each Postgres source open for the partitions. Close it when they are done.
            in_flight: Most partitions of a process at once.

        Raises:
            Halted: a required column is gone or has another type, or a value of `partition_by` has too many rows.
            OverBudget: the estimate exceeds the spec's budget.
            MemoryTooSmall: not even one small partition fits into PENSTOCK_MEMORY.
        """
        manifests = self._read_manifests(run)
        connect = self.connect.of_run(run.run_id)
        self._remove_staged()
        if snapshots is not None and connect.run_folder is not None:
            snapshots.callback(remove_folder, connect.run_folder)
        self._check_seal_keys(run)
        connect = fix_versions(self.pipeline, connect)
        self._check_reasons(manifests)
        contracts = read_contracts(self.warehouse, self.pipeline.name)
        self._check_drift(manifests)
        outputs = self.compare_outputs(manifests, contracts)
        try:
            keep_contract(run, connect, needed_columns(self.pipeline, manifests), contracts, outputs)
        except Halted:
            from penstock.run.file_refusals import keep_malformed  # not above: it imports pandas

            keep_malformed(run, connect, self.masking)
            raise

        def consider(source_plan: SourcePlan, at_most: int) -> MemoryPlan | None:
            writer.record_plan(self.warehouse, run, source_plan)
            keep_budget(run, source_plan.rows, self.warehouse, self.settings.prices)
            return self._fit_memory(run, connect, source_plan, at_most, in_flight)

        source_plan = plan_partitions(run, connect, self.masking, partition_rows, snapshots, consider)
        if source_plan.fit:
            writer.record_plan(self.warehouse, run, source_plan)
        if source_plan.partitions and not has_published(self.warehouse, self.pipeline):
            first, *rest = source_plan.partitions
            source_plan = replace(source_plan, partitions=(replace(first, compare_cut=True), *rest))
        return source_plan

    def _check_seal_keys(self, run: ScoringRun) -> None:
        """Refuse keys of seals that are not those of the rows before, so that a wrong key is found before it is used.

        Raises:
            SettingsError: the key is not set, or too short.
            SealKeyUnknown: the newest sealed rows have another key.
        """
        if self.seal_keys is not None:
            require_newest_key(self.warehouse, self.pipeline.name, run.variant, self.seal_keys)

    def _check_reasons(self, manifests: Mapping[str, Manifest]) -> None:
        """Check the texts of `reasons` against the deciding model.

        Raises:
            SettingsError: a text is for a feature that the model does not have.
        """
        if self.pipeline.reasons is not None:
            from penstock.explain.reasons import check_texts

            check_texts(self.pipeline, manifests[self.pipeline.steps[-1].name])

    def _check_drift(self, manifests: Mapping[str, Manifest]) -> None:
        """Refuse a `drift` that the audit could not judge, before rows are read.

        Raises:
            DriftRefused: the model version has no reference, or not a column that is watched.
            RunNotFound: the run to compare with is not in the ledger.
        """
        from penstock.models.profile import find_drift_bins

        drift = self.pipeline.drift
        find_drift_bins(self.pipeline, manifests)
        if drift and drift.names_run:
            find_run(self.warehouse, drift.against)

    def _remove_staged(self) -> None:
        """Remove the staged files of runs that have ended, for example because their process died."""
        staging = self.connect.staging
        if staging is not None and (staged := staged_runs(staging)):
            remove_ended(staging, *split_by_state(self.warehouse, staged))

    def compare_outputs(self, manifests: Mapping[str, Manifest], contracts: Contracts) -> Comparison:
        """Compare the outputs of models and decisions with those of the last published run.

        Args:
            manifests: by step.
        """
        pipeline = self.pipeline

        def read_before() -> dict[str, str] | None:
            pins = read_published_models(self.warehouse, pipeline.name, pipeline.destination.table)
            return outputs_of(pins, self.registry)

        return compare_outputs(pipeline, contracts, given_columns(pipeline, manifests), read_before)

    def _fit_memory(
        self, run: ScoringRun, connect: Connector, source_plan: SourcePlan, partition_rows: int, in_flight: int
    ) -> MemoryPlan | None:
        limit, rows = self.settings.memory, source_plan.rows
        if limit is None or not rows:
            return None
        from penstock.models.memory_profile import SampleRun, fit_memory  # not above: it imports pandas

        return_large_blocks()  # before the rows are measured, which are then read in the same way
        group = source_plan.largest_group.rows if source_plan.largest_group else 0
        counts = (rows, partition_rows, in_flight, self.pipeline.audit_rows, group, self._limit_reasons(run))
        requested = RequestedLoad(self.pipeline.name, *counts)
        return fit_memory(SampleRun(run, connect, self.registry, self.options()), limit, requested)

    def _limit_reasons(self, run: ScoringRun) -> int:
        """Return how many rows the budget of `reasons` explains."""
        if self.pipeline.reasons is None:
            return 0
        from penstock.explain.budget import limit_rows

        return limit_rows(self.pipeline.reasons, self.registry.load(run.model).explained_row_seconds)

    def extract(self, run: ScoringRun, partition: Partition) -> ExtractedRows:
        """Read one slice of the primary source, and the other sources' rows."""
        if self.settings.memory is not None:
            return_large_blocks()
        return extract_partition(run, partition, self.connect.of_run(run.run_id))

    def validate(
        self, run: ScoringRun, partition: Partition, extracted: ExtractedRows, sample_share: float
    ) -> Features:
        """Validate the rows, build the features, validate those.

        Raises:
            Halted: the key is not unique.
        """
        from penstock.run.file_refusals import add_rows_of_files
        from penstock.run.validate import validate_partition

        features = validate_partition(run, partition, extracted, self.options(sample_share))
        return add_rows_of_files(features, self.pipeline, self.masking, partition, extracted)

    def score(self, run: ScoringRun, partition: Partition, features: Features, sample_share: float) -> ScoredRows:
        """Score one validated partition with the run's pinned model version.

        Raises:
            ModelMismatch: the batch lacks a feature of the manifest.
            ModelRefused: the model file is not what its manifest says.
        """
        from penstock.models.scoring import score_features

        model, options = self.registry.load(run.model), self.options(sample_share)
        return self._add_chosen(run, score_features(run, partition, features, model, options))

    def _add_chosen(self, run: ScoringRun, scored: ScoredRows) -> ScoredRows:
        """Add the rows that get reasons, if the pipeline asks for them."""
        if run.pipeline.reasons is None:
            return scored
        from penstock.explain.choice import add_chosen

        return add_chosen(run, scored, self.registry.load(run.model), self.options())

    def add_step(self, run: ScoringRun, features: Features, step: ScoreStep) -> Features:
        """Add the outputs of one of several models to the partition's rows.

        Raises:
            ModelMismatch: a column that the model takes is missing.
            ExpressionError: the step's condition cannot be evaluated.
        """
        from penstock.models.chain import score_step

        return score_step(self.pipeline, features, step, self.registry.load(run.steps[step.name]), self.options())

    def decide(self, run: ScoringRun, partition: Partition, features: Features, sample_share: float) -> ScoredRows:
        """Evaluate `decide:` on the steps' outputs, and validate the result.

        Raises:
            ExpressionError: a decision cannot be evaluated.
        """
        from penstock.models.chain import judge_steps

        return self._add_chosen(run, judge_steps(run, partition, features, self.options(sample_share)))

    def load(
        self,
        run: ScoringRun,
        partition: Partition,
        scored: ScoredRows,
        seconds: dict[str, float],
        attempts: int = 1,
        meter: PartitionMeter | None = None,
    ) -> Receipt:
        """Append the partition's rows to the history table, in one transaction.

        Raises:
            TakenOver: another run holds the interval now.
        """
        return load_partition(self.warehouse, run, partition, scored, seconds, attempts, meter, self.seal_keys)

    def score_challenger(
        self,
        challenger: ScoringRun,
        partition: Partition,
        features: Features,
        champion: "pa.Schema",
        sample_share: float,
    ) -> Receipt:
        """Score the champion's rows of a partition with a challenger, and load the scores in a transaction.

        Args:
            challenger: One of the champion's `challengers`.
            features: What the champion scored.
            champion: The columns of the champion's scores.

        Raises:
            ModelMismatch, ModelRefused: the challenger cannot score these rows.
            DestinationMismatch: its scores have other columns than the champion's.
            TakenOver: its run was given up.
        """
        seconds: dict[str, float] = {}
        meter = PartitionMeter()
        with timed(seconds, "score"):
            rows = take_share(features, self.pipeline.key, challenger.share)
            scored = self.score(challenger, partition, rows, sample_share)
            refuse_other_columns(challenger, champion, scored.table.schema)
        return self.load(challenger, partition, scored, seconds, meter=meter)

    def explain(
        self,
        run: ScoringRun,
        receipts: Sequence[Receipt],
        chosen: ChosenRows,
        check: Callable[[], None] = lambda: None,
    ) -> "ReasonCounts | None":
        """Make the reasons of the run's scores, in one transaction. A second call changes nothing.

        Nothing is done without `reasons`, or for a run that a gate has halted in a partition.

        Args:
            chosen: The chosen rows of all partitions.
            check: Called between blocks of rows. It raises if the run is to end at once.

        Raises:
            NotAdditive: the contributions of a row do not add up to its margin; nothing is written.
            TakenOver: another run holds the interval now; nothing is written.
            ReconciliationFailed: the rows are not those that were loaded; nothing is written.
        """
        if self.pipeline.reasons is None or any(receipt.halts for receipt in receipts):
            return None
        from penstock.explain.run_reasons import explain_run

        load = partial(self.registry.load, run.model)
        return explain_run(self.warehouse, run, chosen, load, self.masking, check)

    def audit(self, run: ScoringRun, receipts: Sequence[Receipt]) -> "AuditResult":
        """Reconcile the counts, judge the interval as a whole, store the findings.

        Raises:
            ReconciliationFailed: rows are unaccounted for.
            SourceChanged: partitions of a database without shared snapshots read different rows.
        """
        from penstock.run.audit import audit_interval  # not above: it imports pandas

        malformed = count_malformed(self.pipeline, run.interval, self.connect)
        notes = describe_logs(self.pipeline, run.interval, self.connect)
        planned = find_run(self.warehouse, run.run_id)
        refuse_changed_rows(run, len(receipts), planned.source_fingerprint, self.connect, self.masking)
        written = count_rows(self.warehouse, run)
        reasons = planned.rows_explained, planned.rows_over_budget
        result = audit_interval(run, receipts, written, malformed, planned.rows_planned, notes, reasons)
        if len(receipts) > 1 and (doubled := find_doubled_keys(self.warehouse, run)):
            result = replace(result, halts=(*result.halts, doubled))
        drift = self._judge_drift(run, planned, receipts)
        if drift is not None:
            halts = (*result.halts, *Verdict(drift.validations).halts)
            validations = (*result.validations, *drift.validations)
            result = replace(result, validations=validations, halts=halts, new_alarms=tuple(drift.new_alarms.values()))
        result = replace(result, validations=(*result.validations, *note_left_out(run)))
        profiles, announced = (drift.profiles, tuple(drift.new_alarms)) if drift else ((), ())
        writer.record_audit(self.warehouse, run, result.validations, profiles, announced)
        self._record_root(run)
        return result

    def _record_root(self, run: ScoringRun) -> None:
        if self.seal_keys is not None:
            record_root(self.warehouse, run, self.seal_keys)

    def _judge_drift(self, run: ScoringRun, planned: RunRecord, receipts: Sequence[Receipt]) -> "DriftResult | None":
        """Judge the drift of a run whose partitions all passed. None if there is nothing to judge."""
        if self.pipeline.drift is None or any(receipt.halts for receipt in receipts):
            return None
        from penstock.models.profile import find_drift_bins
        from penstock.run.drift import judge_drift

        manifests = self._read_manifests(run)
        return judge_drift(self.warehouse, run, planned, receipts, find_drift_bins(self.pipeline, manifests))

    def _read_manifests(self, run: ScoringRun) -> dict[str, Manifest]:
        """Return the manifest of each step's version."""
        pins = run.steps or {self.pipeline.steps[0].name: run.model}
        return {step: self.registry.manifest(pin.name, pin.version) for step, pin in pins.items()}

    def publish(self, run: ScoringRun, result: "AuditResult", usage: Usage | None = None) -> writer.Publication:
        """Make the run's rows the live ones, in place of the runs that its interval covers.

        Raises:
            TakenOver: the lease was lost and another run took over; nothing changes.
        """
        return writer.publish(self.warehouse, run, result.totals, result.score_quantiles, usage)

    def deliver(self, target: str) -> "Delivered":
        """Deliver what is live to a target of `deliver`, as far as the target does not have it.

        Raises:
            NoTarget: the spec has no such target.
            TargetBusy: another process delivers to the target.
            DeliveryTakenOver: another process has taken the target.
            SettingsError: a connection of the target is not set.
            AddressRefused: its address is not one that rows may be sent to.
        """
        from penstock.delivery.opening import deliver_to

        read_value = self.connect.read_value or self.settings.url_of
        given = (read_value, self.masking, self.settings.statement_seconds)
        return deliver_to(self.warehouse, self.pipeline, target, *given)

    def finish_challengers(self, run: ScoringRun, receipts: Sequence[Receipt]) -> tuple[ChallengerEnd, ...]:
        """Judge and publish the challengers' runs of a published champion, each on its own. Raises nothing."""
        return tuple(
            finish_challenger(self.warehouse, each, results_of(receipts, each.run_id), self._record_root)
            for each in run.challengers
        )


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Add the wall seconds of the block under a step's name."""
    begun = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - begun
