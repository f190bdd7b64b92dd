"""Backfill a pipeline: a range of its intervals, each as a flow run of its own on the work pool."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from penstock.spec.yaml_file import find_pipeline_file, load_pipeline
from penstock.tasks.backfill import Backfill, first_start, plan_backfill, takes_turns, wait_for_others
from penstock.tasks.backfill_page import BackfillPage, tell_idle, tell_undone
from penstock.tasks.fan_out import ROUNDS, fanning_out
from penstock.tasks.form import Moment, labelled
from penstock.tasks.naming import backfill_run_name
from penstock.tasks.process_resources import settings


@flow(name="backfill", flow_run_name=backfill_run_name, persist_result=False)
def backfill(
    pipeline: Annotated[str, labelled("Pipeline")],
    start: Annotated[Moment, labelled("Begin of the range")] = "",
    end: Annotated[Moment, labelled("End of the range")] = "",
    parallel: Annotated[int, Field(ge=1, le=64), labelled("Intervals at once")] = 2,
    restate: Annotated[bool, labelled("Restate")] = False,
) -> State[object]:
    """Score what a range lacks, each interval in a flow run of its own; asked again, it goes on where it stopped.

    Args:
        pipeline: Name in the pipelines folder, or path of a YAML file.
        start: 2026-01-31 or 2026-01-31T06:00, UTC; empty: from the pipeline's own start.
        end: 2026-01-31 or 2026-01-31T06:00, UTC, not included; empty: until now.
        parallel: Flow runs in flight at most; the workers must have room for them, and for this one.
        restate: Score published intervals of the range again too; needs start and end.
    """
    now, logger = datetime.now(UTC), get_run_logger()
    spec = load_pipeline(find_pipeline_file(pipeline, Path(settings().pipelines)))
    asked = Backfill(pipeline, spec, start or None, end or None, now, first_start() if restate else None)
    todo = plan_backfill(asked)
    if not todo.intervals:
        return Completed(name="Skipped", message=tell_idle(asked, todo))
    if parallel > 1 and takes_turns(spec):
        logger.warning("DuckDB lets one process at a time open a file: one interval at a time, not %d", parallel)
        parallel = 1
    with fanning_out(asked, logger) as fan_out:
        board = BackfillPage(asked, todo.intervals)
        left = undone = todo.intervals
        for _ in range(ROUNDS):
            for obstacle in fan_out.score(left, parallel):
                board.show(fan_out, obstacle)
            undone = plan_backfill(asked).intervals
            left = fan_out.list_skipped(undone)
            if not left:
                break
            logger.info("%d intervals are held by other runs: waiting for these", len(left))
            wait_for_others(spec, left)
    if undone:
        halted = all(fan_out.was_halted(each) for each in undone)
        message = tell_undone(asked, undone, len(todo.intervals), fan_out)
        return Failed(name="Halted" if halted else "Failed", message=message)
    waiting = f"; {todo.stall}" if todo.stall else ""
    return Completed(message=f"{len(todo.intervals)} intervals published{waiting}")
