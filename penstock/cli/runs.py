"""`penstock runs`: the run history that the ledger keeps."""

from typing import Annotated

import typer

from penstock.cli.arguments import AsJson, Limit, OptionalPipeline
from penstock.cli.flow_run_link import find_ui, flow_run_link
from penstock.cli.opening import open_ledger, open_settings
from penstock.cli.output import console, count, make_table, seconds, short, write_json
from penstock.cli.run_page import run_object

STATE_STYLES = {"published": "green", "halted": "red", "failed": "red", "abandoned": "red", "running": "yellow"}


def add_commands(app: typer.Typer) -> None:
    app.command("runs", epilog="Example: penstock runs card-risk --state halted --state failed")(show_runs)


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


def _styled(state: str) -> str:
    style = STATE_STYLES.get(state)
    return f"[{style}]{state}[/]" if style else state
