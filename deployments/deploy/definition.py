"""Define a pipeline's deployment once, for `penstock deploy` and for `prefect.yaml`."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule, RRuleSchedule
from pydantic import ValidationError

from penstock.deployments.deploy.work_pool import WORK_POOL
from penstock.deployments.worker.process import HEARTBEAT_SECONDS
from penstock.errors import Problem, SpecError
from penstock.interval import iso
from penstock.promotion.specs import PromotingPipelines, group_by_model
from penstock.spec.labels import Labels
from penstock.spec.parts import Schedule, write_duration
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import DeltaSource, FilesSource, IcebergSource, LogSource, Source, SqlSource
from penstock.tasks.deployed import (
    ANY_PIPELINE,
    LABELS_ENTRYPOINT,
    PENSTOCK_TAG,
    PROMOTION_ENTRYPOINT,
    SERVED_ENTRYPOINT,
)

COLLISION = "ENQUEUE"
"""A run waits while another one is running. With `CANCEL_NEW`, a dead worker would stop the schedule permanently."""
GRACE_SECONDS = 120
"""Seconds that a run may take to start before its slot is free again, because the worker may have died."""
FINGERPRINT_LENGTH = 12
SERVED_CRON = "30 3 * * *"
"""When recorded rows are scored again: each night, in the pipeline's time zone."""
ENTER_PROJECT = "penstock.deployments.pull.enter_project"
RECORD_PROJECT = "penstock.deployments.pull.record_project"
OLD_ENTER_PROJECT = "deployments.pull.enter_project"
"""The pull step of deployments that 0.1 made."""
OLD_FLOWS = "flows."
"""The prefix of the entrypoints of deployments that 0.1 made."""


