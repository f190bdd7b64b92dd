"""`penstock withdraw`: remove published runs' rows from the live view."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.arguments import End, InTable, RunIds, Start, Yes
from penstock.cli.deliver.targets import deliver_moves
from penstock.cli.opening import locate_run, open_ledger, open_settings
from penstock.cli.output import console
from penstock.errors import WrongState
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.database.connections import Database
    from penstock.ledger.reader import RunRecord
    from penstock.settings import Settings

ANY_ZONE = timedelta(days=1)
"""More than any zone is away from UTC."""
SHOWN = 20
"""Most runs that the question lists one by one."""


def add_commands(app: typer.Typer) -> None:
    app.command("withdraw", epilog="Example: penstock withdraw 1a2b3c4d")(withdraw_runs)


def withdraw_runs(
    run_ids: RunIds = None,
    pipeline: Annotated[
        str | None, typer.Option(metavar="PIPELINE", help="Instead of IDs: all published runs of a pipeline.")
    ] = None,
    table: InTable = None,
    start: Start = None,
    end: End = None,
    yes: Yes = False,
) -> None:
    """Remove published runs' rows from the live view. Only a restatement scores their intervals again."""
    from penstock.ledger.writer import withdraw
    from penstock.run.planning import refuse_empty_range
    from penstock.run_types import interval_label

    if bool(run_ids) == bool(pipeline):
        raise typer.BadParameter("give either RUN_IDs or --pipeline")
    if run_ids and (table or start or end):
        raise typer.BadParameter("--table, --start and --end go with --pipeline")
    refuse_empty_range(start, end)
    settings = open_settings()
    if pipeline:
        found = _find_published(settings, pipeline, table, start, end)
    else:
        found = [locate_run(settings, run_id) for run_id in run_ids or ()]
    for _, run in found:
        if run.state != "published":
            raise WrongState(run.run_id, run.state, "published")
    if not found:
        console().print("nothing to withdraw: no published run matches")
        return
    named = [
        f"{plural(r.rows_scored or 0, 'score')} of {r.pipeline} {interval_label(r.interval)}"
        + ("" if r.champion_run_id is None else f" ({r.variant}, which no reader sees)")
        for _, r in found
    ]
    tables = ", ".join(f"`{name}`" for name in dict.fromkeys(run.destination_table for _, run in found))
    what = named[0] if len(named) == 1 else plural(len(named), "run")
    if not yes:
        for line in named[:SHOWN] if len(named) > 1 else ():
            console().print(line, markup=False)
        typer.confirm(f"Remove {what} from {tables}?", abort=True)
    for database, run in found:
        withdraw(database, run.run_id)
    scores = plural(sum(r.rows_scored or 0 for _, r in found), "score")
    are = "are" if len(named) == 1 else f"({scores}) are"
    console().print(f"withdrawn: {what} {are} no longer in {tables}", markup=False)
    deliver_moves(settings, [(database, run.pipeline) for database, run in found])


def _find_published(
    settings: "Settings", pipeline: str, table: str | None, start: datetime | None, end: datetime | None
) -> "list[tuple[Database, RunRecord]]":
    """Return a pipeline's published runs whose interval touches the range, the oldest interval first."""
    from penstock.interval import as_utc
    from penstock.ledger.reader import list_published

    def touches(run: "RunRecord") -> bool:
        """Whether the run's interval touches the range, whose bounds may be local times of the run's zone."""
        zone, interval = run.timezone or "UTC", run.interval
        if interval is None:
            return start is None and end is None
        begins_before = end is None or interval.start < as_utc(end, zone)
        return begins_before and (start is None or interval.end > as_utc(start, zone))

    database, name = open_ledger(settings, pipeline)
    wider = (as_utc(start) - ANY_ZONE if start else None, as_utc(end) + ANY_ZONE if end else None)
    found = list_published(database, name or pipeline, *wider)
    return [(database, run) for run in found if table in (None, run.destination_table) and touches(run)]
