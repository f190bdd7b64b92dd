"""`penstock logs`: a run's log lines from Prefect, or what the ledger has recorded of it."""

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.arguments import AsJson, RunId, Timezone
from penstock.cli.opening import locate_run, open_settings
from penstock.cli.output import console, short, write_json
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.database.connections import Database
    from penstock.deployments.flow_run_logs import LogLine
    from penstock.ledger.reader import RunRecord
    from penstock.settings import Settings

STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


def add_commands(app: typer.Typer) -> None:
    app.command("logs", epilog="Example: penstock logs 1a2b3c4d")(show_logs)


def show_logs(
    run_id: RunId,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Maximum number of lines, oldest first.")] = 10_000,
    timezone: Timezone = None,
    as_json: AsJson = False,
) -> None:
    """Show the log lines of a run from Prefect: its own, its tasks' and those of the flow run around it.

    If Prefect has none, show what the ledger has recorded of the run instead. The first line names the source.
    """
    settings = open_settings()
    database, run = locate_run(settings, run_id)
    zone = timezone or settings.timezone
    lines, cut, why = _ask_prefect(settings, run, limit)
    if lines:
        _print_lines(run, lines, cut, zone, as_json=as_json)
    else:
        _print_events(database, run, why, zone, as_json=as_json)


def _ask_prefect(settings: "Settings", run: "RunRecord", limit: int) -> "tuple[list[LogLine], bool, str]":
    """Return the lines, whether there are more, and why there are none."""
    from penstock.cli.prefect_api import found_server

    if run.flow_run_id is None:
        return [], False, "the run had no flow run in Prefect"
    with found_server(settings, small=True) as api_url:
        if api_url is None:
            return [], False, "no Prefect server answers"
        from penstock.deployments.flow_run_logs import read_logs

        lines, cut = read_logs(api_url, run.flow_run_id, limit)
        return lines, cut, f"Prefect at {api_url} has no logs of it"


def _print_lines(run: "RunRecord", lines: "list[LogLine]", cut: bool, zone: str, *, as_json: bool) -> None:
    from penstock.timezones import describe_moment

    if as_json:
        write_json({"run_id": run.run_id, "source": "prefect", "lines": lines, "more": cut})
        return
    out = console()
    out.print(f"run {short(run.run_id)}: {plural(len(lines), 'line')} from Prefect", style="bold", markup=False)
    for line in lines:
        level = logging.getLevelName(line.level)
        text = f"{describe_moment(line.time, zone, seconds=True)}  {level:<8} {line.message}"
        out.print(text, style=STYLES.get(line.level), markup=False, soft_wrap=True)
    if cut:
        out.print(f"the first {plural(len(lines), 'line')}; a larger `--limit` shows more", markup=False)


def _print_events(database: "Database", run: "RunRecord", why: str, zone: str, *, as_json: bool) -> None:
    from penstock.report.document import read_document
    from penstock.report.history import list_events
    from penstock.timezones import describe_moment

    events = list_events(read_document(database, run))
    if as_json:
        lines = [{"time": event.time, "kind": event.kind, "message": event.text} for event in events]
        write_json({"run_id": run.run_id, "source": "ledger", "why": why, "lines": lines})
        return
    out = console()
    out.print(f"run {short(run.run_id)}: from the ledger, since {why}", style="bold", markup=False, soft_wrap=True)
    width = len(describe_moment(run.started_at, zone, seconds=True))
    for event in events:
        time = describe_moment(event.time, zone, seconds=True) if event.time else ""
        style = "red" if event.kind == "error" else None
        out.print(f"{time:<{width}}  {event.text}", style=style, markup=False, soft_wrap=True)
