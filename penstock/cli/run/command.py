"""`penstock run`: score the due intervals in this process, and report the outcome from the ledger."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.arguments import End, ModelOption, PipelineName, Restate, Sandbox, ScoredBy, Start
from penstock.cli.deliver.targets import deliver_now
from penstock.cli.ending import VERBOSE, print_error
from penstock.cli.opening import connector, open_pipeline, open_settings, without_collecting
from penstock.cli.output import console as stdout_console
from penstock.cli.output import short
from penstock.cli.plan import choose_mode, find_intervals, print_plan, resolve_models
from penstock.cli.prefect_api import is_own, prefect_api
from penstock.cli.run.flow_call import FlowEnd, call_score
from penstock.cli.run.own_runs import OwnRuns, own_runs_from_now
from penstock.cli.run.progress import shown_progress
from penstock.cli.run.readiness import ensure_ready, load_while_waiting
from penstock.errors import PenstockError
from penstock.wording import plural

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.database.connections import Connector
    from penstock.ledger.dead_runs import UnfinishedRun
    from penstock.ledger.reader import RunRecord
    from penstock.run.planning import Mode, Plan
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline

__all__ = ["RunSummary", "prefect_api", "run_pipeline"]

DONE = ("published", "audited", "superseded", "withdrawn")
HISTORY_SECONDS = 15.0


@dataclass(frozen=True)
class RunSummary:
    """How one call of `run_pipeline` ended."""

    records: "tuple[RunRecord, ...]"
    """The runs of this call, oldest interval first."""
    skipped: bool
    """Whether nothing was to be done, or another run is doing it."""
    exit_code: int
    message: str


def add_commands(app: typer.Typer) -> None:
    epilog = "Example: penstock run card-risk --start 2026-01-01 --end 2026-02-01 --restate"
    app.command("run", epilog=epilog)(run)


def run(
    ctx: typer.Context,
    pipeline: PipelineName,
    start: Start = None,
    end: End = None,
    restate: Restate = False,
    scored_by: ScoredBy = None,
    sandbox: Sandbox = None,
    model: ModelOption = None,
    partition_rows: Annotated[int | None, typer.Option(min=1, help="Rows of a partition.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show logs, and tracebacks of errors.")] = False,
) -> None:
    """Score the due intervals: missing ones, and those with late rows.

    With --start or --end, score the missing intervals of that range. With --restate too, score all of the range again,
    or with --scored-by what one model version scored. With --sandbox, readers see nothing of it.
    Running the command twice is safe: published intervals are left alone.
    """
    ctx.meta[VERBOSE] = verbose
    settings = open_settings()
    mode = choose_mode(start, end, restate, scored_by)
    if dry_run:
        spec = open_pipeline(pipeline, settings, sandbox)
        print_plan(spec, settings, mode, start, end, model, partition_rows, scored_by)
        return
    with without_collecting():
        summary = run_pipeline(
            pipeline,
            settings,
            stdout_console(),
            mode=mode,
            start=start,
            end=end,
            model=model,
            partition_rows=partition_rows,
            scored_by=scored_by,
            sandbox=sandbox,
            verbose=verbose,
        )
    raise typer.Exit(summary.exit_code)


def run_pipeline(
    pipeline: str,
    settings: "Settings",
    console: "Console",
    *,
    mode: "Mode" = "due",
    start: datetime | None = None,
    end: datetime | None = None,
    model: str | None = None,
    partition_rows: int | None = None,
    scored_by: str | None = None,
    sandbox: str | None = None,
    verbose: bool = False,
) -> RunSummary:
    """Score the due intervals in this process. If nothing is due, no server is started.

    Args:
        settings: The settings of this process's environment, where the tasks read them.
        console: Shows progress and the outcome.

    Raises:
        PenstockError: a check before the start fails.
    """
    from penstock.ledger.known_ledgers import open_ledger
    from penstock.ledger.lease_wait import find_waits
    from penstock.ledger.served_spool import settle_before_run
    from penstock.models.booster_loading import load_booster
    from penstock.run.plan_notes import describe_idle, describe_range
    from penstock.run_types import interval_key

    spec = open_pipeline(pipeline, settings, sandbox)
    connect = connector(settings)
    pins = resolve_models(spec, settings, model)  # a wrong home has no models, and must get no ledger
    open_ledger(connect(spec.destination.connection), settings.home)
    unfinished = _find_unfinished(spec, connect)
    if not spec.is_sandbox:
        settle_before_run(connect(spec.destination.connection), settings.home, spec)
    plan = _find_due(spec, connect, datetime.now(UTC), mode, start, end, scored_by)
    for run in unfinished:
        if not plan.scores(run.interval):
            _warn(run.describe(), console)
    if not plan.intervals:
        message = describe_idle(plan)
        console.print(message, markup=False, soft_wrap=True)
        deliver_now(settings, connect(spec.destination.connection), spec)
        return RunSummary((), True, 0, message)
    for note in filter(None, (describe_range(plan), plan.stall)):
        _warn(note, console)
    waits = find_waits(connect(spec.destination.connection), spec)
    for planned in plan.intervals:
        if (key := interval_key(planned.interval)) in waits:
            _warn(f"{planned.label}: {waits[key]}", console)
    load_booster()
    ensure_ready(spec, settings, plan.intervals[0].interval, pins, connect)
    runs = own_runs_from_now(connect(spec.destination.connection), spec.name)
    with load_while_waiting(spec, settings) as loaded, prefect_api(settings, verbose=verbose) as api_url:
        loaded()
        with shown_progress(runs, len(plan.intervals), console):
            ended = call_score(
                api_url,
                pipeline=pipeline,
                mode=mode,
                start=start,
                end=end,
                model=model,
                partition_rows=partition_rows,
                scored_by=scored_by,
                sandbox=sandbox,
            )
        _keep_history(api_url, ended, console)
    return _print_outcome(spec, plan, runs, ended, console)


def _find_unfinished(pipeline: "Pipeline", connect: "Connector") -> "list[UnfinishedRun]":
    """Mark dead runs as abandoned, and return the restates and backfills among them, which no due run repeats."""
    from penstock.ledger.dead_runs import abandon_dead_runs, find_unfinished

    warehouse = connect(pipeline.destination.connection)
    abandon_dead_runs(warehouse, pipeline.name)
    return [] if pipeline.is_sandbox else find_unfinished(warehouse, pipeline.name)


def _find_due(
    pipeline: "Pipeline",
    connect: "Connector",
    now: datetime,
    mode: "Mode",
    start: datetime | None,
    end: datetime | None,
    scored_by: str | None,
) -> "Plan":
    """Return the due intervals. If there are none, land new log lines and look again for late rows."""
    from penstock.run.extract import land_logs

    plan = find_intervals(pipeline, connect, now, mode, start, end, scored_by)
    if plan.intervals or not land_logs(pipeline, connect):
        return plan
    return find_intervals(pipeline, connect, now, mode, start, end, scored_by)


def _keep_history(api_url: str, ended: FlowEnd, console: "Console") -> None:
    """Wait until a server that ends with this command has stored what Prefect sent."""
    if not is_own(api_url) or ended.flow_run_id is None:
        return
    from penstock.deployments.server.history import wait_for_history

    if not wait_for_history(api_url, ended.flow_run_id, HISTORY_SECONDS):
        console.print("Warning: the Prefect history of this run is incomplete. The ledger is complete.", style="yellow")


def _print_outcome(pipeline: "Pipeline", plan: "Plan", runs: OwnRuns, ended: FlowEnd, console: "Console") -> RunSummary:
    """Print each run, and find out from the ledger how the call ended."""
    from penstock.ledger.acceptance import accept_command, is_acceptable
    from penstock.ledger.challengers import find_challengers
    from penstock.report.delivery import find_failing

    records = runs.records()
    for record in records:
        _print_run(record, console)
        if is_acceptable(runs.database, record):
            command = accept_command(record.run_id)
            console.print(f"if the data are right, publish it: {command}", markup=False, soft_wrap=True)
        for challenger in find_challengers(runs.database, record.run_id):
            if record.state == "published" and challenger.state != "published":
                _warn(f"challenger {challenger.model}: {challenger.state}: {challenger.error}", console)
    for failing in find_failing(runs.database, pipeline):
        _warn(f"`{failing.target}` does not get its rows, and the next run tries again: {failing.error}", console)
    undone = [record for record in records if record.state not in DONE]
    if undone:
        code = 3 if all(record.state == "halted" for record in undone) else 1
        message = f"{len(undone)} of {plural(len(records), 'interval')} not published"
        return RunSummary(records, False, code, message)
    if ended.error is not None and len(records) < len(plan.intervals):
        message = _describe_failure(ended.error, len(plan.intervals) - len(records))
        print_error(message)
        return RunSummary(records, False, ended.exit_code, message)
    if ended.error is not None:
        _warn(f"all intervals are published in the ledger, but Prefect could not record it: {ended.error}", console)
    if not records:
        message = f"nothing was done: another run of `{pipeline.name}` is scoring or has published the due intervals"
        _warn(message, console)
        return RunSummary((), True, 0, message)
    if len(records) < len(plan.intervals) and ended.error is None:
        left = plural(len(plan.intervals) - len(records), "interval")
        _warn(f"{left} left alone: another run is scoring or has published them", console)
    if pipeline.is_sandbox:
        _print_next(pipeline, console)
    return RunSummary(records, False, 0, f"{plural(len(records), 'interval')} published")


def _print_next(pipeline: "Pipeline", console: "Console") -> None:
    """Say where the scores of a sandbox are, and how to compare and to end it."""
    destination = pipeline.destination
    console.print(f"readers see nothing of it; the scores are in the view `{destination.table}`", markup=False)
    console.print(f"compare: penstock monitor compare {pipeline.name} champion {destination.variant}", markup=False)
    console.print(f"end:     penstock sandbox end {pipeline.name} {destination.sandbox}", markup=False)


def _describe_failure(error: BaseException | str, missing: int) -> str:
    if isinstance(error, PenstockError):
        return str(error)
    why = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else error
    return f"{plural(missing, 'interval')} not scored: {why}. Published intervals stay. Run again for the rest."


def _warn(message: str, console: "Console") -> None:
    console.print(f"Warning: {message}", style="yellow", markup=False, soft_wrap=True)


def _print_run(run: "RunRecord", console: "Console") -> None:
    from penstock.run_types import interval_label

    good = run.state in DONE
    numbers = [f"{run.rows_scored or 0:,} scored"] if good else []
    if run.rows_quarantined:
        numbers.append(f"{run.rows_quarantined:,} quarantined")
    if run.rows_excluded:
        numbers.append(f"{run.rows_excluded:,} excluded")
    if run.seconds:
        numbers.append(f"{run.seconds:.1f} s")
        if good and run.rows_extracted:
            numbers.append(f"{run.rows_extracted / run.seconds:,.0f} rows/s")
    line = f"{'✓' if good else '✗'} {interval_label(run.interval)}  {run.state}  {' · '.join(numbers)}"
    line += f"  {run.models}  run {short(run.run_id)}"
    console.print(line, style="green" if good else "red", markup=False, soft_wrap=True)
    if run.error and not good:
        print_error(run.error)
