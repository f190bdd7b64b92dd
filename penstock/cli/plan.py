"""`penstock plan`: show what a run would do, without Prefect and without writing anything."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.arguments import AsJson, End, ModelOption, PipelineName, Restate, ScoredBy, Start, Timezone
from penstock.cli.opening import connector, open_models, open_pipeline, open_settings
from penstock.cli.output import console, count, make_table, write_json
from penstock.errors import MemoryTooSmall, NoFiles

if TYPE_CHECKING:
    from penstock.database.connections import Connector
    from penstock.explain.budget import ReasonsPlan
    from penstock.resources.memory import MemoryPlan, MemoryProfile
    from penstock.run.estimate import Estimate
    from penstock.run.planning import Mode, Plan, PlannedInterval
    from penstock.run_types import Challengers, Pins, SourcePlan
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline


@dataclass(frozen=True)
class IntervalForecast:
    """One interval that a run would score, with its estimate."""

    interval: str
    interval_start: datetime | None
    interval_end: datetime | None
    reason: str
    rows: int | None
    """None if only a run can count them: log lines are not landed yet, or files are missing."""
    partitions: int | None
    problem: str | None
    estimate: "Estimate | None"
    """Time and cost of the run. None if the rows are unknown."""
    over_budget: tuple[str, ...]
    """Each excess over the pipeline's budget. With one, the run would halt."""
    memory: "MemoryPlan | None"
    """The partitions that fit PENSTOCK_MEMORY. None without a limit, or before the first measurement."""
    reasons: "ReasonsPlan | None"
    """What the reasons of the scores cost at most. None if the pipeline asks for none, or if the rows are unknown."""


def add_commands(app: typer.Typer) -> None:
    app.command("plan", epilog="Example: penstock plan card-risk --start 2026-01-01 --end 2026-02-01")(show_plan)


def show_plan(
    pipeline: PipelineName,
    start: Start = None,
    end: End = None,
    restate: Restate = False,
    scored_by: ScoredBy = None,
    model: ModelOption = None,
    partition_rows: Annotated[int | None, typer.Option(min=1, help="Rows of a partition.")] = None,
    timezone: Timezone = None,
    as_json: AsJson = False,
) -> None:
    """Show the intervals that would run now, with rows, partitions, model, time and cost.

    Time and cost are estimated from past runs of the pipeline. The command writes nothing.
    """
    settings = open_settings()
    spec = open_pipeline(pipeline, settings)
    mode = choose_mode(start, end, restate, scored_by)
    if not as_json:
        _print_pause(spec, settings, timezone or settings.timezone)
    print_plan(spec, settings, mode, start, end, model, partition_rows, scored_by, as_json=as_json)
    if not as_json:
        _print_promotion(spec, settings, timezone or settings.timezone)


def _print_promotion(pipeline: "Pipeline", settings: "Settings", zone: str) -> None:
    """Say where the promotion of the pipeline's model stands, if somebody was asked."""
    from penstock.report.promotion_standing import describe_standing, read_standing

    if pipeline.promotion is None:
        return
    standing = read_standing(connector(settings)(pipeline.destination.connection), pipeline, datetime.now(UTC))
    if standing:
        console().print(describe_standing(standing, zone), markup=False, soft_wrap=True)


def _print_pause(pipeline: "Pipeline", settings: "Settings", zone: str) -> None:
    """Say that the schedule is paused, if a Prefect server answers and knows so."""
    from penstock.cli.status import read_states
    from penstock.report.status_sections import describe_pause

    state = read_states(settings, [pipeline]).get(pipeline.name)
    if state and state.pause:
        console().print(f"the schedule is {describe_pause(state.pause, zone)}", style="yellow", markup=False)


def choose_mode(start: datetime | None, end: datetime | None, restate: bool, scored_by: str | None = None) -> "Mode":
    """Return the mode of the options: score what is due, fill a range, or score it again."""
    if scored_by and not restate:
        raise typer.BadParameter("--scored-by goes with --restate")
    if restate:
        if not scored_by and (start is None or end is None):
            raise typer.BadParameter("--restate scores a range again: add --start and --end")
        return "restate"
    return "due" if start is None and end is None else "backfill"


