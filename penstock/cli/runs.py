"""`penstock runs`: the history of runs in the ledger."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from penstock.cli.arguments import AsJson, Limit, OptionalPipeline, Timezone
from penstock.cli.flow_run_link import find_ui, flow_run_link
from penstock.cli.opening import open_ledger, open_settings
from penstock.cli.output import console, count, describe_cut, make_table, seconds, short, write_json
from penstock.cli.run_page import STATUS_STYLES

if TYPE_CHECKING:
    from penstock.ledger.reader import RunRecord
    from penstock.monitor.score_shift import ScoreShift

NUMBERS = ("scored", "refused", "PSI", "s")
LEAVE_FIRST = ("model", "s", "refused")
"""Columns that a narrow terminal leaves out, in this order, so that a run stays in one line."""


def add_commands(app: typer.Typer) -> None:
    app.command("runs", epilog="Example: penstock runs card-risk --state halted --state failed")(show_runs)


def show_runs(
    pipeline: OptionalPipeline = None,
    limit: Limit = 30,
    state: Annotated[list[str] | None, typer.Option(help="Only runs in this state. May be repeated.")] = None,
    timezone: Timezone = None,
    as_json: AsJson = False,
) -> None:
    """List the scoring runs in the ledger, newest first. For one pipeline, also show the shift of its scores."""
    from penstock.ledger.dead_runs import find_unfinished
    from penstock.ledger.lineage import previous_published
    from penstock.ledger.reader import count_runs, list_runs
    from penstock.report.document import run_object, shift_between

    settings = open_settings()
    database, name = open_ledger(settings, pipeline)
    states = tuple(state or ())
    found = list_runs(database, name, limit, states)
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
    _print_table(found, shifts, timezone or settings.timezone, of_one=name is not None)
    if len(found) == limit:
        console().print(describe_cut(limit, count_runs(database, name, states), "run", "the newest"), markup=False)
    for dead in find_unfinished(database, name):
        console().print(dead.describe(), style="yellow", markup=False, soft_wrap=True)


def _print_table(
    found: "Sequence[RunRecord]", shifts: "Sequence[ScoreShift | None]", zone: str, *, of_one: bool
) -> None:
    """Print one line a run. The rows of one pipeline show the shift instead of its name."""
    from penstock.ledger.destinations import LIVE, SERVED
    from penstock.run_types import interval_label

    clock = ZoneInfo(zone)
    years = {run.started_at.astimezone(clock).year for run in found}
    written = "%m-%d %H:%M %Z" if len(years) == 1 else "%Y-%m-%d %H:%M %Z"
    variants = any(run.variant != LIVE for run in found)
    rows = [
        {
            "run": short(run.run_id),
            **({} if of_one else {"pipeline": run.pipeline}),
            "interval": interval_label(run.interval),
            **({"variant": _variant(run)} if variants else {}),
            "state": run.state,
            "scored": count(run.rows_scored if run.variant == SERVED else run.rows_published),
            "refused": count(run.rows_quarantined),
            # PSI says little between pipelines.
            **({"PSI": f"{shift.psi:.2f}" if shift else "–"} if of_one else {}),
            "s": seconds(run.seconds),
            "model": run.models,
            "started": run.started_at.astimezone(clock).strftime(written),
        }
        for run, shift in zip(found, shifts, strict=True)
    ]
    out, gap = console(), 2 if variants else 1  # a column more leaves no room to press the others together
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) + gap for name in rows[0]}
    if not out.is_terminal:
        out.width = max(out.width, sum(widths.values()))  # a file takes lines of any length
    for name in LEAVE_FIRST:
        if sum(widths.values()) > out.width:
            del widths[name]
    table = make_table(*widths, right=[name for name in widths if name in NUMBERS])
    for row in rows:
        table.add_row(*(_styled(row[name]) if name == "state" else row[name] for name in widths))
    out.print(table)
    left_out = [name for name in LEAVE_FIRST if name not in widths]
    if left_out:
        out.print(f"columns left out at this width: {', '.join(left_out)}; `penstock show` has them", style="dim")


def _variant(run: "RunRecord") -> str:
    """Return the variant of a run. The column of the model says which challenger it is."""
    from penstock.run_types import SHADOW

    return "shadow" if run.variant.startswith(SHADOW) else run.variant


def _styled(state: str) -> str:
    style = STATUS_STYLES.get(state)
    return f"[{style}]{state}[/]" if style else state
