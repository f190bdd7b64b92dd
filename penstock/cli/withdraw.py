"""`penstock withdraw`: remove a published run's rows from the live view."""

from typing import Annotated

import typer

from penstock.cli.arguments import RunId
from penstock.cli.opening import locate_run, open_settings
from penstock.cli.output import console, count
from penstock.errors import WrongState


def add_commands(app: typer.Typer) -> None:
    app.command("withdraw", epilog="Example: penstock withdraw 1a2b3c4d")(withdraw_run)


def withdraw_run(
    run_id: RunId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a published run's rows from the live view. Only a restatement scores its interval again."""
    from penstock.ledger.writer import withdraw
    from penstock.run_types import interval_label

    database, run = locate_run(open_settings(), run_id)
    if run.state != "published":
        raise WrongState(run.run_id, run.state, "published")
    what = f"{count(run.rows_scored)} scores of {run.pipeline} {interval_label(run.interval)}"
    if not yes:
        typer.confirm(f"Remove {what} from `{run.destination_table}`?", abort=True)
    withdraw(database, run.run_id)
    console().print(f"withdrawn: {what} are no longer in `{run.destination_table}`", markup=False)
