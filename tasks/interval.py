"""The tasks of one interval's run, before and after its partitions. Each calls one of the `ScoringSteps`."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING

from prefect import get_run_logger, task

from penstock.ledger.writer import Publication
from penstock.resources.usage import Usage
from penstock.run.extract import land_logs
from penstock.run.planning import Mode, Plan, PlannedInterval
from penstock.run_types import NO_CHALLENGERS, Challengers, ChosenRows, ModelPin, Pins, Receipt, ScoringRun, SourcePlan
from penstock.sources.logs.landing import Landing
from penstock.spec.pipeline import Pipeline
from penstock.spec.steps import ModelRef, choose_models
from penstock.tasks.ledger_record import open_ledger
from penstock.tasks.process_resources import connector, registry, scoring_steps, settings
from penstock.tasks.retries import RETRIED, RETRIED_LONGER

if TYPE_CHECKING:
    from penstock.run.audit import AuditResult
    from penstock.run.explained_rows import ReasonCounts


@task(name="resolve-model", task_run_name="resolve {ref}", **RETRIED)
def resolve_model(ref: ModelRef) -> ModelPin:
    """Resolve the alias once. The version is pinned for the whole flow."""
    return registry().resolve(ref)


def resolve_models(pipeline: Pipeline, choice: str = "") -> Pins:
    """Pin a version of each step's model, the spec's or the one chosen for this flow.

    Raises:
        SettingsError: the choice names no step.
    """
    return {step: resolve_model(ref) for step, ref in choose_models(pipeline.steps, choice).items()}


@task(name="collect-logs", task_run_name="collect logs", **RETRIED)
def collect_logs(pipeline: Pipeline) -> dict[str, Landing]:
    """Land the log lines that are new since the committed offsets.

    Raises:
        LedgerLost: the project has had a ledger, and the warehouse has none or another one; not retried.
    """
    open_ledger(pipeline)
    landed = land_logs(pipeline, connector())
    for name, landing in landed.items():
        for file in landing.set_aside:
            get_run_logger().warning("source `%s`: %s is set aside: %s", name, file.path, file.reason)
        if landing.waiting:
            get_run_logger().info("source `%s`: the last lines of %d files wait for their end", name, landing.waiting)
    return landed


@task(name="plan", task_run_name="plan", **RETRIED)
def plan(
    pipeline: Pipeline, now: datetime, mode: Mode, start: datetime | None, end: datetime | None, scored_by: str = ""
) -> Plan:
    """Find the intervals to score.

    Raises:
        LedgerLost: the project has had a ledger, and the warehouse has none or another one; not retried.
        Halted: the source cannot be read, because a column is gone or has another type; not retried.
    """
    open_ledger(pipeline)
    unfinished = scoring_steps(pipeline).abandon_dead_runs()
    scoring_steps(pipeline).settle_served()
    found = scoring_steps(pipeline).plan(now, mode, start, end, scored_by)
    for run in unfinished:
        if not found.scores(run.interval):
            get_run_logger().warning("%s", run.describe())
    return found


@task(name="claim", task_run_name="claim {planned.plain_label}", **RETRIED | {"retries": 2})
def claim_interval(
    pipeline: Pipeline,
    planned: PlannedInterval,
    pins: Pins,
    flow_run_id: str | None,
    challengers: Challengers = NO_CHALLENGERS,
) -> ScoringRun | None:
    """Take the interval under a lease. None if another run has published it since the plan.

    If another run has it, and its lease ends within a minute, wait until the lease has ended or was renewed.
    """
    return scoring_steps(pipeline).claim(planned, pins, flow_run_id, get_run_logger().info, challengers)


@task(name="plan-partitions", task_run_name="plan partitions", **RETRIED)
def prepare_partitions(run: ScoringRun, partition_rows: int | None, snapshots: ExitStack | None = None) -> SourcePlan:
    """Compare the sources' columns with their contract, count the interval's rows and cut them into partitions.

    Args:
        snapshots: Keeps a snapshot of each Postgres source open for the partitions. Close it when they are done.

    Raises:
        Halted: a required column is gone or has another type; not retried.
        OverBudget: the estimate exceeds the spec's budget; not retried.
        MemoryTooSmall: not even one small partition fits into PENSTOCK_MEMORY; not retried.
    """
    return scoring_steps(run.pipeline).prepare(run, partition_rows, snapshots, settings().in_one_process)


@task(name="explain", task_run_name="explain", **RETRIED)
def explain_rows(
    run: ScoringRun, receipts: Sequence[Receipt], chosen: ChosenRows, check: Callable[[], None] = lambda: None
) -> "ReasonCounts | None":
    """Make the reasons of the rows that the partitions have kept, and write them in one transaction.

    Args:
        check: Called between blocks of rows. It raises if the run is to end at once.

    Raises:
        NotAdditive: the contributions of a row do not add up to its margin; not retried.
        TakenOver: the lease was lost and another run took over; nothing changes.
    """
    counts = scoring_steps(run.pipeline).explain(run, receipts, chosen, check)
    if counts is not None:
        get_run_logger().info(
            "%s: %d rows explained, %d over the budget", run.label, counts.explained, counts.over_budget
        )
    return counts


@task(name="audit", task_run_name="audit", **RETRIED)
def audit_run(run: ScoringRun, receipts: Sequence[Receipt]) -> "AuditResult":
    """Reconcile the counts, judge the interval as a whole, store the findings.

    Raises:
        ReconciliationFailed: rows are unaccounted for; not retried.
    """
    return scoring_steps(run.pipeline).audit(run, receipts)


@task(name="publish", task_run_name="publish", **RETRIED_LONGER)
def publish_run(run: ScoringRun, result: "AuditResult", usage: Usage | None = None) -> Publication:
    """Make the run's rows the live ones.

    Raises:
        TakenOver: the lease was lost and another run took over; nothing changes.
    """
    return scoring_steps(run.pipeline).publish(run, result, usage)
