"""Score a pipeline: the order of the steps. The steps themselves are in `tasks` and below."""

from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from prefect import flow, get_run_logger, tags
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled

from penstock.errors import Halted, IntervalBusy, IntervalCancelled, PenstockError
from penstock.ledger.run_lease import describe_error, end_claimed_run, run_lease
from penstock.resources.free_memory import freeze_libraries
from penstock.run.plan_notes import describe_range
from penstock.run.planning import PlannedInterval
from penstock.run_types import NO_CHALLENGERS, Challengers, ChosenRows, Pins
from penstock.spec.pipeline import Pipeline
from penstock.tasks.artifacts import Progress, describe_ended, report, show_plan, show_summary
from penstock.tasks.asked import read_asked_score
from penstock.tasks.cancellation import settle_cancelled, watching_cancel
from penstock.tasks.challengers import conclude_challengers, resolve_challengers
from penstock.tasks.conclusion import conclude
from penstock.tasks.deliveries import deliver_live
from penstock.tasks.events import announce, announce_drift, announce_halt, end_score
from penstock.tasks.flow_parameters import serialize_without_fastapi
from penstock.tasks.form import (
    IN_CODE,
    ChallengersField,
    DryRunField,
    EndField,
    ModeField,
    ModelField,
    PipelineField,
    RowsField,
    SandboxField,
    ScoredByField,
    StartField,
)
from penstock.tasks.heartbeat import end_without_waiting
from penstock.tasks.inputs import whole
from penstock.tasks.interval import (
    audit_run,
    claim_interval,
    collect_logs,
    explain_rows,
    plan,
    prepare_partitions,
    publish_run,
    resolve_models,
)
from penstock.tasks.naming import flow_run_name
from penstock.tasks.outcome import describe_halt, failed, halted, planned, published, skipped
from penstock.tasks.partitions import score_partitions
from penstock.tasks.process_resources import connect, settings
from penstock.tasks.retries import must_read_again
from penstock.tasks.runners import connected_runner, in_flight
from penstock.tasks.status_page import show_status
from penstock.tasks.subflow import prepare_subflow, shared_client
from penstock.tasks.warm_up import warm_up
from penstock.wording import plural

end_without_waiting()  # here, because Prefect starts a flow run's heartbeat before it calls the flow


@flow(name="score", flow_run_name=flow_run_name, persist_result=False, validate_parameters=False)
def score(
    pipeline: PipelineField,
    mode: ModeField = "due",
    start: StartField = "",
    end: EndField = "",
    model: ModelField = "",
    partition_rows: RowsField = 0,
    dry_run: DryRunField = False,
    scored_by: ScoredByField = "",
    sandbox: SandboxField = "",
    challengers: ChallengersField = "",
) -> State[object]:
    """Score the due intervals of a pipeline.

    Args:
        pipeline: Name in the pipelines folder, or path of a YAML file.
        mode: due = missing intervals and those that late rows changed; backfill = missing intervals of a range;
            restate = every interval that the range touches, again; release = intervals with rows released from
            quarantine.
        start: 2026-01-31 or 2026-01-31T06:00, in the pipeline's time zone unless it ends in Z or an offset as +02:00.
            Empty: from the pipeline's own start. A restate scores every interval that the range touches, as a whole.
        end: 2026-01-31 or 2026-01-31T06:00, not included, in the same zone. Empty: until now. A restate needs both.
        model: name@alias or name@version, as in card-risk@champion. With several models: step=name@version, separated
            by commas. Empty: the pipeline's own.
        partition_rows: Smaller partitions need less memory; 0: the pipeline's own.
        dry_run: Show what would be scored, as an artifact, and score nothing.
        scored_by: name/version, as in card-risk/3. A restate scores only the intervals that this version scored. Then
            the range may be empty.
        sandbox: Score into the sandbox of this name, beside what readers see, and notify nobody. Start it from
            score/any_pipeline. Empty: no sandbox.
        challengers: The version of each challenger, as card-risk@challenger=card-risk@4, separated by commas. A
            backfill sets them for all of its intervals. Empty: those of now.
    """
    freeze_libraries()
    now, logger = datetime.now(UTC), get_run_logger()
    known: Pipeline | None = None
    try:
        asked = read_asked_score(
            pipeline, mode, start, end, model, partition_rows, dry_run, scored_by, sandbox, challengers
        )
        known = spec = asked.pipeline
        rows = asked.partition_rows
        pins = resolve_models(spec, asked.model)
        beside = resolve_challengers(spec, pins, asked.challengers)
        if any(source.kind == "log" for source in spec.sources.values()):
            collect_logs(whole(spec))
        todo = plan(whole(spec), now, asked.mode, asked.start, asked.end, asked.scored_by)
        notes = [note for note in (describe_range(todo), todo.stall) if note]
        for note in notes:
            logger.warning("%s", note)
        if asked.dry_run:
            show_plan(whole(spec), whole(todo), pins)
            would = f"{plural(len(todo.intervals), 'interval')} would be scored; nothing was"
            return end_score(spec, planned(would))
        if not todo.intervals:
            deliver_live(spec)  # what an earlier run could not, and moves by commands
            show_status(spec)
            return end_score(spec, conclude(todo, []))
        warm_up(spec)
        # The intervals' runs get our tags too, so that the search for dead runs finds them.
        with (
            connected_runner(spec, pins) as task_runner,
            tags(*flow_run.tags),
            watching_cancel() as watch,
            shared_client(),
        ):
            score_one = prepare_subflow(score_interval, task_runner)
            ended = []
            for each in todo.intervals:
                given = (whole(spec), whole(each), whole(pins), rows, whole(beside))
                state = score_one(*given, return_state=True)
                if must_read_again(state):  # all partitions must be read again, in another run
                    state = score_one(*given, return_state=True)
                ended.append((each, settle_cancelled(state, connect(spec.destination.connection))))
                if watch.is_asked:  # a worker would have killed this process
                    break
        if all(state.is_failed() for _, state in ended):  # else an interval has delivered the backlog too
            deliver_live(spec)
        show_summary(whole(spec), notes, describe_ended(ended), now, return_state=True)
        show_status(spec)
        return end_score(spec, conclude(todo, ended))
    except Halted as halt:  # outside an interval: a source cannot be read for the plan
        announce_halt(spec, halt)
        return end_score(spec, halted(halt.describe_reasons(), halt))
    except PenstockError as error:
        logger.error("%s", error, exc_info=True)
        return end_score(known or pipeline, failed(error), sandbox)
    except Exception as error:  # Prefect ends the flow run as failed, and logs the traceback
        end_score(known or pipeline, failed(error, describe_error(known, error)), sandbox)
        raise


