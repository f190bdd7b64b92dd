"""Which commands there are."""

import sys

import typer

from penstock.cli import backfill, deploy, doctor, forget, models, plan, prune, runs, schema, show, up, withdraw
from penstock.cli.check import command as check
from penstock.cli.demo import command as demo
from penstock.cli.ending import CommandGroup, QuietEnd, print_unexpected
from penstock.cli.quarantine import command as quarantine
from penstock.cli.run import command as run

app = typer.Typer(
    name="penstock",
    cls=CommandGroup,
    help="Carry rows from databases and logs through data-quality gates and an XGBoost model into a warehouse table.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or spec, 3 halted by a gate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for module in (
    check,
    plan,
    run,
    backfill,
    runs,
    show,
    withdraw,
    quarantine,
    forget,
    prune,
    models,
    schema,
    deploy,
    demo,
    up,
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
