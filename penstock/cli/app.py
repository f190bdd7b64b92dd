"""The list of commands."""

import sys
from typing import Annotated

import typer

from penstock.cli import (
    accept,
    backfill,
    deploy,
    doctor,
    down,
    explain,
    forget,
    labels,
    logs,
    pause,
    plan,
    prune,
    publish,
    rename,
    resume,
    runs,
    schema,
    serve,
    show,
    status,
    up,
    withdraw,
)
from penstock.cli.check import command as check
from penstock.cli.deliver import command as deliver
from penstock.cli.demo import command as demo
from penstock.cli.ending import CommandGroup, QuietEnd, print_unexpected
from penstock.cli.init import command as init
from penstock.cli.ledger import command as ledger
from penstock.cli.models import command as models
from penstock.cli.monitor import command as monitor
from penstock.cli.quarantine import command as quarantine
from penstock.cli.run import command as run
from penstock.cli.sandbox import command as sandbox
from penstock.cli.tokens import command as tokens

app = typer.Typer(
    name="penstock",
    cls=CommandGroup,
    help="Carry rows from databases and logs through data-quality gates and an XGBoost model into a warehouse table.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or spec, 3 halted by a gate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        from importlib import metadata

        try:
            typer.echo(f"penstock {metadata.version('penstock')}")
        except metadata.PackageNotFoundError:  # an image has the code without the package's metadata
            typer.echo("penstock, version unknown: it is not installed as a package here")
        raise typer.Exit


@app.callback()
def penstock(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    # Without docstring: the text of `--help` is that of `app`.
    del version


for module in (
    init,
    check,
    plan,
    run,
    backfill,
    runs,
    show,
    status,
    logs,
    explain,
    withdraw,
    accept,
    quarantine,
    rename,
    forget,
    prune,
    publish,
    ledger,
    labels,
    models,
    monitor,
    sandbox,
    tokens,
    deliver,
    schema,
    serve,
    deploy,
    pause,
    resume,
    demo,
    up,
    down,
    doctor,
):
    module.add_commands(app)


def run_command_line() -> None:
    """Run one command and end the process with its exit code."""
    end = QuietEnd()
    sys.excepthook = print_unexpected
    try:
        typer.main.get_command(app).main(prog_name="penstock")
    except SystemExit as exited:
        end.leave(exited.code if isinstance(exited.code, int) else int(exited.code is not None))
        raise
