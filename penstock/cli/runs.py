"""`penstock runs`: the history of runs in the ledger."""

from typing import Annotated

import typer

from penstock.cli.arguments import AsJson, Limit, OptionalPipeline
from penstock.cli.flow_run_link import find_ui, flow_run_link
from penstock.cli.opening import open_ledger, open_settings
from penstock.cli.output import console, count, make_table, seconds, short, write_json
from penstock.cli.run_page import STATUS_STYLES


def add_commands(app: typer.Typer) -> None:
    app.command("runs", epilog="Example: penstock runs card-risk --state halted --state failed")(show_runs)


def show_runs(
    pipeline: OptionalPipeline = None,
    limit: Limit = 30,
    state: Annotated[list[str] | None, typer.Option(help="Only runs in this state. May be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the scoring runs in the ledger, newest first. For one pipeline, also show the shift of its scores."""
    from penstock.ledger.dead_runs import find_unfinished
    from penstock.ledger.lineage import previous_published
    from penstock.ledger.reader import list_runs
    from penstock.report.document import run_object, shift_between
    from penstock.run_types import interval_label

    settings = open_settings()
    database, name = open_ledger(settings, pipeline)
    found = list_runs(database, name, limit, tuple(state or ()))
    compares = as_json or name is not None
    before = (previous_published(database, run) if compares and run.score_quantiles else None for run in found)
    shifts = [shift_between(run, other) for run, other in zip(found, before, strict=True)]
    if as_json:
        ui, compared = find_ui(settings), zip(found, shifts, strict=True)
        write_json([run_object(run, shift, flow_run_link(run, ui)) for run, shift in compared])
        return
    if not found:
        console().print("no runs yet; start one with `penstock run PIPELINE`")
        return
    # The rows of one pipeline do not repeat its name. They show the shift, which says little between pipelines.
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
    for dead in find_unfinished(database, name):
        console().print(dead.describe(), style="yellow", markup=False, soft_wrap=True)


def _styled(state: str) -> str:
    style = STATUS_STYLES.get(state)
    return f"[{style}]{state}[/]" if style else state
