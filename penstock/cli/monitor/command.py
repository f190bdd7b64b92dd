"""The list of the commands of `penstock monitor`."""

import typer

from penstock.cli.monitor.compare import compare_sides


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(help="Compare what runs have scored.", no_args_is_help=True)
    compared = "Example: penstock monitor compare card-risk card-risk/3 card-risk/4 --flips flips.csv"
    group.command("compare", epilog=compared)(compare_sides)
    app.add_typer(group, name="monitor")
