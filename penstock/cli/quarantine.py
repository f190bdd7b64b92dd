"""`penstock quarantine`: the rows that were refused, and why."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.arguments import AsJson, Limit, OptionalPipeline, RunId
from penstock.cli.opening import locate_run, open_ledger, open_settings
from penstock.cli.output import console, count, make_table, plural, short, write_json
from penstock.errors import SettingsError

if TYPE_CHECKING:
    from penstock.connections import Database
    from penstock.ledger.reader import QuarantinedRow, RunRecord

RUNS = 50
"""How many of the newest runs are looked through."""
SHOWN_ROWS = 5


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(help="Look at the rows that were refused.", no_args_is_help=True)
    group.command("list", epilog="Example: penstock quarantine list card-risk")(show_quarantine)
    group.command("show", epilog="Example: penstock quarantine show 1a2b3c4d --row 0.3")(show_rows)
    app.add_typer(group, name="quarantine")


def show_quarantine(pipeline: OptionalPipeline = None, as_json: AsJson = False) -> None:
    """Count the refused rows of the newest runs by stage and reasons, and show the first ones."""
    from rich.markup import escape

    from penstock.carriers import interval_label
    from penstock.ledger.reader import quarantined_rows

    database, name = open_ledger(open_settings(), pipeline)
    counted = _count_reasons(database, name)
    rows = quarantined_rows(database, name, limit=SHOWN_ROWS)
    if as_json:
        write_json(
            {"counts": [_count_object(*entry) for entry in counted], "first_rows": [row_object(r) for r in rows]}
        )
        return
    if not counted:
        console().print("no rows in quarantine")
        return
    table = make_table("run", "pipeline", "interval", "stage", "reasons", "rows", right=("rows",))
    for run, stage, reasons, number in counted:
        label = interval_label(run.interval)
        table.add_row(short(run.run_id), run.pipeline, label, stage, escape(reasons), count(number))
    console().print(table)
    console().print("The first rows:", style="bold")
    _tell_rows(rows)


def show_rows(
    run_id: RunId,
    limit: Limit = 50,
    row: Annotated[str | None, typer.Option(metavar="P.N", help="Only this row: partition and number.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the rows that one run refused, each with its reasons, as they were read."""
    from penstock.ledger.reader import quarantined_rows

    database, run = locate_run(open_settings(), run_id)
    rows = quarantined_rows(database, run_id=run.run_id, limit=limit if row is None else 1_000_000)
    if row is not None:
        rows = [r for r in rows if _place(r) == row]
        if not rows:
            raise SettingsError(
                f"run {short(run.run_id)} has no row `{row}` in quarantine", "Leave --row out to see all."
            )
    if as_json:
        write_json([row_object(r) for r in rows])
    elif rows:
        _tell_rows(rows)
        if row is None and len(rows) == limit:
            console().print(f"the first {plural(limit, 'row')}; --limit shows more")
    else:
        console().print(f"run {short(run.run_id)} refused no rows", markup=False)


def row_object(row: "QuarantinedRow") -> dict[str, Any]:
    """Return a refused row as `--json` writes it."""
    return {
        "run_id": row.run_id,
        "pipeline": row.pipeline,
        "row_number": _place(row),
        "stage": row.stage,
        "source": row.source,
        "state": row.state,
        "key": json.loads(row.key),
        "reasons": row.reasons,
        "row": json.loads(row.row),
    }


def _place(row: "QuarantinedRow") -> str:
    return f"{row.partition}.{row.number}"


def _count_reasons(database: "Database", pipeline: str | None) -> "list[tuple[RunRecord, str, str, int]]":
    from penstock.ledger.reader import list_runs, quarantine_reasons

    # A run that failed has no count of its own; only one that counted zero is passed over.
    held = [run for run in list_runs(database, pipeline, limit=RUNS) if run.rows_quarantined != 0]
    return [(run, *reasons) for run in held for reasons in quarantine_reasons(database, run.run_id)]


def _count_object(run: "RunRecord", stage: str, reasons: str, rows: int) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "pipeline": run.pipeline,
        "interval_start": run.interval_start,
        "interval_end": run.interval_end,
        "stage": stage,
        "reasons": reasons,
        "rows": rows,
    }


def _tell_rows(rows: "list[QuarantinedRow]") -> None:
    out = console()
    for row in rows:
        head = f"{short(row.run_id)} {_place(row)}  {row.stage}  {row.key}"
        out.print(head, style="bold", markup=False, soft_wrap=True)
        out.print(f"  {', '.join(row.reasons)}", style="yellow", markup=False, soft_wrap=True)
        out.print(f"  {row.row}", markup=False, soft_wrap=True)
