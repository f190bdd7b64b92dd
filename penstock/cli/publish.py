"""`penstock publish`: make runs live that have ended, without scoring anything."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.arguments import AsJson, By, DryRun, End, InTable, RunIds, Start, Why, Yes
from penstock.cli.deliver.targets import deliver_moves
from penstock.cli.opening import locate_run, open_ledger, open_settings
from penstock.cli.output import console, make_table, write_json
from penstock.cli.user_name import find_user_name
from penstock.wording import plural

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from penstock.database.connections import Database
    from penstock.ledger.reader import RunRecord
    from penstock.settings import Settings
    from penstock.upkeep.live_changes import LiveChange

SHOWN = 20
"""Most lines of the table."""
COUNTS = ("same", "changed", "added", "removed")


def add_commands(app: typer.Typer) -> None:
    example = "Example: penstock publish --pipeline card-risk --scored-by card-risk/3 --start 2026-11-01 --dry-run"
    app.command("publish", epilog=example)(publish_runs)


def publish_runs(
    run_ids: RunIds = None,
    pipeline: Annotated[
        str | None, typer.Option(metavar="PIPELINE", help="Instead of IDs, with --scored-by: runs of a pipeline.")
    ] = None,
    scored_by: Annotated[
        str | None,
        typer.Option(metavar="NAME/VERSION", help="Of each interval the newest run that this version scored."),
    ] = None,
    table: InTable = None,
    start: Start = None,
    end: End = None,
    reason: Why = "",
    by: By = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make runs live that were replaced or withdrawn, or that a challenger scored. Nothing is scored."""
    from penstock.ledger.pointer_moves import plan_move
    from penstock.run.planning import refuse_empty_range
    from penstock.upkeep.live_changes import compare_live, publish_with_rows

    if bool(run_ids) == bool(pipeline) or bool(pipeline) != bool(scored_by):
        raise typer.BadParameter("give either RUN_IDs, or --pipeline with --scored-by")
    if run_ids and (table or start or end):
        raise typer.BadParameter("--table, --start and --end go with --pipeline")
    require_reason(reason, dry_run, as_json)
    refuse_empty_range(start, end)
    settings = open_settings()
    if pipeline and scored_by:
        database, scored = _find_scored_by(settings, pipeline, scored_by, start, end)
        found = [run for run in scored if table in (None, run.destination_table)]
    else:
        database, found = _find_by_id(settings, run_ids or [])
    if not found:
        if as_json:
            write_json([])
        else:
            console().print(f"nothing to publish: no other run of this range was scored by {scored_by}", markup=False)
        return
    ids = [run.run_id for run in found]
    changes = list(compare_live(database, plan_move(database, ids)))
    show_changes(changes, found[0].destination_table, as_json)
    if dry_run:
        return
    if not yes:
        typer.confirm(f"Publish {plural(len(ids), 'run')}?", abort=True)
    move = publish_with_rows(database, ids, by or find_user_name(), reason.strip())
    instead = f", in place of {plural(len(move.replaced), 'run')}" if move.replaced else ""
    table = found[0].destination_table
    console().print(f"published: {plural(len(move.runs), 'run')} in `{table}`{instead}", markup=False)
    deliver_moves(settings, [(database, found[0].pipeline)])


def _find_by_id(settings: "Settings", run_ids: "Sequence[str]") -> "tuple[Database, list[RunRecord]]":
    located = [locate_run(settings, run_id) for run_id in run_ids]
    database = located[0][0]
    if any(other.name != database.name for other, _ in located):
        raise typer.BadParameter("the runs are in several warehouses; publish those of each one by themselves")
    return database, list({run.run_id: run for _, run in located}.values())


def _find_scored_by(
    settings: "Settings", pipeline: str, scored_by: str, start: "datetime | None", end: "datetime | None"
) -> "tuple[Database, list[RunRecord]]":
    """Return the runs of a version, one for each interval, as `ledger.pointer_moves.find_scored_by` chooses them."""
    from penstock.errors import SettingsError
    from penstock.interval import as_utc
    from penstock.ledger.pointer_moves import find_scored_by, list_versions

    database, name = open_ledger(settings, pipeline)
    model, _, version = scored_by.partition("/")
    known = list_versions(database, name or pipeline)
    if scored_by not in known:
        named = f"These versions scored runs: {', '.join(known[-12:])}." if known else "It has published no run yet."
        raise SettingsError(f"no run of `{name}` was scored by `{scored_by}`", named)
    zone = _zone_of(database, name or pipeline)
    bounds = (as_utc(moment, zone) if moment else None for moment in (start, end))
    return database, find_scored_by(database, name or pipeline, model, version, *bounds)


def _zone_of(database: "Database", pipeline: str) -> str:
    """Return the time zone of the pipeline's newest run, in which times without a zone are read."""
    from penstock.ledger.reader import list_runs

    return next((run.timezone for run in list_runs(database, pipeline, limit=1) if run.timezone), "UTC")


def require_reason(reason: str, dry_run: bool, as_json: bool) -> None:
    """Refuse a move of the pointer without a reason, and JSON of anything but a dry run."""
    if not (reason.strip() or dry_run):
        raise typer.BadParameter("give the --reason, or look first with --dry-run")
    if as_json and not dry_run:
        raise typer.BadParameter("--json goes with --dry-run")


def show_changes(changes: "Sequence[LiveChange]", table: str, as_json: bool) -> None:
    """Show what readers of a table would see change."""
    if as_json:
        write_json([_change_object(change) for change in changes])
        return
    out = console()
    out.print(f"What readers of `{table}` see change:", markup=False)
    lines = make_table("intervals", "runs", "instead of", *COUNTS, right=COUNTS)
    for change in changes[:SHOWN]:
        counts = (f"{getattr(change, count):,}" for count in COUNTS)
        lines.add_row(change.label, _short(change.runs), _short(change.replaced) or "nothing", *counts)
    if len(changes) > 1:
        total = (f"{sum(getattr(change, count) for change in changes):,}" for count in COUNTS)
        lines.add_row(f"all {len(changes)}", "", "", *total)
    out.print(lines)
    if len(changes) > SHOWN:
        out.print(f"the first {SHOWN} of {len(changes)} are shown; `--json` has all", markup=False)


def _short(found: "Sequence[RunRecord]") -> str:
    named = [f"{run.run_id[:8]} ({run.models})" for run in found]
    return ", ".join(named[:2]) + (f" and {len(named) - 2} more" if len(named) > 2 else "")


def _change_object(change: "LiveChange") -> dict[str, object]:
    counts = {name: value for name, value in asdict(change).items() if name in COUNTS}
    ids = {"runs": [run.run_id for run in change.runs], "replaced": [run.run_id for run in change.replaced]}
    return {"intervals": change.label, **ids, **counts}
