"""`penstock sandbox`: list the sandboxes of pipelines, and end one."""

from typing import Annotated

import typer

from penstock.cli.arguments import AsJson, OptionalPipeline, PipelineName, Timezone, Yes
from penstock.cli.opening import open_ledger, open_ledgers, open_settings
from penstock.cli.output import console, count, make_table, write_json
from penstock.wording import plural


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(
        help="List and end sandboxes, into which `penstock run --sandbox` scores.", no_args_is_help=True
    )
    group.command("list", epilog="Example: penstock sandbox list card-risk")(show_sandboxes)
    group.command("end", epilog="Example: penstock sandbox end card-risk lower")(end_one)
    app.add_typer(group, name="sandbox")


def show_sandboxes(pipeline: OptionalPipeline = None, timezone: Timezone = None, as_json: AsJson = False) -> None:
    """List the sandboxes that have scores or a running run."""
    from penstock.ledger.sandboxes import list_sandboxes
    from penstock.timezones import describe_moment

    settings = open_settings()
    if pipeline is None:
        found = [each for database in open_ledgers(settings) for each in list_sandboxes(database)]
    else:
        database, name = open_ledger(settings, pipeline)
        found = list_sandboxes(database, name)
    if as_json:
        write_json(found)
        return
    if not found:
        console().print("no sandboxes")
        return
    numbers = ("intervals", "rows", "running")
    table = make_table("pipeline", "sandbox", "view", *numbers, "last run", right=numbers)
    for each in found:
        shown = map(count, (each.intervals, each.rows, each.running))
        last = describe_moment(each.last_started_at, timezone or settings.timezone)
        table.add_row(each.pipeline, each.name, each.table, *shown, last)
    console().print(table)


def end_one(
    pipeline: PipelineName,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the sandbox.")],
    yes: Yes = False,
) -> None:
    """End a sandbox: withdraw its runs and remove its views. The next `penstock prune` removes its tables."""
    from penstock.upkeep.sandboxes import end_sandbox

    database, known = open_ledger(open_settings(), pipeline)
    if not yes:
        typer.confirm(f"End the sandbox {name} of {known}? Its views are removed.", abort=True)
    ended = end_sandbox(database, known or pipeline, name)
    tables = ", ".join(f"`{table}`" for table in ended.tables)
    what = f"{plural(ended.runs, 'run')} with {plural(ended.rows, 'score')} withdrawn, and no view {tables} any more"
    console().print(f"ended: {what}; `penstock prune {known}` removes the rows", markup=False, soft_wrap=True)
