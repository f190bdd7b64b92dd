"""`penstock runs`, `show`, `withdraw`: what the ledger remembers, and taking a run's rows back out."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.arguments import AsJson, Limit, OptionalPipeline, RunId
from penstock.cli.flow_run_link import find_ui, flow_run_link
from penstock.cli.opening import locate_run, open_ledger, open_settings
from penstock.cli.output import console, count, make_table, seconds, short, write_json
from penstock.errors import WrongState

if TYPE_CHECKING:
    from penstock.ledger.reader import RunRecord
    from penstock.monitor.score_shift import ScoreShift

STATE_STYLES = {"published": "green", "halted": "red", "failed": "red", "abandoned": "red", "running": "yellow"}


def add_commands(app: typer.Typer) -> None:
    app.command("runs", epilog="Example: penstock runs card-risk --state halted --state failed")(show_runs)
    app.command("show", epilog="Example: penstock show 1a2b3c4d")(show_run)
    app.command("withdraw", epilog="Example: penstock withdraw 1a2b3c4d")(withdraw_run)


def show_runs(
    pipeline: OptionalPipeline = None,
    limit: Limit = 30,
    state: Annotated[list[str] | None, typer.Option(help="Only runs in this state; may be given again.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the scoring runs that the ledger remembers, newest first; of one pipeline, with its scores' shift."""
    from penstock.ledger.lineage import previous_published
    from penstock.ledger.reader import list_runs
    from penstock.report.facts import shift_between
    from penstock.run_types import interval_label

    settings = open_settings()
    database, name = open_ledger(settings, pipeline)
    found = list_runs(database, name, limit, tuple(state or ()))
    shifts = [shift_between(run, previous_published(database, run) if run.score_quantiles else None) for run in found]
    if as_json:
        ui, told = find_ui(settings), zip(found, shifts, strict=True)
        write_json([run_object(run, shift, flow_run_link(run, ui)) for run, shift in told])
        return
    if not found:
        console().print("no runs yet; start one with `penstock run PIPELINE`")
        return
    # Of one pipeline all rows bear its name: the room goes to the shift, which says little between pipelines.
    right = ("scored", "refused", *([] if name is None else ["PSI"]), "s")
    whose = ["pipeline"] if name is None else []
    table = make_table("run", *whose, "interval", "state", *right, "model", "started", right=right)
    for run, shift in zip(found, shifts, strict=True):
        table.add_row(
            short(run.run_id),
            *([run.pipeline] if name is None else []),
            interval_label(run.interval),
            _styled(run.state),
            count(run.rows_published),
            count(run.rows_quarantined),
            *([] if name is None else [f"{shift.psi:.2f}" if shift else "–"]),
            seconds(run.seconds),
            run.models,
            f"{run.started_at:%m-%d %H:%M}",
        )
    console().print(table)


def show_run(run_id: RunId, as_json: AsJson = False) -> None:
    """Show one run: counts, validations, quarantine, timings, scores and their shift, the interval's earlier runs."""
    from penstock.cli.run_page import page_object, tell_run
    from penstock.report.facts import read_facts

    settings = open_settings()
    database, run = locate_run(settings, run_id)
    facts, link = read_facts(database, run), flow_run_link(run, find_ui(settings))
    if as_json:
        write_json(page_object(facts, link))
    else:
        tell_run(facts, link, console())


def withdraw_run(
    run_id: RunId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take a published run's rows back out of the live view; only a restate scores its interval again."""
    from penstock.ledger.writer import withdraw
    from penstock.run_types import interval_label

    database, run = locate_run(open_settings(), run_id)
    if run.state != "published":
        raise WrongState(run.run_id, run.state, "published")
    what = f"{count(run.rows_scored)} scores of {run.pipeline} {interval_label(run.interval)}"
    if not yes:
        typer.confirm(f"Take {what} out of `{run.destination_table}`?", abort=True)
    withdraw(database, run.run_id)
    console().print(f"withdrawn: {what} are no longer in `{run.destination_table}`", markup=False)


def run_object(run: "RunRecord", shift: "ScoreShift | None", link: str | None) -> dict[str, Any]:
    """Return a run as `--json` writes it; `link` is the flow run's page in Prefect's UI."""
    import json

    fields = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
    fields["memory"] = json.loads(run.memory) if run.memory else None
    figures = {"seconds": run.seconds, "cost_per_million": run.cost_per_million, "psi": shift.psi if shift else None}
    return fields | figures | {"flow_run_link": link}


def _styled(state: str) -> str:
    style = STATE_STYLES.get(state)
    return f"[{style}]{state}[/]" if style else state