@dataclass(frozen=True)
class Definition:
    """One deployment, without the folder it is deployed from."""

    flow: str
    name: str
    entrypoint: str
    """A module path: the flow is imported from the installed Penstock, because the project folder contains no code."""
    description: str
    version: str
    tags: tuple[str, ...]
    parameters: dict[str, Any] = field(default_factory=dict)
    schedule: SCHEDULE_TYPES | None = None
    active: bool | None = None
    """Whether the schedule starts runs. None: as a person set it on the server, and active in a new deployment."""
    concurrency_limit: int | None = None
    work_pool: str = WORK_POOL
    enforce_parameter_schema: bool = True

    @property
    def full_name(self) -> str:
        """The name that Prefect's command line takes."""
        return f"{self.flow}/{self.name}"

    @property
    def fixed(self) -> dict[str, Any]:
        """The parameters that a person cannot change in the form: the pipeline or the model of the deployment."""
        return {name: value for name, value in self.parameters.items() if name in ("pipeline", "model")}

    @property
    def job_variables(self) -> dict[str, Any]:
        """The values that Penstock sets for the work pool's job template. A person may set others."""
        return {"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS)}}

    @property
    def concurrency_options(self) -> dict[str, Any] | None:
        if self.concurrency_limit is None:
            return None
        return {"collision_strategy": COLLISION, "grace_period_seconds": GRACE_SECONDS}


def define_deployment(pipeline: Pipeline, file: str) -> Definition:
    """Return the deployment of a pipeline. `file` names its spec in errors.

    Raises:
        SpecError: Prefect cannot read the schedule.
    """
    return Definition(
        flow="score",
        name=pipeline.name,
        entrypoint="penstock.flows.score.score",
        description=describe_pipeline(pipeline),
        version=pipeline.fingerprint[:FINGERPRINT_LENGTH],
        tags=(PENSTOCK_TAG, pipeline.name),
        parameters={"pipeline": pipeline.name},
        schedule=None if pipeline.schedule is None else _read_schedule(pipeline.schedule, file),
        active=None if pipeline.schedule is None else pipeline.schedule.active,
        concurrency_limit=1,
    )


def define_pipeline(pipeline: Pipeline, file: str) -> list[Definition]:
    """Return the deployments of a pipeline: those that score, collect its labels, and score recorded rows again."""
    found = [define_deployment(pipeline, file)]
    if pipeline.labels is not None:
        found.append(_define_labels(pipeline, pipeline.labels, file))
    if pipeline.serve is not None and pipeline.serve.record != "off":
        found.append(_define_served(pipeline))
    return found


def _define_served(pipeline: Pipeline) -> Definition:
    what = f"Scores recorded rows of {pipeline.name} again, and compares them with what was served."
    schedule = CronSchedule(cron=SERVED_CRON, timezone=pipeline.timezone)
    return _define_beside(pipeline, "served", SERVED_ENTRYPOINT, what, schedule)


def _define_labels(pipeline: Pipeline, declared: Labels, file: str) -> Definition:
    what = f"Collects the labels of {pipeline.name}, and measures the runs that they belong to."
    defined = _define_beside(pipeline, "labels", LABELS_ENTRYPOINT, what, _read_schedule(declared.schedule, file))
    return replace(defined, active=declared.schedule.active)


def _define_beside(
    pipeline: Pipeline, flow: str, entrypoint: str, description: str, schedule: SCHEDULE_TYPES
) -> Definition:
    """Return a deployment beside the one that scores: another flow, with a schedule of its own."""
    return Definition(
        flow=flow,
        name=pipeline.name,
        entrypoint=entrypoint,
        description=description,
        version=pipeline.fingerprint[:FINGERPRINT_LENGTH],
        tags=(PENSTOCK_TAG, pipeline.name),
        parameters={"pipeline": pipeline.name},
        schedule=schedule,
        concurrency_limit=1,
    )


def define_promotions(pipelines: Iterable[Pipeline], file: str) -> list[Definition]:
    """Return the deployments that promote models, one a model. `file` names the specs in errors.

    Raises:
        PromotionsDiffer: two pipelines say different things about the alias of one model.
        SpecError: Prefect cannot read the schedule.
    """
    return [_define_promotion(each, file) for each in group_by_model(pipelines).values()]


def _define_promotion(promoting: PromotingPipelines, file: str) -> Definition:
    """Return the deployment that promotes a model. Any number of its runs may wait: the ledger has one question."""
    schedule = promoting.promotion.schedule
    return Definition(
        flow="promote",
        name=promoting.model,
        entrypoint=PROMOTION_ENTRYPOINT,
        description=f"Checks whether the challenger of {promoting.model} may get the alias `{promoting.alias}`, and "
        + ("asks a person." if promoting.promotion.approval == "person" else "moves it."),
        version=promoting.fingerprint[:FINGERPRINT_LENGTH],
        tags=(PENSTOCK_TAG, promoting.model),
        parameters={"model": promoting.model},
        schedule=_read_schedule(schedule, file),
        active=schedule.active,
    )


def define_any_pipeline() -> Definition:
    """Return the deployment that scores any pipeline. Backfills start their flow runs from it."""
    return Definition(
        flow="score",
        name=ANY_PIPELINE,
        entrypoint="penstock.flows.score.score",
        description="Scores any pipeline by its name, without schedule or limit. Backfills start their runs from it.",
        version="any",
        tags=(PENSTOCK_TAG,),
    )


def define_backfill() -> Definition:
    """Return the deployment of the backfill flow, for any pipeline and any number of runs at once."""
    return Definition(
        flow="backfill",
        name=ANY_PIPELINE,
        entrypoint="penstock.flows.backfill.backfill",
        description="Scores the missing intervals of a range of any pipeline, each in its own flow run.",
        version="any",
        tags=(PENSTOCK_TAG,),
    )


def pull_steps(folder: str) -> list[dict[str, Any]]:
    """Return the steps that a worker runs before it imports the flow."""
    return [{ENTER_PROJECT: {"folder": folder}}]


def recorded_folder(steps: list[dict[str, Any]] | None) -> str | None:
    """Return the project folder that a deployment on a server was made from."""
    for step in steps or ():
        for name in (ENTER_PROJECT, OLD_ENTER_PROJECT):
            if name in step:
                return str(step[name].get("folder"))
    return None


def is_of_old_version(entrypoint: str | None, steps: list[dict[str, Any]] | None) -> bool:
    """Whether a deployment on a server names its flow or its pull step as 0.1 did."""
    return (entrypoint or "").startswith(OLD_FLOWS) or any(OLD_ENTER_PROJECT in step for step in steps or ())


def describe_pipeline(pipeline: Pipeline) -> str:
    """Return the spec's summary and the path of its rows, as text that the UI shows line by line.

    The UI that Prefect shows by default renders markdown, but no diagrams.
    """
    sources = [(name, _describe_source(source)) for name, source in pipeline.sources.items()]
    steps = [("features", "DuckDB SQL, one row per key")] if pipeline.features else []
    steps += [(step.name, f"model {step.model}") for step in pipeline.steps]
    steps.append(("table", f"{pipeline.destination.connection}: {pipeline.destination.table}"))
    width = max(len(name) for name, _ in (*sources, *steps))
    lines = [f"{name:<{width}}  {what}" for name, what in sources]
    for name, what in steps:
        lines += ["  ↓", f"{name:<{width}}  {what}"]
    head = [pipeline.description] if pipeline.description else []
    return "\n\n".join([*head, _describe_intervals(pipeline), "```text\n" + "\n".join(lines) + "\n```"])


def _describe_source(source: Source) -> str:
    match source:
        case SqlSource():
            return f"{source.connection}: {source.table or 'a query'}"
        case IcebergSource():
            return f"{source.connection}: {source.table}"
        case LogSource() | FilesSource() | DeltaSource():
            return f"{source.kind}: {source.path}"


def _describe_intervals(pipeline: Pipeline) -> str:
    interval = pipeline.interval
    if interval is None:
        return "Each run scores the whole source."
    grain = write_duration(interval.grain) if isinstance(interval.grain, timedelta) else f"1 {interval.grain}"
    where = "" if interval.timezone == "UTC" else f" in {interval.timezone}"
    start, delay = iso(interval.start, interval.timezone), write_duration(interval.delay)
    return f"One run scores all due intervals of {grain}{where}, from {start}, each {delay} after its end."


def _read_schedule(schedule: Schedule, file: str) -> SCHEDULE_TYPES:
    try:
        if schedule.cron is not None:
            return CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
        if schedule.rrule is not None:
            return RRuleSchedule(rrule=schedule.rrule, timezone=schedule.timezone)
        assert schedule.interval is not None  # the spec takes exactly one of the three
        # A fixed anchor, because the default is now and each deploy would move the schedule. Weeks begin on Monday.
        anchor = datetime(2024, 1, 1, tzinfo=ZoneInfo(schedule.timezone))
        return IntervalSchedule(interval=schedule.interval, anchor_date=anchor, timezone=schedule.timezone)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"schedule.{first['loc'][0]}" if first["loc"] else "schedule"
        what = str(first["msg"]).removeprefix("Value error, ")
        raise SpecError(file, (Problem(0, where, what),)) from None
