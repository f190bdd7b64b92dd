"""The steps of one interval's run, around its partitions."""

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from prefect import task

from penstock.errors import SourceError
from penstock.ledger import writer
from penstock.ledger.reader import find_run, settled_intervals
from penstock.ledger.releases import pending_releases
from penstock.models.needs import needed_columns
from penstock.resources.memory import MemoryPlan
from penstock.resources.usage import Usage
from penstock.run.budget import keep_budget
from penstock.run.extract import count_malformed, land_logs, plan_partitions, source_fingerprint, source_horizon
from penstock.run.load import count_rows
from penstock.run.planning import Mode, Plan, PlannedInterval, PlanRequest, plan_intervals
from penstock.run.schema_contract import compare_sources, keep_contract, refuse_breaks
from penstock.run_types import ModelPin, Pins, Receipt, ScoringRun, SourcePlan, deciding_model
from penstock.sources.logs.landed import Landing
from penstock.spec.pipeline import Pipeline
from penstock.spec.steps import ModelRef, choose_models
from penstock.tasks.memory import fit_memory
from penstock.tasks.process_resources import connect, masking, registry, settings
from penstock.tasks.retries import ONCE, RETRIED

if TYPE_CHECKING:
    from penstock.run.audit import AuditResult


@task(name="resolve-model", task_run_name="resolve {ref}", **ONCE)
def resolve_model(ref: ModelRef) -> ModelPin:
    """Resolve the alias once; the version is pinned for the whole flow."""
    return registry().resolve(ref)


def resolve_models(pipeline: Pipeline, choice: str = "") -> Pins:
    """Pin a version of each step's model, the spec's own or the one chosen for this flow.

    Raises:
        SettingsError: the choice names no step.
    """
    return {step: resolve_model(ref) for step, ref in choose_models(pipeline.steps, choice).items()}


@task(name="collect-logs", task_run_name="collect logs", **RETRIED)
def collect_logs(pipeline: Pipeline) -> dict[str, Landing]:
    """Land the log lines that are new since the committed offsets."""
    return land_logs(pipeline, connect)


@task(name="plan", task_run_name="plan", **RETRIED)
def plan(pipeline: Pipeline, now: datetime, mode: Mode, start: datetime | None, end: datetime | None) -> Plan:
    """Find the intervals to score.

    Raises:
        Halted: the source cannot be looked at, because a column has gone or changed its type; not retried.
    """
    horizon = source_horizon(pipeline, connect)  # before any rows are looked at
    warehouse, hidden = connect(pipeline.destination.connection), masking(pipeline)
    settled, released = settled_intervals(warehouse, pipeline.name), pending_releases(warehouse, pipeline.name)
    seen = partial(source_fingerprint, pipeline, connect=connect, masking=hidden)
    try:
        request = PlanRequest(pipeline, settled, now, seen, mode, start, end, released=released, horizon=horizon)
        return plan_intervals(request)
    except SourceError:
        refuse_breaks(pipeline, None, list(compare_sources(pipeline, None, connect, ())))
        raise


@task(name="claim", task_run_name="claim {planned.label}", **RETRIED | {"retries": 2})
def claim_interval(
    pipeline: Pipeline, planned: PlannedInterval, pins: Pins, flow_run_id: str | None
) -> ScoringRun | None:
    """Take the interval under a lease; None where it is published meanwhile."""
    request = writer.ClaimRequest(
        pipeline,
        planned.interval,
        deciding_model(pins),
        planned.reason,
        settings().lease_seconds,
        again=planned.again,
        flow_run_id=flow_run_id,
        steps=pins if pipeline.models else {},
    )
    return writer.claim(connect(pipeline.destination.connection), request)


@task(name="plan-partitions", task_run_name="plan partitions", **RETRIED)
def prepare_partitions(run: ScoringRun, partition_rows: int | None, snapshots: ExitStack | None = None) -> SourcePlan:
    """Compare the sources' columns with their contract; count the interval's rows, cut them, store what was seen.

    Args:
        snapshots: keeps one moment of each Postgres source still for the partitions; close it when they are done.

    Raises:
        Halted: a column that is needed has gone, or changed its type; not retried.
        OverBudget: the run would take more than the spec allows; not retried.
        MemoryTooSmall: not even one small partition fits into PENSTOCK_MEMORY; not retried.
    """
    pins = run.steps or {run.pipeline.steps[0].name: run.model}
    manifests = {step: registry().manifest(pin.name, pin.version) for step, pin in pins.items()}
    keep_contract(run, connect, needed_columns(run.pipeline, manifests))
    warehouse = connect(run.pipeline.destination.connection)

    def consider(source_plan: SourcePlan, at_most: int) -> MemoryPlan | None:
        writer.record_plan(warehouse, run, source_plan)
        keep_budget(run, source_plan.rows, warehouse, settings().prices)
        return fit_memory(run, source_plan.rows, at_most)

    source_plan = plan_partitions(run, connect, masking(run.pipeline), partition_rows, snapshots, consider)
    if source_plan.fit:
        writer.record_plan(warehouse, run, source_plan)
    return source_plan


@task(name="audit", task_run_name="audit", **RETRIED)
def audit_run(run: ScoringRun, receipts: Sequence[Receipt]) -> "AuditResult":
    """Reconcile the counts, judge the interval as a whole, store what was found.

    Raises:
        ReconciliationFailed: rows are unaccounted for; not retried.
    """
    from penstock.run.audit import audit_interval  # not above: it brings pandas along

    warehouse = connect(run.pipeline.destination.connection)
    malformed = count_malformed(run.pipeline, run.interval, connect)
    planned = find_run(warehouse, run.run_id).rows_planned
    result = audit_interval(run, receipts, count_rows(warehouse, run), malformed, planned)
    writer.record_validations(warehouse, run, result.validations)
    return result


@task(name="publish", task_run_name="publish", **RETRIED | {"retries": 8})
def publish_run(run: ScoringRun, result: "AuditResult", usage: Usage | None = None) -> str | None:
    """Make the run's rows the live ones.

    Raises:
        TakenOver: the lease was lost and another run took over; nothing changes.
    """
    warehouse = connect(run.pipeline.destination.connection)
    return writer.publish(warehouse, run, result.totals, result.score_quantiles, usage)
