"""`penstock monitor`: the group of its commands."""

import typer

from penstock.cli.monitor.drift import show_drift


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(help="Watch the scores and their inputs.", no_args_is_help=True)
    group.command("drift", epilog="Example: penstock monitor drift card-risk")(show_drift)
    app.add_typer(group, name="monitor")
