"""The list of the commands of `penstock monitor`."""

import typer

from penstock.cli.monitor.performance import show_performance
from penstock.cli.monitor.threshold import show_thresholds


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(help="Compare what runs have scored.", no_args_is_help=True)
    group.callback()(monitor)
    measured = "Example: penstock monitor performance card-risk --by country"
    group.command("performance", epilog=measured)(show_performance)
    replayed = "Example: penstock monitor threshold card-risk --cost fp=5,fn=100"
    group.command("threshold", epilog=replayed)(show_thresholds)
    app.add_typer(group, name="monitor")


def monitor() -> None:
    """Compare what runs have scored."""
