"""`penstock prune`: remove rows that no reader can see and no run needs."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.arguments import AsJson, Yes
from penstock.cli.deliver.targets import value_reader
from penstock.cli.opening import ledger_connector, open_pipeline, open_settings, pipeline_files
from penstock.cli.output import console, count, error_console, make_table, write_json
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.database.connections import Database
    from penstock.delivery.unread_files import UnreadFiles
    from penstock.settings import Settings
    from penstock.upkeep.prune import Pruned
    from penstock.upkeep.prune_plan import Prune


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
    from penstock.delivery.unread_files import count_unread, remove_unread
    from penstock.ledger.served_spool import open_spool
    from penstock.upkeep.prune import count_prune, prune, prune_spooled

    settings, now = open_settings(), datetime.now(UTC)
    read_value, spool = value_reader(settings), open_spool(settings.home)
    plans = _plan(pipelines, settings, now)
    found = tuple(
        each
        for database, plan in plans
        for each in (*count_prune(database, plan), *prune_spooled(spool, plan, dry_run=True))
    )
    files = tuple(each for database, plan in plans for each in count_unread(database, plan.pipeline, read_value, now))
    if not as_json:
        _print_found(found, files)
    if (found or any(each.files for each in files)) and not dry_run:
        if not yes:
            typer.confirm(f"Remove {_describe(found, files)} permanently?", abort=True, err=True)
        found = tuple(
            each
            for database, plan in plans
            for each in (*prune(database, plan), *prune_spooled(spool, plan, dry_run=False))
        )
        files = tuple(
            each for database, plan in plans for each in remove_unread(database, plan.pipeline, read_value, now)
        )
    for each in files:
        if each.error:
            error_console().print(f"files of `{each.target}` stay: {each.error}", style="yellow", markup=False)
    if as_json:
        rows = {"removed": [] if dry_run else found, "would_go": found if dry_run else []}
        write_json({"dry_run": dry_run, **rows, "files": files})
    elif found or any(each.files for each in files):
        total = _describe(found, files)
        console().print(f"{total} would be removed; nothing was removed" if dry_run else f"{total} removed")


def _plan(pipelines: list[str] | None, settings: "Settings", now: datetime) -> "list[tuple[Database, Prune]]":
    from penstock.upkeep.prune_plan import plan_prune

    connect = ledger_connector(settings)
    names = pipelines or [str(file) for file in pipeline_files(settings)]
    specs = [open_pipeline(name, settings) for name in names]
    opened = [(connect(spec.destination.connection), spec) for spec in specs]
    return [(database, plan_prune(database, spec, now)) for database, spec in opened]


def _describe(found: "tuple[Pruned, ...]", files: "tuple[UnreadFiles, ...]") -> str:
    rows = plural(sum(each.rows for each in found), "row")
    number = sum(each.files for each in files)
    return f"{rows} and {plural(number, 'file')}" if number else rows


def _print_found(found: "tuple[Pruned, ...]", files: "tuple[UnreadFiles, ...]") -> None:
    if not found and not any(each.files for each in files):
        console().print("nothing to prune")
        return
    table = make_table("pipeline", "what", "of", "number", right=("number",))
    for each in found:
        table.add_row(each.pipeline, each.kind, each.of, count(each.rows))
    for target in files:
        if target.files:
            table.add_row(target.pipeline, "files not live", target.target, count(target.files))
    console().print(table)
