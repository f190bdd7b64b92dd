"""Backfill a pipeline: score a range of intervals, each in its own flow run on the work pool."""

from datetime import UTC, datetime

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State

from penstock.errors import PenstockError
from penstock.run.plan_notes import describe_range
from penstock.tasks.asked import read_asked_backfill
from penstock.tasks.backfill import (
    Backfill,
    end_backfill,
    first_start,
    pin_models,
    plan_backfill,
    takes_turns,
    wait_for_others,
)
from penstock.tasks.backfill_page import BackfillPage, conclude_unpublished, describe_nothing_to_do, describe_pins
from penstock.tasks.fan_out import ROUNDS, fanning_out
from penstock.tasks.form import EndField, ParallelField, PipelineField, RestateField, StartField
from penstock.tasks.naming import backfill_run_name
from penstock.tasks.outcome import end_with, failed, published, skipped
from penstock.wording import plural


@flow(name="backfill", flow_run_name=backfill_run_name, persist_result=False, validate_parameters=False)
def backfill(
    pipeline: PipelineField,
    start: StartField = "",
    end: EndField = "",
    parallel: ParallelField = 2,
    restate: RestateField = False,
) -> State[object]:
    """Score the missing intervals of a range, each in its own flow run. Repeat it to continue where it stopped.

    Args:
        pipeline: Name in the pipelines folder, or path of a YAML file.
        start: 2026-01-31 or 2026-01-31T06:00, in the pipeline's time zone unless it ends in Z or an offset as +02:00.
            Empty: from the pipeline's own start. Every interval that the range touches is scored, as a whole.
        end: 2026-01-31 or 2026-01-31T06:00, not included, in the same zone. Empty: until now.
        parallel: Most flow runs at once. The workers must have slots for them and for this one.
        restate: Also score published intervals of the range again. Needs start and end.
    """
    now, logger = datetime.now(UTC), get_run_logger()
    try:
        form = read_asked_backfill(pipeline, start, end, parallel, restate)
        spec, parallel = form.pipeline, form.parallel
        asked = Backfill(form.named, spec, form.start, form.end, now, first_start() if form.restate else None)
        todo = plan_backfill(asked)
        if not todo.intervals:
            end_backfill(asked)
            return end_with(skipped(describe_nothing_to_do(asked, todo)))
        for note in filter(None, (describe_range(todo), todo.stall)):
            logger.warning("%s", note)
        if parallel > 1 and takes_turns(spec):
            why = "only one process at a time can open a DuckDB file"
            logger.warning("one interval at a time, not %d: %s", parallel, why)
            parallel = 1
        pinned = pin_models(asked)
        logger.info("%s", describe_pins(pinned))
        with fanning_out(asked, pinned, logger) as fan_out:
            page = BackfillPage(asked, pinned, todo.intervals)
            left = undone = todo.intervals
            for _ in range(ROUNDS):
                for obstacle in fan_out.score(left, parallel):
                    page.show(fan_out, obstacle)
                undone = plan_backfill(asked).intervals
                left = fan_out.list_skipped(undone)
                if not left:
                    break
                logger.info("waiting for other runs, which are scoring %s", plural(len(left), "interval"))
                wait_for_others(spec, left)
        if undone:
            return end_with(conclude_unpublished(asked, undone, len(todo.intervals), fan_out))
        end_backfill(asked)
        notes = "".join(f"; {note}" for note in (todo.stall, describe_range(todo), describe_pins(pinned)) if note)
        return end_with(published(f"{plural(len(todo.intervals), 'interval')} published{notes}"))
    except PenstockError as error:
        logger.error("%s", error, exc_info=True)
        return end_with(failed(error))