def print_plan(
    pipeline: "Pipeline",
    settings: "Settings",
    mode: "Mode",
    start: datetime | None,
    end: datetime | None,
    model: str | None,
    partition_rows: int | None,
    scored_by: str | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Print what a run would do."""
    from penstock.ledger.coverage import read_live_scores
    from penstock.run.budget import make_estimator
    from penstock.run.estimate import newest_memory_profile
    from penstock.run.plan_notes import describe_replaced

    connect = connector(settings)
    pins = resolve_models(pipeline, settings, model)
    challengers = resolve_challengers(pipeline, settings, pins)
    plan = find_intervals(pipeline, connect, datetime.now(UTC), mode, start, end, scored_by)
    warehouse = connect(pipeline.destination.connection)
    forecaster = _Forecaster(
        make_estimator(pipeline, warehouse, settings.prices),
        settings.memory,
        newest_memory_profile(warehouse, pipeline.name) if settings.memory else None,
        settings.in_one_process,
        _row_seconds(pipeline, pins, settings),
    )
    forecasts = [_forecast(pipeline, planned, connect, partition_rows, forecaster) for planned in plan.intervals]
    again = [planned.interval for planned in plan.intervals if planned.again]
    replaced = read_live_scores(warehouse, pipeline, again)
    if as_json:
        write_json(_as_object(pipeline, pins, challengers, plan, forecasts) | {"replaces": replaced})
        return
    out = console()
    if forecasts:
        from penstock.run.estimate import describe_seconds

        right = ("rows", "partitions", "time")
        table = make_table("interval", "reason", *right, "model", right=right, title=f"{pipeline.label} would score")
        names = ", ".join(map(str, pins.values()))
        for f in forecasts:
            time = describe_seconds(f.estimate.seconds) if f.estimate and f.estimate.seconds is not None else "–"
            table.add_row(f.interval, f.reason, count(f.rows), count(f.partitions), time, names)
        out.print(table)
        for f in forecasts:
            if f.problem:
                out.print(f"  {f.interval}: {f.problem}", style="yellow", markup=False, soft_wrap=True)
            for excess in f.over_budget:
                line = f"  {f.interval}: would halt over budget: {excess}"
                out.print(line, style="red", markup=False, soft_wrap=True)
        for line in _describe_challengers(challengers):
            out.print(line, markup=False, soft_wrap=True)
        out.print(_describe_estimate(forecasts), markup=False)
        if line := _describe_reasons(forecasts):
            out.print(line, markup=False, soft_wrap=True)
        if settings.memory:
            out.print(_describe_memory(forecasts, forecaster.footprint), markup=False)
        if replaced.runs:
            out.print(describe_replaced(replaced), markup=False)
        _print_rest(out.print, plan)
    else:
        from penstock.run.plan_notes import describe_idle

        out.print(describe_idle(plan), markup=False, soft_wrap=True)


def find_intervals(
    pipeline: "Pipeline",
    connect: "Connector",
    now: datetime,
    mode: "Mode",
    start: datetime | None,
    end: datetime | None,
    scored_by: str | None = None,
) -> "Plan":
    """Return the intervals that a run would score at `now`."""
    from penstock.privacy.masking import make_masking
    from penstock.scoring_steps import ScoringSteps
    from penstock.spec.steps import read_version

    settings = open_settings()
    masking, registry = make_masking(pipeline, settings), open_models(settings)
    return ScoringSteps(pipeline, settings, connect, registry, masking).plan(
        now, mode, start, end, read_version(scored_by or "")
    )


def resolve_models(pipeline: "Pipeline", settings: "Settings", model: str | None) -> "Pins":
    """Return the model version that a run would use for each step."""
    from penstock.spec.steps import choose_models

    registry = open_models(settings)
    return {step: registry.resolve(ref) for step, ref in choose_models(pipeline.steps, model or "").items()}


def resolve_challengers(pipeline: "Pipeline", settings: "Settings", pins: "Pins") -> "Challengers":
    """Return the challengers' versions that a run would use."""
    from penstock.run_types import deciding_model, pin_challengers

    return pin_challengers(pipeline.challengers, deciding_model(pins), open_models(settings).resolve)


def _describe_challengers(challengers: "Challengers") -> list[str]:
    """Describe the challengers that would score the same rows, and those that would not, a line each."""
    shares = ("all rows" if each.share >= 1 else f"{each.share:.1%} of the rows" for each in challengers.pinned)
    lines = [f"challenger {each.pin}: {share}" for each, share in zip(challengers.pinned, shares, strict=True)]
    return lines + [f"challenger {each.model} would not be scored: {each.why}" for each in challengers.left_out]


def _print_rest(write: Callable[[str], None], plan: "Plan") -> None:
    from penstock.run.plan_notes import (
        describe_left_over,
        describe_passed_over,
        describe_published,
        describe_range,
        describe_withdrawn,
    )

    if plan.published:
        write(describe_published(plan))
    if plan.withdrawn:
        write(describe_withdrawn(plan))
    if plan.left_over:
        write(describe_left_over(plan))
    if plan.passed_over:
        write(describe_passed_over(plan))
    for note in filter(None, (describe_range(plan), plan.stall)):
        write(note)


@dataclass(frozen=True)
class _Forecaster:
    """Estimates a run over a number of rows from past runs."""

    estimate: "Callable[[int], Estimate]"
    limit: int | None
    footprint: "MemoryProfile | None"
    in_one_process: int
    row_seconds: float | None
    """CPU seconds of the reasons of one row. None if the pipeline asks for none."""

    def plan_reasons(self, pipeline: "Pipeline", rows: int | None) -> "ReasonsPlan | None":
        from penstock.explain.budget import plan_reasons

        if pipeline.reasons is None or self.row_seconds is None or rows is None:
            return None
        return plan_reasons(pipeline.reasons, rows, self.row_seconds)

    def fit(self, pipeline: "Pipeline", source_plan: "SourcePlan", partition_rows: int) -> "MemoryPlan | None":
        from penstock.resources.memory import RequestedLoad, fit_partitions

        rows, group = source_plan.rows, source_plan.largest_group
        reasons = self.plan_reasons(pipeline, rows)
        if self.limit is None or self.footprint is None or not rows:
            return None
        wanted = RequestedLoad(
            pipeline.name,
            rows,
            partition_rows,
            self.in_one_process,
            pipeline.audit_rows,
            group.rows if group else 0,
            reasons.most_rows if reasons else 0,
        )
        return fit_partitions(self.limit, self.footprint, wanted)


def _forecast(
    pipeline: "Pipeline",
    planned: "PlannedInterval",
    connect: "Connector",
    partition_rows: int | None,
    forecaster: "_Forecaster",
) -> IntervalForecast:
    from penstock.run.budget import over_budget
    from penstock.run.extract import describe_large_group
    from penstock.sources import open_source

    interval = planned.interval
    start, end = (interval.start, interval.end) if interval else (None, None)
    rows, partitions, fit, problem = None, None, None, _unlanded(pipeline, connect)
    if problem is None:
        try:
            source = open_source(pipeline, pipeline.primary, connect)
            wanted = partition_rows or pipeline.partition_rows
            source_plan = source.plan(interval, wanted)
            fit = forecaster.fit(pipeline, source_plan, wanted)
            if fit and fit.partition_rows < min(wanted, source_plan.rows):
                source_plan = source.plan(interval, fit.partition_rows)
            size = fit.partition_rows if fit else wanted
            problem = describe_large_group(pipeline, source_plan, size, in_memory=size < wanted)
            rows, partitions = source_plan.rows, len(source_plan.partitions)
        except (NoFiles, MemoryTooSmall) as error:
            problem = str(error)
    estimate = None if rows is None else forecaster.estimate(rows)
    excess = over_budget(pipeline, estimate) if estimate else ()
    reasons = forecaster.plan_reasons(pipeline, rows)
    counts = (rows, partitions, problem, estimate)
    return IntervalForecast(planned.label, start, end, planned.reason, *counts, excess, fit, reasons)


def _row_seconds(pipeline: "Pipeline", pins: "Pins", settings: "Settings") -> float | None:
    """Return the CPU seconds of the reasons of one row. None if the pipeline asks for none.

    Raises:
        SettingsError: a text of `reasons` is for a feature that the model does not have.
    """
    if pipeline.reasons is None:
        return None
    from penstock.explain.reasons import check_texts
    from penstock.run_types import deciding_model

    model = open_models(settings).load(deciding_model(pins))
    check_texts(pipeline, model.manifest)
    return model.explained_row_seconds


def _describe_reasons(forecasts: list[IntervalForecast]) -> str:
    """Describe what the reasons of the interval with the most rows cost. Empty if no interval has any."""
    known = [f.reasons for f in forecasts if f.reasons]
    return f"reasons: {max(known, key=lambda plan: plan.rows).describe()}" if known else ""


def _describe_memory(forecasts: list[IntervalForecast], footprint: "MemoryProfile | None") -> str:
    """Describe the partitions of the run with the smallest ones."""
    fits = [f.memory for f in forecasts if f.memory]
    if footprint is None:
        return "memory: no run has measured the rows yet; the first run with PENSTOCK_MEMORY will"
    if not fits:
        return "memory: nothing to fit"
    return f"memory: {min(fits, key=lambda fit: (fit.partition_rows, fit.in_flight)).describe()}"


def _describe_estimate(forecasts: list[IntervalForecast]) -> str:
    """Describe time and cost of all intervals together."""
    from penstock.run.estimate import sum_estimates

    return f"estimate: {sum_estimates([f.estimate for f in forecasts if f.estimate]).describe()}"


def _unlanded(pipeline: "Pipeline", connect: "Connector") -> str | None:
    """Return a message if the primary source's log lines were never landed, which only a run does."""
    import sqlalchemy as sa

    from penstock.sources.logs.landed import landed_table
    from penstock.spec.sources import LogSource

    if not isinstance(pipeline.primary_source, LogSource):
        return None
    database = connect(pipeline.destination.connection)
    with database.reading() as connection:
        there = sa.inspect(connection).has_table(landed_table(pipeline.name, pipeline.primary).name)
    return None if there else f"the log lines of `{pipeline.primary}` have not been landed yet; a run lands them first"


def _as_object(
    pipeline: "Pipeline",
    pins: "Pins",
    challengers: "Challengers",
    plan: "Plan",
    forecasts: list[IntervalForecast],
) -> dict[str, Any]:
    from penstock.run.plan_notes import describe_range
    from penstock.run_types import deciding_model

    return {
        "pipeline": pipeline.name,
        "model": deciding_model(pins),
        "models": pins,
        "challengers": challengers.pinned,
        "challengers_left_out": challengers.left_out,
        "intervals": forecasts,
        "settled": plan.published,
        "withdrawn": plan.withdrawn,
        "left_over": plan.left_over,
        "stalled": plan.stalled,
        "stall": plan.stall,
        "range": describe_range(plan),
    }
