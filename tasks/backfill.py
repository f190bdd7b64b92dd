"""Read from the ledger which intervals of a backfill's range are missing, running or done."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from prefect import get_run_logger, task
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from penstock.database.connections import close_engines
from penstock.errors import ModelError
from penstock.interval import as_utc
from penstock.ledger.backfills import PinnedBackfill, end_backfills, pin_backfill
from penstock.ledger.coverage import read_coverage
from penstock.ledger.destinations import LIVE, PlacedRun, destination_name, find_overlapping, refuse_others
from penstock.run.extract import source_horizon
from penstock.run.planning import Mode, Plan, PlannedInterval, plan_range
from penstock.run_types import Pins
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import IcebergSource, SqlSource
from penstock.spec.steps import ModelRef, choose_models
from penstock.tasks.ledger_record import open_ledger
from penstock.tasks.process_resources import connect, registry
from penstock.tasks.retries import RETRIED

LOOK_SECONDS = 5.0


@dataclass(frozen=True)
class Backfill:
    """A range of a pipeline's intervals to score."""

    named: str
    """The pipeline's name or path, as entered in the form."""
    pipeline: Pipeline
    start: datetime | None
    end: datetime | None
    now: datetime
    """The time that decides for the whole backfill which intervals are over."""
    restate_since: datetime | None
    """Score again all intervals whose last run is older than this. None: only missing intervals."""

    @property
    def range_in_utc(self) -> tuple[datetime | None, datetime | None]:
        """The range; a moment without a zone is in the pipeline's."""
        start, end = (as_utc(m, self.pipeline.timezone) if m else None for m in (self.start, self.end))
        return start, end

    @property
    def mode(self) -> Mode:
        return "backfill" if self.restate_since is None else "restate"


@task(name="plan-range", **RETRIED)
def plan_backfill(asked: Backfill) -> Plan:
    """Return the intervals of the range that still have to be scored."""
    pipeline = asked.pipeline
    open_ledger(pipeline)
    warehouse = connect(pipeline.destination.connection)
    refuse_others(warehouse, pipeline)
    coverage = read_coverage(warehouse, pipeline)
    horizon = source_horizon(pipeline, connect)
    plan = plan_range(pipeline, coverage, asked.now, asked.start, asked.end, asked.restate_since, horizon)
    close_files(pipeline)  # after the plan, which reads the live runs
    return plan


@task(name="pin-models", **RETRIED)
def pin_models(asked: Backfill) -> PinnedBackfill:
    """Pin the models' versions for the whole backfill, or take those of an unfinished one that it continues."""
    pipeline = asked.pipeline

    def resolve() -> Pins:
        return {step: registry().resolve(ref) for step, ref in choose_models(pipeline.steps).items()}

    pinned = pin_backfill(
        connect(pipeline.destination.connection),
        pipeline,
        str(flow_run.id),
        *asked.range_in_utc,
        restate=asked.restate_since is not None,
        resolve=resolve,
        resolve_challenger=_find_version,
    )
    close_files(pipeline)
    return pinned


def _find_version(ref: ModelRef) -> str | None:
    """Return the version of a challenger as `name@version`. None if there is none: the backfill does without it."""
    try:
        pin = registry().resolve(ref)
    except ModelError as error:
        get_run_logger().warning("challenger %s is not scored: %s", ref, error)
        return None
    return f"{pin.name}@{pin.version}"


@task(name="end-backfill", **RETRIED)
def end_backfill(asked: Backfill) -> None:
    """Record that every interval of the range is published."""
    end_backfills(connect(asked.pipeline.destination.connection), asked.pipeline, *asked.range_in_utc)
    close_files(asked.pipeline)


@task(name="wait-for-others", **RETRIED)
def wait_for_others(pipeline: Pipeline, intervals: Sequence[PlannedInterval]) -> None:
    """Wait until every run that overlaps the intervals has ended, or its lease has expired."""
    wanted = [each.interval for each in intervals]
    while any(run.overlaps(interval) for run in find_busy(pipeline) for interval in wanted):
        time.sleep(LOOK_SECONDS)


def find_busy(pipeline: Pipeline) -> list[PlacedRun]:
    """Return the destination's running runs whose lease has not expired."""
    warehouse = connect(pipeline.destination.connection)
    with warehouse.reading() as connection:
        place = destination_name(connection, pipeline.destination)
        running = find_overlapping(connection, place, LIVE, None, "running")
        now = warehouse.now(connection)
    close_files(pipeline)
    return [run for run in running if run.lease_until > now]


def takes_turns(pipeline: Pipeline) -> bool:
    """Whether runs of the pipeline exclude each other: only one process at a time can open a DuckDB file."""
    names = [s.connection for s in pipeline.sources.values() if isinstance(s, SqlSource | IcebergSource)]
    return any(connect(name).sql.one_process for name in (pipeline.destination.connection, *names))


def close_files(pipeline: Pipeline) -> None:
    """Close DuckDB files, so that the runs that this process waits for can open them."""
    if takes_turns(pipeline):
        close_engines()


def first_start() -> datetime:
    """Return the first start of this flow run, so that a retry continues the same request."""
    with get_client(sync_client=True) as client:
        started = client.read_flow_run(flow_run.id).start_time
    assert started is not None  # it runs
    return as_utc(started)
