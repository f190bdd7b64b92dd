"""`penstock prune`: remove rows that no reader can see and no run needs."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.arguments import AsJson, Yes
from penstock.cli.opening import ledger_connector, open_pipeline, open_settings, pipeline_files
from penstock.cli.output import console, count, make_table, write_json
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.database.connections import Database
    from penstock.upkeep.prune import Prune, Pruned


def add_commands(app: typer.Typer) -> None:
    app.command("prune", epilog="Example: penstock prune card-risk --dry-run")(prune_pipelines)


def prune_pipelines(
    pipelines: Annotated[
        list[str] | None, typer.Argument(metavar="[PIPELINE]...", help="Names or YAML files. Default: all.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the rows, remove nothing.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove invisible rows, old quarantine and old log lines by each pipeline's `retention`."""
    from penstock.upkeep.prune import count_prune, prune

    plans = _plan(pipelines)
    found = tuple(each for database, plan in plans for each in count_prune(database, plan))
    if not as_json:
        _print_found(found)
    if found and not dry_run:
        if not yes:
            rows = plural(sum(each.rows for each in found), "row")
            typer.confirm(f"Remove {rows} permanently?", abort=True, err=True)
        found = tuple(each for database, plan in plans for each in prune(database, plan))
    if as_json:
        write_json({"dry_run": dry_run, "removed": [] if dry_run else found, "would_go": found if dry_run else []})
    elif found:
        total = plural(sum(each.rows for each in found), "row")
        console().print(f"{total} would be removed; nothing was removed" if dry_run else f"{total} removed")


def _plan(pipelines: list[str] | None) -> "list[tuple[Database, Prune]]":
    from penstock.upkeep.prune import plan_prune

    settings = open_settings()
    connect = ledger_connector(settings)
    names = pipelines or [str(file) for file in pipeline_files(settings)]
    specs = [open_pipeline(name, settings) for name in names]
    now = datetime.now(UTC)
    opened = [(connect(spec.destination.connection), spec) for spec in specs]
    return [(database, plan_prune(database, spec, now)) for database, spec in opened]


def _print_found(found: "tuple[Pruned, ...]") -> None:
    if not found:
        console().print("nothing to prune")
        return
    table = make_table("pipeline", "what", "of", "rows", right=("rows",))
    for each in found:
        table.add_row(each.pipeline, each.kind, each.of, count(each.rows))
    console().print(table)
