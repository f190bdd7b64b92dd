"""The list of the commands of `penstock monitor`."""

import typer

from penstock.cli.monitor.replay import replay_limits


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(help="Compare what runs have scored.", no_args_is_help=True)
    group.callback()(monitor)
    replayed = 'Example: penstock monitor replay card-risk --expectation "mean(score) < 0.2" --quarantine-limit 0.01'
    group.command("replay", epilog=replayed)(replay_limits)
    app.add_typer(group, name="monitor")


def monitor() -> None:
    """Compare what runs have scored."""
