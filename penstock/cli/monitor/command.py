"""`penstock monitor`: the group of its commands."""

import typer

from penstock.cli.monitor.drift import show_drift
from penstock.cli.monitor.replay import replay_limits


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(help="Watch the scores and their inputs.", no_args_is_help=True)
    group.command("drift", epilog="Example: penstock monitor drift card-risk")(show_drift)
    replayed = 'Example: penstock monitor replay card-risk --expectation "mean(score) < 0.2" --quarantine-limit 0.01'
    group.command("replay", epilog=replayed)(replay_limits)
    app.add_typer(group, name="monitor")
