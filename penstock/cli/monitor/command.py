"""`penstock monitor`: the group of its commands."""

import typer

from penstock.cli.monitor.acknowledge import acknowledge_drift
from penstock.cli.monitor.compare import compare_sides
from penstock.cli.monitor.drift import show_drift
from penstock.cli.monitor.performance import show_performance
from penstock.cli.monitor.replay import replay_limits
from penstock.cli.monitor.served import check_served
from penstock.cli.monitor.threshold import show_thresholds


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(help="Watch the scores and their inputs.", no_args_is_help=True)
    group.command("drift", epilog="Example: penstock monitor drift card-risk")(show_drift)
    known = "Example: penstock monitor acknowledge card-risk amount --snooze 7d --note 'new prices'"
    group.command("acknowledge", epilog=known)(acknowledge_drift)
    compared = "Example: penstock monitor compare card-risk card-risk/3 card-risk/4 --flips flips.csv"
    group.command("compare", epilog=compared)(compare_sides)
    measured = "Example: penstock monitor performance card-risk --by country"
    group.command("performance", epilog=measured)(show_performance)
    thresholds = "Example: penstock monitor threshold card-risk --cost fp=5,fn=100"
    group.command("threshold", epilog=thresholds)(show_thresholds)
    replayed = 'Example: penstock monitor replay card-risk --expectation "mean(score) < 0.2" --quarantine-limit 0.01'
    group.command("replay", epilog=replayed)(replay_limits)
    group.command("served", epilog="Example: penstock monitor served card-risk --since 2026-01-05")(check_served)
    app.add_typer(group, name="monitor")
