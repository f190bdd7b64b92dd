"""`penstock deliver`: the group of its commands."""

import typer

from penstock.cli.deliver.list import show_deliveries
from penstock.cli.deliver.run import deliver_run


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(help="Deliver live rows to other systems.", no_args_is_help=True)
    group.command("run", epilog="Example: penstock deliver run 1a2b3c4d --target crm")(deliver_run)
    group.command("list", epilog="Example: penstock deliver list card-risk")(show_deliveries)
    app.add_typer(group, name="deliver")
