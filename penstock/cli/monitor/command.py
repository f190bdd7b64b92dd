"""The list of the commands of `penstock monitor`."""

import typer

from penstock.cli.monitor.performance import show_performance


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(help="Compare what runs have scored.", no_args_is_help=True)
    group.callback()(monitor)
    measured = "Example: penstock monitor performance card-risk --by country"
    group.command("performance", epilog=measured)(show_performance)
    app.add_typer(group, name="monitor")


def monitor() -> None:
    """Compare what runs have scored."""
