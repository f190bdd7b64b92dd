"""`penstock down`: end the Prefect server that a command has left running."""

import typer

from penstock.cli.opening import open_settings
from penstock.cli.output import console


def add_commands(app: typer.Typer) -> None:
    app.command("down", epilog="Example: penstock down")(down)


def down() -> None:
    """End the Prefect server that `penstock run` has left running for the next command.

    It ends by itself after `PENSTOCK_LINGER`. The server of `penstock up` ends with Ctrl-C where that command runs.
    """
    from penstock.deployments.server.local import end_lingering

    ended = end_lingering(open_settings().home)
    console().print("The Prefect server has ended." if ended else "No Prefect server is running here.")