@flow(
    name="score-interval",
    flow_run_name="{pipeline.label} {planned.plain_label}",
    persist_result=False,
    validate_parameters=False,
)
def score_interval(
    pipeline: Annotated[Pipeline, IN_CODE],
    planned: Annotated[PlannedInterval, IN_CODE],
    pins: Annotated[Pins, IN_CODE],
    partition_rows: int | None = None,
    challengers: Annotated[Challengers, IN_CODE] = NO_CHALLENGERS,
) -> State[object]:
    """Score one data interval with one version of each model. Publish it if no gate halts it."""
    logger = get_run_logger()
    warehouse = connect(pipeline.destination.connection)
    try:
        run = claim_interval(whole(pipeline), whole(planned), pins, flow_run.id, whole(challengers))
    except IntervalBusy as busy:
        return skipped(str(busy))
    except PenstockError as error:
        logger.error("%s", error, exc_info=True)
        return failed(error)
    except BaseException as stop:  # a signal, most of all: the run may be claimed, and nothing else would end it
        end_claimed_run(warehouse, pipeline, flow_run.id, stop)
        raise
    if run is None:
        return skipped(f"{planned.label} is published already")
    try:
        with run_lease(warehouse, run, settings().lease_seconds, settings().prices) as active:
            with watching_cancel(run.run_id) as watch, ExitStack() as snapshots:
                source_plan = prepare_partitions(whole(run), partition_rows, whole(snapshots))
                logger.info("%s: %d rows in %d partitions", run.label, source_plan.rows, len(source_plan.partitions))
                if source_plan.fit:
                    logger.info("%s: %s", run.label, source_plan.fit.describe())
                progress, receipts, done = Progress(run.label, source_plan.rows, len(source_plan.partitions)), [], 0
                chosen = ChosenRows()
                share = min(1.0, pipeline.audit_rows / max(source_plan.rows, 1))
                at_once = in_flight(source_plan.fit)
                for receipt in score_partitions(run, source_plan.partitions, at_once, share, watch.check):
                    chosen = chosen.add(receipt.chosen)
                    receipts.append(replace(receipt, chosen=None))
                    for spent in receipt.all_spent:
                        active.meter.add(spent)
                    done += receipt.extracted
                    progress.show(done)
                    active.check()
            if pipeline.reasons is not None:
                explain_rows(whole(run), whole(receipts), whole(chosen), whole(watch.check))
            result = audit_run(whole(run), whole(receipts))
            active.totals, active.quantiles = result.totals, result.score_quantiles
            announce_drift(run, result.new_alarms)
            if result.halts:
                raise Halted(pipeline.name, planned.label, result.halts)
            active.check()
            watch.check()
            publication = publish_run(whole(run), whole(result), active.meter.read())
            logger.info("%s: %s", run.label, publication.describe(result.totals.scored))
            conclude_challengers(run, receipts)
        deliver_live(pipeline)
    except Halted as halt:
        report(whole(run), return_state=True)
        announce(run, "halted", str(halt))
        return halted(describe_halt(halt), halt)
    except IntervalCancelled as cancelled:
        report(whole(run), return_state=True)
        return Cancelled(message=str(cancelled))
    except Exception as error:  # whatever it is, the run gets its card and its event
        logger.error("%s", describe_error(pipeline, error), exc_info=True)
        report(whole(run), return_state=True)
        announce(run, "failed", describe_error(pipeline, error))
        return failed(error, describe_error(pipeline, error))
    report(whole(run), return_state=True)
    if not publication.waits_to_cover:
        announce(run, "published", f"{plural(result.totals.scored, 'score')} published", result.totals)
    return published(publication.describe(result.totals.scored))


for each in (score, score_interval):
    serialize_without_fastapi(each)
