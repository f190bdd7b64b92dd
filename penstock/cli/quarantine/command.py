"""`penstock quarantine`: show the refused rows and their reasons."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.arguments import AsJson, Limit, OptionalPipeline, RunId
from penstock.cli.opening import locate_run, open_ledger, open_settings
from penstock.cli.output import console, count, describe_cut, make_table, short, write_json
from penstock.cli.quarantine.export import export_quarantine
from penstock.cli.quarantine.release import release_quarantine
from penstock.errors import SettingsError

if TYPE_CHECKING:
    from penstock.ledger.quarantine import QuarantinedRow

SHOWN_ROWS = 5


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(help="Show, release and export refused rows.", no_args_is_help=True)
    group.command("list", epilog="Example: penstock quarantine list card-risk")(show_quarantine)
    group.command("show", epilog="Example: penstock quarantine show 1a2b3c4d --row 0.3")(show_rows)
    released = "Example: penstock quarantine release card-risk --key 4711 --reason 'a refund, checked with sales'"
    group.command("release", epilog=released)(release_quarantine)
    group.command("export", epilog="Example: penstock quarantine export card-risk refused.parquet")(export_quarantine)
    app.add_typer(group, name="quarantine")


def show_quarantine(pipeline: OptionalPipeline = None, as_json: AsJson = False) -> None:
    """Count the refused rows by pipeline, stage and expectation, and show the first ones.

    Only the newest run of each interval counts, because it has judged the rows of older runs again.
    """
    from rich.markup import escape

    from penstock.ledger.quarantine import count_reasons, count_rows, quarantined_rows, standing_runs

    database, name = open_ledger(open_settings(), pipeline)
    counted = count_reasons(database, standing_runs(database, name))
    rows = quarantined_rows(database, name, limit=SHOWN_ROWS)
    if as_json:
        counts = [vars(c) | {"rows": c.held + c.released} for c in counted]
        write_json({"counts": counts, "first_rows": [row_object(r) for r in rows]})
        return
    if not counted:
        console().print("no rows in quarantine")
        return
    right = ("held", "released")
    table = make_table("pipeline", "stage", "reason", *right, right=right)
    for c in counted:
        table.add_row(c.pipeline, c.stage, escape(c.reason), count(c.held), count(c.released))
    console().print(table)
    console().print("A row that failed several expectations counts in each.")
    console().print("The first rows:", style="bold")
    _print_rows(rows)
    whole, more = count_rows(database, name), "`penstock quarantine show RUN_ID` shows those of a run"
    console().print(describe_cut(len(rows), whole, "row", "the newest runs first", more), markup=False)


def show_rows(
    run_id: RunId,
    limit: Limit = 50,
    row: Annotated[str | None, typer.Option(metavar="P.N", help="Show only this row: partition and number.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the refused rows of one run as they were read, with their reasons and state."""
    from penstock.ledger.quarantine import count_rows, quarantined_rows

    database, run = locate_run(open_settings(), run_id)
    rows = quarantined_rows(database, run_id=run.run_id, limit=limit if row is None else 1_000_000)
    if row is not None:
        rows = [r for r in rows if _place(r) == row]
        if not rows:
            raise SettingsError(
                f"run {short(run.run_id)} has no row `{row}` in quarantine", "Omit --row to see all rows."
            )
    if as_json:
        write_json([row_object(r) for r in rows])
    elif rows:
        _print_rows(rows)
        if row is None and len(rows) == limit:
            whole = count_rows(database, run_id=run.run_id)
            console().print(describe_cut(limit, whole, "row"), markup=False)
    else:
        console().print(f"run {short(run.run_id)} refused no rows", markup=False)


def row_object(row: "QuarantinedRow") -> dict[str, Any]:
    """Return a refused row as an object for `--json`."""
    return {
        "run_id": row.run_id,
        "pipeline": row.pipeline,
        "row_number": _place(row),
        "stage": row.stage,
        "source": row.source,
        "state": row.state,
        "fate": row.fate,
        "settled_by_run": row.settled_by_run,
        "key": json.loads(row.key),
        "reasons": row.reasons,
        "row": json.loads(row.row),
    }


def _place(row: "QuarantinedRow") -> str:
    return f"{row.partition}.{row.number}"


def _print_rows(rows: "list[QuarantinedRow]") -> None:
    out = console()
    for row in rows:
        head = f"{short(row.run_id)} {_place(row)}  {row.stage}  {row.key}  {row.fate}"
        out.print(head, style="bold", markup=False, soft_wrap=True)
        out.print(f"  {', '.join(row.reasons)}", style="yellow", markup=False, soft_wrap=True)
        out.print(f"  {row.row}", markup=False, soft_wrap=True)
